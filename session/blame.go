package session

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
)

// blame finds the narrowest scope that explains a 429, which does not say what
// it is about. The rules:
//
//   - One chat of a bot was refused: it is the chat. Calls without a chat count
//     as a chat for each method.
//   - Several chats of a bot were refused ([chatsInARow]), and no call of the
//     bot that began after the first refusal succeeded: it is the bot.
//   - Several bots were refused ([botsInARow]) within [rowTime], and no call of
//     any bot that began after the first refusal succeeded: it is all bots,
//     that is, the address that they call from.
//   - Several bots were refused that had not called for long ([startsInARow]),
//     and none such succeeded since: it is the starts. These do not count for
//     all bots.
//
// Calls that were under way together tell nothing of each other, neither a
// success nor a refusal of one that began before the first refusal. The wider
// scope is a guess, so it lasts as long as the shortest of the waits that led
// to it: one chat's wait of an hour does not keep all bots away.
type blame struct {
	// suspects is how many bots have refusals, so that a success looks no
	// further while there are none.
	suspects atomic.Int64

	mu     sync.Mutex // guards what follows; nothing is called under it
	bots   map[string]*refusals[ChatID]
	all    refusals[string]
	starts refusals[string]
	latest time.Time // refusal of any bot
}

// refusals are those in a row: of a bot's chats, or of bots.
type refusals[K comparable] struct {
	since, last time.Time
	until       time.Time // the shortest wait's end
	of          []K       // no more than decide
}

const (
	chatsInARow  = 2
	botsInARow   = 3
	startsInARow = 2
	rowTime      = 10 * time.Second
	// maxSuspects bounds the memory. When as many bots are refused within a
	// row's time, it is not a matter of one.
	maxSuspects = 10_000
)

// note adds a refusal, and reports whether there are enough in the row. One
// that was under way when the row began is not added.
func (r *refusals[K]) note(k K, start, now, until time.Time, enough int) bool {
	if len(r.of) == 0 || now.Sub(r.last) > rowTime {
		*r = refusals[K]{since: now, last: now, until: until, of: append(r.of[:0], k)}
		return enough <= 1
	}
	if start.Before(r.since) {
		return len(r.of) >= enough
	}
	r.last = now
	if until.Before(r.until) {
		r.until = until
	}
	if len(r.of) < enough && !slices.Contains(r.of, k) {
		r.of = append(r.of, k)
	}
	return len(r.of) >= enough
}

// end ends the row if a call that began at start could have been refused.
func (r *refusals[K]) end(start time.Time) {
	if start.After(r.since) {
		*r = refusals[K]{of: r.of[:0]}
	}
}

// verdict is what a 429 is held to be about, beside its own chat.
type verdict struct {
	scope errors.Scope
	// until is when the wider scope may be used again.
	until time.Time
	// starts says that no bot should start until startsUntil.
	starts      bool
	startsUntil time.Time
}

// clock returns the time for a call that begins. While there are no refusals
// it is zero, before all that are to come, so that the clock need not be read.
func (b *blame) clock() time.Time {
	if b.suspects.Load() == 0 {
		return time.Time{}
	}
	return time.Now()
}

// refused notes a 429 of a call from start to now, which is to wait until a
// time. began says that the bot had not called for long.
func (b *blame) refused(key string, chat ChatID, began bool, start, now, until time.Time) (v verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v.scope = errors.ScopeChat
	r := b.bots[key]
	if r == nil {
		if b.bots == nil {
			b.bots = make(map[string]*refusals[ChatID])
		}
		b.trim(now)
		r = new(refusals[ChatID])
		if len(b.bots) < maxSuspects {
			b.bots[key] = r
		}
	}
	b.latest = now
	b.suspects.Store(int64(len(b.bots)))
	if r.note(chat, start, now, until, chatsInARow) {
		v.scope, v.until = errors.ScopeTenant, r.until
	}
	switch {
	case began:
		if b.starts.note(key, start, now, until, startsInARow) {
			v.starts, v.startsUntil = true, b.starts.until
		}
	case b.all.note(key, start, now, until, botsInARow):
		v.scope, v.until = errors.ScopeAll, b.all.until
	}
	return v
}

// trim drops what is too old to count, when there is much of it or none is new.
func (b *blame) trim(now time.Time) {
	if len(b.bots) > 0 && now.Sub(b.latest) > rowTime {
		clear(b.bots)
	}
	if len(b.bots) < maxSuspects || now.Sub(b.all.since) < rowTime {
		return
	}
	for key, r := range b.bots {
		if now.Sub(r.last) > rowTime {
			delete(b.bots, key)
		}
	}
}

// succeeded notes a success of a call that began at start.
func (b *blame) succeeded(key string, began bool, start time.Time) {
	if b.suspects.Load() == 0 {
		return
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.bots[key]; r != nil && start.After(r.since) {
		delete(b.bots, key)
	}
	b.all.end(start)
	if began {
		b.starts.end(start)
	}
	if now.Sub(b.latest) > rowTime {
		clear(b.bots)
	}
	b.suspects.Store(int64(len(b.bots)))
}
