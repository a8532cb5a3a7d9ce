package seal

import (
	"bytes"
	"context"
	"fmt"

	"github.com/tgfleet/tgfleet/errors"
)

// Rows is what a store has sealed, as [Reseal] walks it. Stores implement it.
type Rows interface {
	// Sealed returns at most limit rows in ascending order of At, beginning
	// after the place after, "" being the start. No rows are the end. It may
	// leave out rows that were sealed by a key of the id except; "" is no key's.
	Sealed(ctx context.Context, after, except string, limit int) ([]Row, error)
	// Replace puts sealed in the place of row.Sealed, unless the row has been
	// changed since, and reports whether it did. Nothing else of the row
	// changes, its version included: what it says is the same.
	Replace(ctx context.Context, row Row, sealed []byte) (bool, error)
}

// Row is one sealed thing in a store.
type Row struct {
	// Purpose and Owner are what it was sealed for.
	Purpose, Owner string
	// Sealed is as stored.
	Sealed []byte
	// At is its place in the order that the store walks in. Only the store
	// knows what it means.
	At string
}

// ResealConfig configures [Reseal]. Its zero value is a good one.
type ResealConfig struct {
	// After is where to go on: the After of an earlier run's Progress. ""
	// begins at the start, which costs little, since rows that are done are
	// only read.
	After string
	// Batch is how many rows are read at a time. 0 means 200.
	Batch int
	// OnBatch, where it is not nil, hears how far it is after each batch.
	OnBatch func(Progress)
}

// Progress says how far a [Reseal] came.
type Progress struct {
	// Resealed counts the rows that the newest key has sealed now, Changed
	// those that somebody changed meanwhile and so has sealed himself, and
	// Failed those that did not open and were left as they are.
	Resealed, Changed, Failed int
	// After is the place of the last row that these count.
	After string
}

// Reseal seals with the ring's newest key whatever another one sealed, in a
// store that is in use. It works in batches and can be stopped at any time by
// ctx, and run again from the start or from Progress.After; several at once do
// no harm.
//
// A row that does not open is left as it is, and the walk goes on. The error
// then is the first one's, after the whole walk; other errors end the walk. The
// old keys are needed no more once a walk from the start returns no error and a
// Progress in which nothing was Resealed or Changed.
func Reseal(ctx context.Context, ring *Ring, rows Rows, cfg ResealConfig) (Progress, error) {
	p := Progress{After: cfg.After}
	if cfg.Batch <= 0 {
		cfg.Batch = 200
	}
	var first error
	at := cfg.After
	for {
		// All rows, also those that seem to be done: another key of the newest's
		// id, as a mistake or a restored backup brings, has sealed rows that
		// would never open again once the walk had called them done.
		batch, err := rows.Sealed(ctx, at, "", cfg.Batch)
		if err != nil {
			return p, err
		}
		if len(batch) == 0 {
			break
		}
		for _, row := range batch {
			if ctx.Err() != nil {
				return p, &errors.Error{
					Kind: errors.KindOf(ctx.Err()), Op: "reseal", Delivery: errors.NotDelivered, Err: context.Cause(ctx),
				}
			}
			at = row.At
			if bytes.HasPrefix(row.Sealed, ring.newest.header) { // with its fingerprint
				continue
			}
			failed, err := ring.reseal(ctx, rows, row, &p)
			if err != nil {
				return p, err
			}
			if failed != nil {
				if p.Failed++; first == nil {
					first = failed
				}
			}
			p.After = row.At
		}
		if cfg.OnBatch != nil {
			cfg.OnBatch(p)
		}
	}
	if first != nil {
		return p, fmt.Errorf("%d sealed rows did not open; the first: %w", p.Failed, first)
	}
	return p, nil
}

// reseal does one row. failed says why it did not open.
func (r *Ring) reseal(ctx context.Context, rows Rows, row Row, p *Progress) (failed, err error) {
	text, failed := r.Open(row.Purpose, row.Owner, row.Sealed)
	if failed != nil {
		return failed, nil
	}
	sealed, err := r.Seal(row.Purpose, row.Owner, text)
	clear(text)
	if err != nil {
		return nil, err
	}
	done, err := rows.Replace(ctx, row, sealed)
	switch {
	case err != nil:
		return nil, err
	case done:
		p.Resealed++
	default:
		p.Changed++
	}
	return nil, nil
}
