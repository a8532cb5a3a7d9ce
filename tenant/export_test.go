package tenant_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

func newRing(t testing.TB, id string) *seal.Ring {
	k, err := seal.GenerateKey(id)
	require.NoError(t, err)
	r, err := seal.New(k)
	require.NoError(t, err)
	return r
}

// filled returns a store of n records of all kinds.
func filled(t testing.TB, n int) *tenant.MemoryStore {
	s := tenant.NewMemoryStore()
	for i := range n {
		r := record(t, fmt.Sprintf("täňant-%d", i), int64(i+1))
		r.Status = tenant.Status(i % 3)
		r.Reason = strings.Repeat("Ω\n\"", i%4)
		if i%2 == 0 {
			r.Metadata = map[string]string{"n": fmt.Sprint(i), "<&>": "\u2028"}
			r.Limits.Bot = ratelimit.Per(i+1, 0)
			r.CreatedAt = time.Now()
		}
		_, err := s.Put(bg, r)
		require.NoError(t, err)
	}
	return s
}

func list(t testing.TB, s tenant.Store) []tenant.Record {
	all, err := s.List(bg, tenant.Filter{Limit: 1 << 20})
	require.NoError(t, err)
	return all
}

func TestWhatWasExportedIsImported(t *testing.T) {
	from, keys := filled(t, 1500), newRing(t, "backup")
	var out bytes.Buffer
	n, err := tenant.Export(bg, from, keys, &out)
	require.NoError(t, err)
	assert.Equal(t, 1500, n)
	text := out.String()
	assert.Equal(t, 1502, strings.Count(text, "\n"), "with head and foot")
	for _, r := range list(t, from) {
		_, secret, _ := strings.Cut(r.Token.Reveal(), ":")
		require.NotContains(t, text, secret)
	}

	to := tenant.NewMemoryStore()
	report, err := tenant.Import(tenant.WithActor(bg, "ann"), to, keys, strings.NewReader(text))
	require.NoError(t, err)
	assert.Equal(t, tenant.ImportReport{Imported: 1500}, report)
	before, after := list(t, from), list(t, to)
	require.Len(t, after, len(before))
	for i := range before {
		require.True(t, before[i].Token.Equal(after[i].Token))
		require.Equal(t, fmt.Sprintf("%+v", before[i]), fmt.Sprintf("%+v", after[i]))
	}
	log, err := to.Log(bg, tenant.LogFilter{Limit: 1 << 20})
	require.NoError(t, err)
	require.Len(t, log, 1500)
	assert.Equal(t, tenant.ActionImport, log[7].Action)
	assert.Equal(t, "ann", log[7].Actor)

	report, err = tenant.Import(bg, to, keys, strings.NewReader(text))
	require.NoError(t, err)
	assert.Equal(t, tenant.ImportReport{Same: 1500}, report, "again changes nothing")
}

func TestAnImportThatWasCutGoesOn(t *testing.T) {
	from, keys := filled(t, 300), newRing(t, "backup")
	var out bytes.Buffer
	_, err := tenant.Export(bg, from, keys, &out)
	require.NoError(t, err)
	to := tenant.NewMemoryStore()
	for _, part := range []int{0, 1, 5000, out.Len() / 2, out.Len() - 1} {
		_, err := tenant.Import(bg, to, keys, bytes.NewReader(out.Bytes()[:part]))
		assert.ErrorIs(t, err, errors.BadRequest, "cut at byte %d", part)
	}
	report, err := tenant.Import(bg, to, keys, &out)
	require.NoError(t, err)
	assert.Equal(t, 300, report.Imported+report.Same)
	assert.Len(t, list(t, to), 300)

	ctx, cancel := context.WithCancel(bg)
	cancel()
	_, err = tenant.Export(ctx, from, keys, &out)
	assert.ErrorIs(t, err, errors.Canceled)
	out.Reset()
	_, err = tenant.Export(bg, from, keys, &out)
	require.NoError(t, err)
	_, err = tenant.Import(ctx, tenant.NewMemoryStore(), keys, &out)
	assert.ErrorIs(t, err, errors.Canceled)
}

