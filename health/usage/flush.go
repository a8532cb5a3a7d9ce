package usage

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/health"
	"github.com/tgfleet/tgfleet/health/internal/loop"
)

const (
	// storeTimeout bounds one call of the store, and lastFlush the last flush,
	// however often it is tried.
	storeTimeout = 30 * time.Second
	lastFlush    = time.Minute
)

func (r *Recorder) run(ctx context.Context, stop <-chan struct{}) error {
	for {
		select {
		case <-time.After(loop.Jitter(r.cfg.FlushEvery)):
			_ = r.retryAll(ctx, stop) // was logged
		case <-stop:
			ctx, cancel := context.WithTimeout(ctx, lastFlush)
			defer cancel()
			return r.retryAll(ctx, nil)
		case <-ctx.Done():
			return loop.Ended("flush usage", ctx)
		}
	}
}

// retryAll adds all that was counted, batch by batch, each of which is tried
// until it succeeds, stop is closed or ctx ends.
func (r *Recorder) retryAll(ctx context.Context, stop <-chan struct{}) error {
	return r.flushAll(ctx, func() (done bool, err error) {
		loop.Retry(ctx, stop, r.log, "flush usage", func() error {
			done, err = r.flushBatch(ctx)
			return err
		})
		return done, err
	})
}

// flushAll flushes what waits since an earlier time, and then the rest.
func (r *Recorder) flushAll(ctx context.Context, batch func() (bool, error)) error {
	for range 2 {
		r.gather(ctx)
		for {
			done, err := batch()
			if err != nil {
				return err
			}
			if done {
				break
			}
		}
	}
	return nil
}

// flushBatch adds the batch that was not added before, or else the next one. It
// reports whether there is none.
func (r *Recorder) flushBatch(ctx context.Context) (done bool, err error) {
	select {
	case <-r.turn:
	case <-ctx.Done():
		return false, loop.Ended("flush usage", ctx)
	}
	defer func() { r.turn <- struct{}{} }()
	for r.flying == nil {
		if len(r.waiting) == 0 {
			return true, nil
		}
		if next := r.waiting[0]; len(next) > 0 {
			r.flying = next
		}
		r.waiting = r.waiting[1:]
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	err = r.cfg.Store.Add(ctx, health.Flush{Writer: r.writer, Seq: r.seq}, r.flying)
	switch {
	case err == nil:
		r.count.Add(-int64(len(r.flying)))
	case !errors.Is(err, errors.BadRequest):
		return false, err
	case len(r.flying) == 1:
		// To try it again would keep all others from being saved, for ever.
		bad := &r.flying[0]
		r.refused.Log(r.log, "usage dropped: the store refuses it", slog.String("tenant", bad.Tenant), slog.Time("start", bad.Start),
			slog.Any("err", errors.Classify(err)))
		r.lost.Add(bad.Requests + bad.Refused + bad.Received)
		r.count.Add(-1)
	default:
		// A refused flush was not applied. One roll-up of it is to blame, and
		// halving finds it.
		half := len(r.flying) / 2
		r.waiting = slices.Insert(r.waiting, 0, r.flying[:half:half], r.flying[half:])
	}
	r.flying = nil
	r.seq++
	return false, nil
}

// gather takes what has been counted, in batches. While earlier ones wait for a
// store that fails it leaves all where it is, so that it goes on to be counted
// into the same roll-ups.
func (r *Recorder) gather(ctx context.Context) {
	select {
	case <-r.turn:
	case <-ctx.Done():
		return
	}
	defer func() { r.turn <- struct{}{} }()
	if r.flying != nil || len(r.waiting) > 0 {
		return
	}
	var batch []Rollup
	for i := range r.shards {
		for _, h := range r.shards[i].take() {
			if len(batch) == r.cfg.Batch {
				r.waiting, batch = append(r.waiting, batch), nil
			}
			h.Start = time.Unix(h.at*3600, 0).UTC()
			h.LastActive = time.Unix(0, h.last).UTC()
			batch = append(batch, h.Rollup)
		}
	}
	if len(batch) > 0 {
		r.waiting = append(r.waiting, batch)
	}
}

// take empties the shard.
func (sh *shard) take() []*hour {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if len(sh.current)+len(sh.past) == 0 {
		return nil
	}
	list := make([]*hour, 0, len(sh.current)+len(sh.past))
	for _, h := range sh.past {
		list = append(list, h)
	}
	for _, h := range sh.current {
		list = append(list, h)
	}
	clear(sh.current)
	clear(sh.past)
	return list
}
