package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
)

// replying answers every call with a result.
func replying(result string) func(*testing.T, *http.Request) (*http.Response, error) {
	return func(_ *testing.T, r *http.Request) (*http.Response, error) {
		_, _ = io.Copy(io.Discard, r.Body)
		text := `{"ok":true,"result":` + result + `}`
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text))}, nil
	}
}

// manyUpdates is a list of n updates, with what makes a scan of it hard.
func manyUpdates(n int) string {
	var b strings.Builder
	b.WriteString(" [\n")
	for i := range n {
		if i > 0 {
			b.WriteString(" ,\t")
		}
		fmt.Fprintf(&b, `{"update_id": %d, "message": {"text": "],[ \\\" {%d,\\\\", "x": [[], {"a":[1,[2]]}]}}`, i+1, i)
	}
	b.WriteString("\r\n] ")
	return b.String()
}

// A reply of 2 MiB made 465 MiB of updates.
func TestAReplyOf2MiBDoesNotDecodeTo465MiB(t *testing.T) {
	list := "[" + strings.Repeat("{},", 2<<20/3) + "{}]"
	var got []gotgbot.Update
	fetch := func(opts *gotgbot.GetUpdatesOpts) (err error) {
		s, err := New(Config{Transport: transportFunc(func(r *http.Request) (*http.Response, error) { return replying(list)(t, r) })})
		require.NoError(t, err)
		defer func() { assert.NoError(t, s.Close(t.Context())) }()
		bot := s.Bot("k", mustParse(t), gotgbot.User{})
		got, err = bot.GetUpdates(opts)
		return err
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	require.NoError(t, fetch(nil))
	runtime.ReadMemStats(&after)
	assert.Len(t, got, 100)
	assert.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(16<<20))

	require.NoError(t, fetch(&gotgbot.GetUpdatesOpts{Limit: 7}))
	assert.Len(t, got, 7)
}

func mustParse(t testing.TB) Token {
	token, err := ParseToken("123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr")
	require.NoError(t, err)
	return token
}

func TestGetUpdatesKeepsAsManyUpdatesAsItAskedFor(t *testing.T) {
	for name, row := range map[string]struct {
		limit any
		want  int
	}{
		"no limit": {nil, 100}, "1": {1, 1}, "2": {int64(2), 2}, "a string": {"30", 30}, "raw": {json.RawMessage("99"), 99}, "100": {100, 100},
		"0 is 1": {0, 1}, "negative is 1": {-5, 1}, "more is 100": {1000, 100}, "garbage is 100": {"all", 100},
	} {
		t.Run(name, func(t *testing.T) {
			for _, n := range []int{0, 1, row.want - 1, row.want, row.want + 1, 150} {
				var all, got []json.RawMessage
				require.NoError(t, json.Unmarshal([]byte(manyUpdates(n)), &all))
				result, err := request(t, replying(manyUpdates(n)), "GETUPDATES", map[string]any{"limit": row.limit})
				require.NoError(t, err)
				require.NoError(t, json.Unmarshal(result, &got), "%s", result)
				assert.Equal(t, fmt.Sprintf("%s", all[:min(n, row.want)]), fmt.Sprintf("%s", got))
			}
		})
	}
}

func TestTheRoundaboutFormOfAReplyIsBoundedToo(t *testing.T) {
	s, err := New(Config{Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
		text := `{"result":` + manyUpdates(200) + `,"ok" : true}`
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(text))}, nil
	})})
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close(t.Context())) }()
	updates, err := s.Bot("k", mustParse(t), gotgbot.User{}).GetUpdates(&gotgbot.GetUpdatesOpts{Limit: 3})
	require.NoError(t, err)
	require.Len(t, updates, 3)
	assert.Equal(t, int64(3), updates[2].UpdateId)
}

func TestAResultLargerThanAnyOfTelegramsIsABadReply(t *testing.T) {
	list := func(n int, element string) string { return "[" + strings.Repeat(element+",", n-1) + element + "]" }
	for name, row := range map[string]struct {
		method, result string
		good           bool
	}{
		"as many objects as may be":          {"getMe", `{"a":` + list(maxValues-2, "{ }") + `}`, true},
		"more objects":                       {"getMe", `{"a":` + list(maxValues, "{}") + `}`, false},
		"more arrays":                        {"getMe", `{"a":` + list(maxValues, "[]") + `}`, false},
		"more objects in objects":            {"getMe", `{"a":` + list(maxValues/2, `{"b":{"c":0}}`) + `}`, false},
		"as many elements as may be":         {"getMe", `{"a":` + list(maxValues, "0") + `}`, true},
		"more elements":                      {"getMe", `{"a":` + list(maxValues+1, "0") + `}`, false},
		"more null elements":                 {"getMe", `{"a":[` + list(maxValues+1, "null") + `]}`, false},
		"many members":                       {"getMe", `{"a":0` + strings.Repeat(`,"b":0`, 3*maxValues) + `}`, true},
		"many in one update":                 {"getUpdates", `[{"update_id":1,"message":{"entities":` + list(maxValues, "{}") + `}}]`, false},
		"many after the updates asked for":   {"getUpdates", "[" + strings.Repeat(`{"update_id":1},`, 100) + list(maxValues, "{}") + "]", true},
		"a long text of brackets and commas": {"getMe", `"` + strings.Repeat(`[{,\"`, 3*maxValues) + `"`, true},
		"a list as long as may be":           {"sendMediaGroup", list(maxList, "{}"), true},
		"a longer list":                      {"sendMediaGroup", list(maxList+1, "{}"), false},
		"a longer list of numbers":           {"sendMediaGroup", list(maxList+1, "0"), false},
		"an object of a longer list":         {"getStickerSet", `{"stickers":` + list(maxList+1, "{}") + "}", true},
	} {
		t.Run(name, func(t *testing.T) {
			result, err := request(t, replying(row.result), row.method, nil)
			if row.good {
				require.NoError(t, err)
				assert.True(t, json.Valid(result))
				return
			}
			e, ok := errors.AsType[*errors.Error](err)
			require.True(t, ok, "%v", err)
			assert.ErrorIs(t, err, errBadReply)
			assert.Equal(t, errors.MaybeDelivered, e.Delivery)
			assert.NotContains(t, err.Error(), "update_id")
			assert.Less(t, len(err.Error()), 200)
		})
	}
}

