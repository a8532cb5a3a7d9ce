package tenant

import (
	"slices"
	"sync"
)

// watchers hear which tenants may have changed.
type watchers struct {
	mu  sync.Mutex // guards all, which is replaced and not changed
	all []*func(id string)
}

// Watch has changed called whenever what is stored of a tenant may have become
// other, such as when it was resumed, and with "" when that may be so of any. It is
// also called when Telegram accepts a token again that it rejected.
// Changes by other processes are heard of while a [Manager] follows them. It is
// called after the pool gives out what is stored now, from several goroutines
// at the same time, and must return at once. A call may be under way when stop
// returns. stop may be called more than once.
func (p *Pool) Watch(changed func(id string)) (stop func()) {
	w := &p.watchers
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(slices.Clip(w.all), &changed)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.all = slices.DeleteFunc(slices.Clone(w.all), func(f *func(string)) bool { return f == &changed })
	}
}

func (w *watchers) tell(id string) {
	w.mu.Lock()
	all := w.all
	w.mu.Unlock()
	for _, changed := range all {
		(*changed)(id)
	}
}
