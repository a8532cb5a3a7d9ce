package tenant

import (
	"context"
	"fmt"
	"io"
	"reflect"
	"sync"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// ImportReport says what an [Import] did. Its counts add up to the records of
// the lines that were dealt with.
type ImportReport struct {
	// Imported counts the records that were stored, Same those that were there
	// already, and Failed those that were not stored.
	Imported, Same, Failed int
	// Next is the line to go on from, with [FromLine], where an import ended
	// before the export did: all lines before it were dealt with, and some
	// after it may have been. 0 where it came to the end.
	Next int
}

// importers is how many records are stored at a time; a store that commits
// several at once has something to gather.
const importers = 8

// ImportOption changes how [Import] works.
type ImportOption func(*importer)

// FromLine goes on where an import ended: records of lines before n, which is
// its [ImportReport].Next, are read and neither stored nor counted.
func FromLine(n int) ImportOption { return func(i *importer) { i.from = n } }

// Import stores the records that [Export] wrote, whose tokens keys open. Each
// is a change of its own with an entry of the log, so an import that was cut
// can be begun anew: what is there already and says the same is left alone.
//
// A record that can't be stored, since its id or bot is taken by another, is
// left out, and the import goes on. The error then is the first one's. What
// ends an import is an export that is malformed, that was cut or that has more
// after its foot ([errors.BadRequest], with the line), a store that does not
// answer ([errors.StoreUnavailable], [errors.Timeout]), and the end of ctx, which
// is seen between lines: what reads r should end with it too.
func Import(ctx context.Context, store Store, keys *seal.Ring, r io.Reader, options ...ImportOption) (ImportReport, error) {
	i := &importer{store: store, keys: keys}
	for _, o := range options {
		o(i)
	}
	lines := make(chan exportLine)
	ctx, i.end = context.WithCancelCause(ctx)
	defer i.end(nil)
	var wg sync.WaitGroup
	for range importers {
		wg.Go(func() {
			for l := range lines {
				i.put(ctx, l)
			}
		})
	}
	line, err := readExport(r, func(l exportLine) error {
		if l.n < i.from {
			return nil
		}
		select {
		case lines <- l:
			return nil
		case <-ctx.Done():
			return ended(ctx, "import tenants", "")
		}
	})
	close(lines)
	wg.Wait()
	if err != nil {
		i.left(line)
	}
	if i.unavailable != nil {
		err = i.unavailable
	} else if err == nil && i.report.Next > 0 {
		err = ended(ctx, "import tenants", "")
	}
	switch {
	case i.report.Next > 0 && errors.Is(err, errors.BadRequest):
		return i.report, err // which names the line
	case i.report.Next > 0:
		return i.report, fmt.Errorf("import tenants: ended at line %d: %w", i.report.Next, err)
	case i.first != nil:
		return i.report, fmt.Errorf("import tenants: %d were not stored; the first: %w", i.report.Failed, i.first)
	}
	return i.report, nil
}

type importer struct {
	store Store
	keys  *seal.Ring
	from  int
	end   context.CancelCauseFunc

	mu          sync.Mutex // guards what follows
	report      ImportReport
	first       error
	unavailable error // why it ended, where the store did not answer
}

// left notes a line that was not dealt with.
func (i *importer) left(line int) {
	if i.report.Next == 0 || line < i.report.Next {
		i.report.Next = line
	}
}

// put stores one record.
func (i *importer) put(ctx context.Context, l exportLine) {
	stored, err := i.try(ctx, l.exported)
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case err == nil && stored:
		i.report.Imported++
	case err == nil:
		i.report.Same++
	case ctx.Err() != nil || errors.Is(err, errors.StoreUnavailable) || errors.Is(err, errors.Timeout):
		// The next ones would not be stored either.
		i.left(l.n)
		if ctx.Err() == nil {
			i.unavailable = err
			i.end(err)
		}
	default:
		if i.report.Failed++; i.first == nil {
			i.first = fmt.Errorf("line %d: %w", l.n, err)
		}
	}
}

// try reports whether the record was stored, or was there.
func (i *importer) try(ctx context.Context, e exported) (stored bool, err error) {
	r, err := e.record(i.keys)
	if err != nil {
		return false, err
	}
	_, err = i.store.Put(ctx, r, entry(ctx, ActionImport, ""))
	if !errors.Is(err, errors.Exists) {
		return err == nil, err
	}
	there, getErr := i.store.Get(ctx, r.ID)
	if getErr != nil {
		return false, getErr
	}
	if !same(r, there) {
		return false, err
	}
	return false, nil
}

// same reports whether two records say the same, but for what a store adds.
func same(a, b Record) bool {
	if b.TokenErr != nil || !a.Token.Equal(b.Token) {
		return false
	}
	a.Token, b.Token = session.Token{}, session.Token{}
	a.Version, b.Version, a.Health, b.Health = 0, 0, "", ""
	return reflect.DeepEqual(a.Normal(), b.Normal())
}