func TestScanResultAllocatesNothing(t *testing.T) {
	text := []byte(manyUpdates(100))
	assert.Zero(t, testing.AllocsPerRun(10, func() { scanResult(text, 50) }))
}

// count counts the objects and arrays of a text, and the elements of arrays, by
// decoding it.
func count(text []byte) (containers, elements int) {
	var list []json.RawMessage
	if json.Unmarshal(text, &list) == nil && list != nil {
		containers, elements = 1, len(list)
		for _, v := range list {
			c, e := count(v)
			containers, elements = containers+c, elements+e
		}
		return containers, elements
	}
	// Not into a map: a name may come twice.
	d := json.NewDecoder(bytes.NewReader(text))
	if start, _ := d.Token(); start != json.Delim('{') {
		return 0, 0
	}
	containers = 1
	for d.More() {
		_, _ = d.Token()
		var v json.RawMessage
		if d.Decode(&v) != nil {
			break
		}
		c, e := count(v)
		containers, elements = containers+c, elements+e
	}
	return containers, elements
}

// FuzzBoundResult holds the cut to encoding/json.
func FuzzBoundResult(f *testing.F) {
	for _, s := range []string{manyUpdates(3), "[]", "[1,2,3]", `["\\\\\",",[1,[2,{"a":",]"}],[]],null]`, `{"a":[1,2],"b":[3]}`, `"\""`, " [ 1 , 2 ] ", "[[[[[[]]]]],1]", "[", `["`} {
		f.Add(s, 1)
		f.Add(s, 2)
	}
	f.Fuzz(func(t *testing.T, text string, limit int) {
		if !json.Valid([]byte(text)) {
			scanResult([]byte(text), min(max(limit, 1), maxUpdates)) // does not panic
			return
		}
		call := &Call{Method: "getUpdates", Params: map[string]any{"limit": limit}}
		got, err := boundResult(call, 200, nil, []byte(text))
		if err != nil {
			if len(text) < 2*maxValues {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if !json.Valid(got) {
			t.Fatalf("%q became %q", text, got)
		}
		var all, kept []json.RawMessage
		if json.Unmarshal([]byte(text), &all) != nil || all == nil {
			if string(got) != text {
				t.Fatalf("%q is no list and became %q", text, got)
			}
			return
		}
		if err := json.Unmarshal(got, &kept); err != nil {
			t.Fatalf("%q became %q: %v", text, got, err)
		}
		want := min(len(all), min(max(limit, 1), maxUpdates))
		if len(kept) != want {
			t.Fatalf("%d of %d elements of %q are left, not %d", len(kept), len(all), text, want)
		}
		values, elements := count([]byte(text))
		if s := scanResult([]byte(text), len(text)); s.containers != values || s.elements != elements || s.cut != 0 {
			t.Fatalf("%q has %d objects and arrays and %d elements, not %+v", text, values, elements, s)
		}
		for i := range kept {
			if !bytes.Equal(kept[i], all[i]) {
				t.Fatalf("element %d of %q became %q", i, text, kept[i])
			}
		}
	})
}

// BenchmarkBoundResult is what the scan of a reply with 100 ordinary updates takes
// beside the check that it is JSON and gotgbot's decoding.
func BenchmarkBoundResult(b *testing.B) {
	update := `{"update_id":900000001,"message":{"message_id":1234,"from":{"id":5123456789,"is_bot":false,"first_name":"Ann","last_name":"Example","username":"ann_example","language_code":"en"},"chat":{"id":-1001234567890,"title":"A group with a name","username":"a_group","type":"supergroup"},"date":1760000000,"text":"Hello, is the blue one still there? I would take two of them, if you can send them by Friday.","entities":[{"offset":0,"length":5,"type":"bold"},{"offset":7,"length":9,"type":"italic"}],"reply_to_message":{"message_id":1230,"chat":{"id":-1001234567890,"type":"supergroup"},"date":1759999000,"text":"New today"}}}`
	text := []byte("[" + strings.Repeat(update+",", 99) + update + "]")
	call := &Call{Method: "getUpdates"}
	b.Run("scan", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for b.Loop() {
			if _, err := boundResult(call, 200, nil, text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("validate", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if !json.Valid(text) {
				b.Fatal("not JSON")
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			var updates []gotgbot.Update
			if err := json.Unmarshal(text, &updates); err != nil {
				b.Fatal(err)
			}
		}
	})
}