func TestAnImportOverwritesNothing(t *testing.T) {
	from, keys := filled(t, 10), newRing(t, "backup")
	var out bytes.Buffer
	_, err := tenant.Export(bg, from, keys, &out)
	require.NoError(t, err)
	to := tenant.NewMemoryStore()
	other := record(t, "täňant-3", 1003)
	_, err = to.Put(bg, other)
	require.NoError(t, err)
	_, err = to.Put(bg, record(t, "thief", 6))
	require.NoError(t, err)
	report, err := tenant.Import(bg, to, keys, bytes.NewReader(out.Bytes()))
	assert.Equal(t, tenant.ImportReport{Imported: 8, Failed: 2}, report)
	assert.True(t, errors.Is(err, errors.Exists) || errors.Is(err, errors.TokenTaken), "%v", err)
	r, err := to.Get(bg, "täňant-3")
	require.NoError(t, err)
	assert.Equal(t, int64(1003), r.BotID)

	report, err = tenant.Import(bg, tenant.NewMemoryStore(), newRing(t, "another"), bytes.NewReader(out.Bytes()))
	assert.ErrorIs(t, err, seal.ErrNoKey)
	assert.Equal(t, 10, report.Failed)
}

func TestWhatIsNoExportIsRefused(t *testing.T) {
	keys := newRing(t, "backup")
	var out bytes.Buffer
	_, err := tenant.Export(bg, filled(t, 2), keys, &out)
	require.NoError(t, err)
	lines := strings.SplitAfter(out.String(), "\n")
	head, a, b, foot := lines[0], lines[1], lines[2], lines[3]
	for name, text := range map[string]string{
		"nothing":                  "",
		"no head":                  a + b + foot,
		"a newer format":           `{"format":"tgfleet/tenants/2"}` + "\n" + foot,
		"a record is gone":         head + a + foot,
		"no foot":                  head + a + b,
		"half a foot":              head + a + b + foot[:len(foot)-1],
		"not JSON":                 head + "canary\n" + foot,
		"two on a line":            head + strings.TrimSpace(a) + b + foot,
		"an unknown field":         head + `{"id":"x","canary":1}` + "\n" + foot,
		"more after the foot":      head + a + b + foot + a,
		"two exports in one":       out.String() + out.String(),
		"an empty line at the end": head + a + b + foot + "\n",
		"a second foot":            head + a + b + foot + foot,
		"a record in the foot":     head + a + strings.Replace(b, `{"id"`, `{"records":2,"id"`, 1),
		"a record in the head":     strings.Replace(a, `{"id"`, `{"format":"tgfleet/tenants/1","id"`, 1) + b + `{"records":1}` + "\n",
		"a second head":            head + a + head + b + foot,
		"a field that is twice":    head + strings.Replace(a, `{"id"`, `{"id":"canary","ID"`, 1) + b + foot,
		"metadata that is twice":   head + strings.Replace(a, `"n":"0"`, `"n":"canary","n":"0"`, 1) + b + foot,
		"a brace too many":         head + strings.TrimSpace(a) + "}\n" + b + foot,
		"a list":                   head + "[]\n" + b + foot,
		"null":                     head + "null\n" + b + foot,
		"not UTF-8":                head + strings.Replace(a, "bot", "b\xfft", 1) + b + foot,
		"an endless line":          head + `{"id":"` + strings.Repeat("canary", 2<<20) + `"}` + "\n" + foot,
	} {
		t.Run(name, func(t *testing.T) {
			report, err := tenant.Import(bg, tenant.NewMemoryStore(), keys, strings.NewReader(text))
			require.ErrorIs(t, err, errors.BadRequest)
			assert.NotContains(t, err.Error(), "canary")
			assert.Contains(t, err.Error(), fmt.Sprintf("line %d: ", report.Next))
			before := max(report.Next-2, 0)
			if strings.Contains(err.Error(), "on the line before") { // which is the foot
				before--
			}
			assert.Equal(t, before, report.Imported, "what came before is stored")
		})
	}
	// A token copied to another tenant's line does not open.
	swapped := strings.Replace(a, `"id":"täňant-0"`, `"id":"täňant-9"`, 1)
	require.NotEqual(t, a, swapped)
	_, err = tenant.Import(bg, tenant.NewMemoryStore(), keys, strings.NewReader(head+swapped+b+foot))
	assert.ErrorIs(t, err, seal.ErrAltered)
}

