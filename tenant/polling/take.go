package polling

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// take puts what Telegram sent into the inbox, and moves the offset past what
// is safely there. What the inbox refuses is not kept here: it waits at
// Telegram, where it costs nothing, and comes again.
func (l *loop) take(ctx context.Context, updates []json.RawMessage, sent int64) verdict {
	now := time.Now()
	batch := make([]inbox.Update, 0, len(updates))
	passed := int64(0) // the id of what is passed over after all of the batch
	for _, raw := range updates {
		u, err := inbox.Parse(l.entry.id, raw, now)
		if err != nil {
			passed = max(idOf(raw), passed)
			l.unusable(ctx, idOf(raw), err)
			continue
		}
		batch, passed = append(batch, u), 0
	}
	if len(batch) == 0 && passed == 0 {
		// Without an id there is nothing to confirm, so it would come again at
		// once.
		return l.failed(fail("getUpdates", l.entry.id, errors.BadReply, errors.New("no update in the list has an id")))
	}
	var outcomes []inbox.Outcome
	if len(batch) > 0 {
		var err error
		outcomes, err = l.put(ctx, batch)
		if err == nil && len(outcomes) != len(batch) {
			err = fail("put updates", l.entry.id, errors.Internal, errors.New("the inbox returned too few or too many outcomes"))
		}
		if err != nil {
			return l.failed(err)
		}
	}
	next, stored, duplicates := int64(0), 0, 0
	var full, broken error
	for i, o := range outcomes {
		id := batch[i].ID
		if errors.Is(o.Err, inbox.ErrFull) {
			full, next = o.Err, id
			l.refused(len(batch) - i)
			break
		}
		if o.Err != nil && errors.KindOf(o.Err) != errors.BadRequest {
			// An inbox is to say this of the whole batch. To pass it over would lose
			// what may be put later.
			broken, next = o.Err, id
			break
		}
		next = id + 1
		switch {
		case o.Err != nil:
			l.unusable(ctx, id, o.Err)
		case o.Duplicate:
			duplicates++
		default:
			stored++
		}
	}
	if full == nil && broken == nil && passed != 0 {
		next = passed + 1
	}
	l.offset.set(next, now)
	l.received(now, stored, duplicates)
	switch {
	case broken != nil:
		return l.failed(fmt.Errorf("put updates: %w", broken))
	case full != nil:
		return because(Delayed, full, soonAfter(cmp.Or(errors.RetryAfter(full), fullPause)))
	case sent != 0 && next <= sent:
		// These are in the inbox now, but Telegram was told so already. Either
		// ids have started anew, or the server repeats itself.
		return l.failed(fail("getUpdates", l.entry.id, errors.BadReply, errors.New("updates come that were confirmed")))
	}
	return l.well()
}

// idOf returns the id of what is no update but has one, and 0 where it has none.
func idOf(raw []byte) int64 {
	var u struct {
		ID int64 `json:"update_id"`
	}
	if json.Unmarshal(raw, &u) != nil {
		return 0
	}
	return max(u.ID, 0)
}

// put calls the inbox. It is not broken off by the loop's end: what was taken
// is finished, unless it takes too long.
func (l *loop) put(ctx context.Context, batch []inbox.Update) (outcomes []inbox.Outcome, err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.cfg.PutTimeout)
	defer cancel()
	defer context.AfterFunc(l.hard, cancel)()
	defer func() {
		if p := recover(); p != nil {
			err = panicked("Inbox", p)
		}
	}()
	outcomes, err = l.inbox.Put(ctx, batch)
	if err != nil {
		err = fmt.Errorf("put updates: %w", err)
	}
	return outcomes, err
}

func (l *loop) received(now time.Time, stored, duplicates int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := uint64(stored + duplicates)
	l.stats.Received += n
	l.stats.Duplicates += uint64(duplicates)
	l.entry.status.Received += n
	l.entry.status.LastUpdate = now
}

func (l *loop) refused(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Refused += uint64(n)
}

// unusable notes what is passed over: to keep it would hold up all that comes
// after it, for ever.
func (l *loop) unusable(ctx context.Context, id int64, err error) {
	l.mu.Lock()
	l.stats.Unusable++
	l.mu.Unlock()
	l.log.ErrorContext(ctx, "update can't be put into the inbox and is passed over", slog.String("tenant", l.entry.id),
		slog.Int64("id", id), slog.String("error", brief(err)))
}
