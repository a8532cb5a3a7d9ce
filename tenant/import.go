package tenant

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"sync"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// ImportReport says what an [Import] did.
type ImportReport struct {
	// Imported counts the records that were stored, Same those that were there
	// already, and Failed those that were not stored.
	Imported, Same, Failed int
}

// importers is how many records are stored at a time; a store that commits
// several at once has something to gather.
const importers = 8

// maxLine bounds a line: metadata of 1 MiB whose every byte is escaped.
const maxLine = 8 << 20

// Import stores the records that [Export] wrote, whose tokens keys open. Each
// is a change of its own with an entry of the log, so an import that was cut
// can be begun anew: what is there already and says the same is left alone.
//
// A record that can't be stored, since its id or bot is taken by another, is
// left out, and the import goes on. The error then is the first one's. An
// export that is malformed or that was cut is [errors.BadRequest], after what
// came before was stored.
func Import(ctx context.Context, store Store, keys *seal.Ring, r io.Reader) (ImportReport, error) {
	i := &importer{store: store, keys: keys}
	lines := make(chan exported)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for range importers {
		wg.Go(func() {
			for e := range lines {
				i.put(ctx, e)
			}
		})
	}
	err := readExport(r, func(e exported) error {
		select {
		case lines <- e:
			return nil
		case <-ctx.Done():
			return ended(ctx, "import tenants", "")
		}
	})
	close(lines)
	wg.Wait()
	switch {
	case err != nil:
		return i.report, err
	case i.first != nil:
		return i.report, fmt.Errorf("import tenants: %d were not stored; the first: %w", i.report.Failed, i.first)
	}
	return i.report, nil
}

// readExport calls f for each record, and reports an export that is not whole.
func readExport(r io.Reader, f func(exported) error) error {
	bad := func(n int, text string) error {
		return fail("import tenants", "", errors.BadRequest, fmt.Errorf("line %d: %s", n, text))
	}
	in := bufio.NewReaderSize(r, 64<<10)
	records := 0
	for n := 1; ; n++ {
		line, err := readLine(in)
		switch {
		case err == io.EOF:
			return bad(n, "the export was cut")
		case err == bufio.ErrTooLong:
			return bad(n, "longer than 8 MiB")
		case err != nil:
			return fail("import tenants", "", errors.KindOf(err), err)
		}
		var e exported
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.DisallowUnknownFields() // what is not understood would be lost
		if decoder.Decode(&e) != nil || decoder.More() {
			return bad(n, "not a line of an export") // and none of its text in the error
		}
		switch {
		case n == 1:
			if e.Format != exportFormat {
				return bad(n, "not an export, or of a newer version")
			}
		case e.Records != nil:
			if *e.Records != records {
				return bad(n, fmt.Sprintf("the export has %d records and lacks others", records))
			}
			return nil
		default:
			records++
			if err := f(e); err != nil {
				return err
			}
		}
	}
}

// readLine returns a whole line; one without its end is none.
func readLine(in *bufio.Reader) (line []byte, err error) {
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, bufio.ErrTooLong
		}
		line = append(line, part...)
		if err != bufio.ErrBufferFull {
			return line, err
		}
	}
}

type importer struct {
	store Store
	keys  *seal.Ring

	mu     sync.Mutex // guards what follows
	report ImportReport
	first  error
}

// put stores one record.
func (i *importer) put(ctx context.Context, e exported) {
	stored, err := i.try(ctx, e)
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case err != nil:
		if i.report.Failed++; i.first == nil {
			i.first = err
		}
	case stored:
		i.report.Imported++
	default:
		i.report.Same++
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
