package pool

// Peek returns the value of a key that is open, without using it. opening says
// that an open is under way. Instances that end are not found; the value of one
// that is still in use is returned all the same.
func (p *Pool[V]) Peek(key string) (value V, isOpening, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, ok := p.entries[key]
	switch {
	case ok && e.state == open:
		return e.value, false, true
	case ok && e.state == opening && !e.invalid:
		return value, true, true
	case ok && e.state == draining:
		return e.value, false, false
	default:
		return value, false, false
	}
}

// Keys returns the keys that are open or opening, and those that end and are
// still in use.
func (p *Pool[V]) Keys() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	keys := make([]string, 0, len(p.entries))
	for key, e := range p.entries {
		if e.state == open || e.state == opening || e.state == draining {
			keys = append(keys, key)
		}
	}
	return keys
}