// An id that is a token in the wrong place is refused before anything repeats
// it, and does not keep the others from being stored.
func TestAnImportShowsNoTokenThatStandsForAnID(t *testing.T) {
	keys := newRing(t, "backup")
	var out bytes.Buffer
	_, err := tenant.Export(bg, filled(t, 2), keys, &out)
	require.NoError(t, err)
	const canary = "123456789:AAcanaryAAcanaryAAcanaryAAcanaryAAc"
	text := strings.Replace(out.String(), "täňant-0", canary, 1)
	report, err := tenant.Import(bg, tenant.NewMemoryStore(), keys, strings.NewReader(text))
	assert.ErrorIs(t, err, errors.BadRequest)
	assert.NotContains(t, fmt.Sprintf("%v %+v", err, err), "canary")
	assert.ErrorContains(t, err, "line 2: ")
	assert.Equal(t, tenant.ImportReport{Imported: 1, Failed: 1}, report)
}

// leaving is a store that does not answer after a number of records.
type leaving struct {
	tenant.Store
	left atomic.Int64
	kind error
}

func (s *leaving) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (tenant.Record, error) {
	if s.left.Add(-1) < 0 {
		return tenant.Record{}, &errors.Error{Kind: errors.KindOf(s.kind), Op: "put tenant", Key: r.ID}
	}
	return s.Store.Put(ctx, r, log...)
}

func TestAnImportEndsWithAStoreThatDoesNotAnswer(t *testing.T) {
	from, keys := filled(t, 1000), newRing(t, "backup")
	var out bytes.Buffer
	_, err := tenant.Export(bg, from, keys, &out)
	require.NoError(t, err)
	for _, kind := range []errors.Kind{errors.StoreUnavailable, errors.Timeout} {
		to := &leaving{Store: tenant.NewMemoryStore(), kind: kind}
		line, stored := 0, 0
		for tries := 1; ; tries++ { // each gets a bit further
			require.Less(t, tries, 100)
			to.left.Store(100)
			report, err := tenant.Import(bg, to, keys, bytes.NewReader(out.Bytes()), tenant.FromLine(line))
			stored += report.Imported
			require.Equal(t, stored, len(list(t, to)), "all that was stored was counted")
			if err == nil {
				assert.Zero(t, report.Next)
				break
			}
			require.ErrorIs(t, err, kind)
			require.ErrorContains(t, err, fmt.Sprintf("line %d", report.Next))
			require.GreaterOrEqual(t, report.Next, line)
			require.Zero(t, report.Failed)
			require.LessOrEqual(t, report.Next-2, stored)
			line = report.Next
		}
		assert.Equal(t, 1000, stored)
	}
}

func FuzzImport(f *testing.F) {
	key, err := seal.NewKey("backup", bytes.Repeat([]byte("k"), seal.KeySize)) // the same for each input
	require.NoError(f, err)
	keys, err := seal.New(key)
	require.NoError(f, err)
	var out bytes.Buffer
	_, err = tenant.Export(bg, filled(f, 3), keys, &out)
	require.NoError(f, err)
	text := out.String()
	lines := strings.SplitAfter(text, "\n")
	for _, seed := range []string{
		text, text + text, text + "x", text[:len(text)-1], "{\"format\":\"tgfleet/tenants/1\"}\n{\"records\":0}\n",
		lines[0] + lines[1] + lines[1] + `{"records":2}` + "\n", // one record twice
		lines[0] + lines[1] + strings.Replace(lines[2], `{"id"`, `{"records":2,"id"`, 1),
		lines[0] + "{}\nnull\n" + `{"records":2}` + "\n",
		strings.Replace(text, `"id":"t`, `"id":"x","id":"t`, 1),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s := tenant.NewMemoryStore()
		report, err := tenant.Import(bg, s, keys, bytes.NewReader(text))
		if n := len(list(t, s)); n != report.Imported {
			t.Fatalf("%d stored, %+v", n, report)
		}
		// All that is in the file was imported or reported: every line between
		// head and foot, or before the one that the error names.
		records := bytes.Count(text, []byte("\n")) - 2
		if report.Next > 0 {
			records = max(report.Next-2, 0)
			// What comes after the foot: the line before was no record.
			if err != nil && strings.Contains(err.Error(), "on the line before") {
				records--
			}
		}
		if sum := report.Imported + report.Same + report.Failed; sum != records {
			t.Fatalf("%d records in the file, %+v, %v", records, report, err)
		}
		if (err == nil) != (report.Failed == 0 && report.Next == 0) {
			t.Fatalf("%+v and error %v", report, err)
		}
	})
}
