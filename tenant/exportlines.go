package tenant

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/tgfleet/tgfleet/errors"
)

// maxLine bounds a line: metadata of 1 MiB whose every byte is escaped.
const maxLine = 8 << 20

// exportLine is a record's line.
type exportLine struct {
	n int // of the export, from 1; the head's is 1
	exported
}

// readExport calls f for each record, and reports an export that is not whole
// or has more than it should. line is where it ended with an error.
func readExport(r io.Reader, f func(exportLine) error) (line int, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	records := 0
	for n := 1; ; n++ {
		bad := func(text string) (int, error) {
			return n, fail("import tenants", "", errors.BadRequest, fmt.Errorf("line %d: %s", n, text))
		}
		text, err := readLine(in)
		switch {
		case err == io.EOF:
			return bad("the export was cut")
		case err == bufio.ErrTooLong:
			return bad("longer than 8 MiB")
		case err != nil:
			return n, fail("import tenants", "", errors.KindOf(err), err)
		}
		e, ok := parseLine(text)
		switch {
		case n == 1 && (!ok || e.Format != exportFormat):
			return bad("not an export, or of a newer version")
		case !ok:
			return bad("not a line of an export") // and none of its text in the error
		case n == 1:
			if !reflect.DeepEqual(e, exported{Format: exportFormat}) {
				return bad("the head has what belongs into a record")
			}
		case e.Records != nil:
			if !reflect.DeepEqual(e, exported{Records: e.Records}) {
				return bad("the foot has what belongs into a record")
			}
			if *e.Records != records {
				return bad(fmt.Sprintf("there are %d records, and not as many as the foot says", records))
			}
			switch _, err := in.ReadByte(); {
			case err == nil:
				n++
				return bad("the export ended on the line before, and there is more")
			case err != io.EOF:
				return n, fail("import tenants", "", errors.KindOf(err), err)
			}
			return n, nil
		case e.Format != "":
			return bad("a head where a record should be")
		default:
			records++
			if err := f(exportLine{n, e}); err != nil {
				return n, err
			}
		}
	}
}

// parseLine reads a line, and reports whether it is one that can be taken
// without losing any of it.
func parseLine(text []byte) (e exported, ok bool) {
	if !utf8.Valid(text) { // the decoder would replace what is not
		return e, false
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if d.Decode(&e) != nil {
		return e, false
	}
	if _, err := d.Token(); err != io.EOF { // More does not see a brace
		return e, false
	}
	d = json.NewDecoder(bytes.NewReader(text))
	if t, _ := d.Token(); t != json.Delim('{') {
		return e, false
	}
	return e, unique(d, true)
}

// unique reports whether no name is twice in an object, of which the decoder
// would keep the last one only. It has been decoded, so it is no deeper than
// what it was decoded into. fold says that names are those of fields, which the
// decoder knows in upper case too.
func unique(d *json.Decoder, fold bool) bool {
	seen := make(map[string]struct{})
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return false
		}
		if fold {
			name = strings.ToLower(strings.ToUpper(name)) // as the decoder folds
		}
		if _, twice := seen[name]; twice {
			return false
		}
		seen[name] = struct{}{}
		t, err = d.Token()
		if err != nil || t == json.Delim('[') { // a record has none
			return false
		}
		if t == json.Delim('{') && !unique(d, fold && name != "metadata") {
			return false
		}
	}
	_, err := d.Token()
	return err == nil
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
