package session

import (
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
//
// A success that began before a refusal says nothing about the time after it.
type blame struct {
	// suspects is how many bots have refusals, so that a success looks no
	// further while there are none.
	suspects atomic.Int64

	mu    sync.Mutex // guards what follows; nothing is called under it
	bots  map[string]*refusals
	row   map[string]struct{} // bots refused in a row
	since time.Time           // of the first of the row
}

// refusals are a bot's, in a row.
type refusals struct {
	since, last time.Time
	chats       []ChatID // no more than decide
}

const (
	chatsInARow = 2
	botsInARow  = 3
	rowTime     = 10 * time.Second
	// maxSuspects bounds the memory; above it the old ones are dropped.
	maxSuspects = 10_000
)

// clock returns the time for a call that begins. While there are no refusals
// it is zero, before all that are to come, so that the clock need not be read.
func (b *blame) clock() time.Time {
	if b.suspects.Load() == 0 {
		return time.Time{}
	}
	return time.Now()
}

// refused notes a 429 and returns its scope.
func (b *blame) refused(key string, chat ChatID, now time.Time) errors.Scope {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := b.bots[key]
	if r == nil || now.Sub(r.last) > rowTime {
		if b.bots == nil {
			b.bots, b.row = make(map[string]*refusals), make(map[string]struct{})
		}
		r = &refusals{since: now}
		b.trim(now)
		b.bots[key] = r
	}
	r.last = now
	if len(r.chats) < chatsInARow && !contains(r.chats, chat) {
		r.chats = append(r.chats, chat)
	}
	if len(b.row) == 0 || now.Sub(b.since) > rowTime {
		clear(b.row)
		b.since = now
	}
	if len(b.row) < botsInARow {
		b.row[key] = struct{}{}
	}
	b.suspects.Store(int64(len(b.bots)))
	switch {
	case len(b.row) >= botsInARow:
		return errors.ScopeAll
	case len(r.chats) >= chatsInARow:
		return errors.ScopeTenant
	}
	return errors.ScopeChat
}

// trim drops what is too old to count, when there is much of it.
func (b *blame) trim(now time.Time) {
	if len(b.bots) < maxSuspects {
		return
	}
	for key, r := range b.bots {
		if now.Sub(r.last) > rowTime {
			delete(b.bots, key)
		}
	}
}

// succeeded notes a success of a call that began at start.
func (b *blame) succeeded(key string, start time.Time) {
	if b.suspects.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.bots[key]; r != nil && start.After(r.since) {
		delete(b.bots, key)
	}
	if start.After(b.since) {
		clear(b.row)
	}
	b.suspects.Store(int64(len(b.bots)))
}

func contains(chats []ChatID, chat ChatID) bool {
	for _, c := range chats {
		if c == chat {
			return true
		}
	}
	return false
}
