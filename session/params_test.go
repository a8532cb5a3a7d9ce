package session

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
)

type (
	namedInt    int64
	namedUint   uint8
	namedFloat  float64
	namedBool   bool
	namedString string
	namedNumber json.Number
	namedList   []int64
	loop        *loop
)

func endless() loop {
	var l loop
	l = &l
	return l
}

// numbers are the types in which a caller may pass the number n, which is from
// 0 to 127.
func numbers(n int64) []any {
	text := fmt.Sprint(n)
	any64 := any(n)
	return []any{
		n, int(n), int8(n), int32(n), uint(n), uint8(n), uint64(n), float64(n), float32(n),
		text, json.Number(text), json.RawMessage(text), json.RawMessage(" " + text + "\n"), json.RawMessage(`"` + text + `"`),
		namedInt(n), namedUint(n), namedFloat(n), namedString(text), namedNumber(text),
		&n, new(float64(n)), &text, new(json.Number(text)), new(json.RawMessage(text)), new(namedInt(n)), new(&n), &any64,
	}
}

// garbage is not a number, a boolean, a list or a chat.
func garbage() []any {
	return []any{
		nil, "", "x", "-", `"`, "[", "null", "true false", (*string)(nil), (*int64)(nil), (*json.RawMessage)(nil), new((*int64)(nil)),
		json.RawMessage(nil), json.RawMessage("null"), json.RawMessage(`"`), json.RawMessage("\xff"), json.RawMessage(`""`), json.Number(""),
		math.NaN(), math.Inf(1), float32(math.Inf(-1)), struct{}{}, map[string]any{"a": 1}, func() {}, make(chan int), endless(), []byte("[1,2]"),
		complex(1, 1), errors.New("x"),
	}
}

func TestIntParam(t *testing.T) {
	for _, param := range numbers(25) {
		n, ok := intParam(param)
		assert.True(t, ok && n == 25, "%T: %d", param, n)
	}
	for _, param := range garbage() {
		n, ok := intParam(param)
		assert.True(t, !ok && n == 0, "%T: %d", param, n)
	}
	for _, row := range []struct {
		in   any
		want int64
	}{
		{"-7", -7}, {-7.9, -7}, {"50.9", 50}, {"50s", 50}, {json.RawMessage("5e1"), 5}, {"007", 7}, {false, 0}, {"-0", 0},
		{"99999999999999999999999", math.MaxInt64}, {"-99999999999999999999999", -math.MaxInt64}, {fmt.Sprint(math.MaxInt64), math.MaxInt64},
		{uint64(math.MaxUint64), math.MaxInt64}, {1e300, math.MaxInt64}, {-1e300, math.MinInt64},
	} {
		n, ok := intParam(row.in)
		assert.Equal(t, row.want, n, "%v", row.in)
		assert.Equal(t, row.in != false, ok, "%v", row.in)
	}
}

func TestBoolParam(t *testing.T) {
	for _, param := range append(numbers(1),
		true, new(true), namedBool(true), "true", "True", "TRUE", " yes\n", "1", new("true"), namedString("Yes"),
		json.RawMessage("true"), json.RawMessage(` true `), json.RawMessage(`"True"`), new(json.RawMessage("true")), new(any(true)),
	) {
		assert.True(t, boolParam(param), "%T %v", param, param)
	}
	for _, param := range append(append(garbage(), numbers(0)...),
		false, new(false), namedBool(false), (*bool)(nil), "false", "no", "on", "truex", "2", 2, -1, 1.5, json.RawMessage("false"), []bool{true},
	) {
		assert.False(t, boolParam(param), "%T %v", param, param)
	}
}

func TestListLen(t *testing.T) {
	ids := []int64{1, 2, 3}
	for _, param := range lists(ids) {
		assert.Equal(t, 3, listLen(param), "%T", param)
	}
	for _, param := range append(append(garbage(), numbers(3)...),
		[]int64{}, []int64(nil), "[]", "[1,2", "[1,,2]", `{"a":[1,2]}`, json.RawMessage("[]"), (*[]int64)(nil), namedBool(true),
	) {
		assert.Zero(t, listLen(param), "%T", param)
	}
	assert.Equal(t, 3, listLen(`[[1,2],"]\"],[",{"a":[3,4]}]`))
}

// lists are the types in which a caller may pass three message ids.
func lists(ids []int64) []any {
	text := "[1, 2,\n3]"
	quoted, _ := json.Marshal(text)
	return []any{
		ids, &ids, [3]int64(ids), new([3]int64(ids)), []any{1, "2", 3.0}, []string{"1", "2", "3"}, namedList(ids), [3]byte{1, 2, 3},
		text, &text, namedString(text), json.RawMessage(text), new(json.RawMessage(text)), json.RawMessage(quoted), []json.Number{"1", "2", "3"},
	}
}

// A getUpdates whose timeout was a string or a json.Number got the time-out of a
// short call, which ended each poll early.
func TestATimeoutOfAnyTypeIsALongPoll(t *testing.T) {
	for _, timeout := range numbers(25) {
		t.Run(fmt.Sprintf("%T", timeout), func(t *testing.T) {
			assert.Equal(t, 25*time.Second, longPoll(timeout))
			synctest.Test(t, func(t *testing.T) {
				_, err := request(t, hanging, "getUpdates", map[string]any{"timeout": timeout})
				assert.ErrorIs(t, err, errors.Timeout)
			})
		})
	}
	for _, timeout := range append(garbage(), -5, "-5", 0, json.RawMessage("0"), false) {
		assert.Zero(t, longPoll(timeout), "%T", timeout)
	}
	for _, timeout := range []any{"50", 51, "1e9", uint64(math.MaxUint64), 1e30, "900s"} {
		assert.LessOrEqual(t, longPoll(timeout), 50*time.Second, "%v", timeout)
	}
}

// hanging answers no call. It fails the test unless the call's time is over
// after 55 s: 30 s for each call, and 25 s for the long poll.
func hanging(t *testing.T, r *http.Request) (*http.Response, error) {
	_, _ = io.Copy(io.Discard, r.Body)
	begin := time.Now()
	<-r.Context().Done()
	assert.Equal(t, 55*time.Second, time.Since(begin))
	return nil, r.Context().Err()
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// request sends one call to a transport.
func request(t *testing.T, transport func(*testing.T, *http.Request) (*http.Response, error), method string, params map[string]any) (json.RawMessage, error) {
	s, err := New(Config{Transport: transportFunc(func(r *http.Request) (*http.Response, error) { return transport(t, r) })})
	require.NoError(t, err)
	defer func() { assert.NoError(t, s.Close(context.Background())) }()
	return s.Client("k").RequestWithContext(context.Background(), "123456:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQr", method, params, nil)
}

// An album whose media was JSON cost as much as one message.
func TestAListOfAnyTypeCostsTheSame(t *testing.T) {
	for method, name := range map[string]string{"sendMediaGroup": "media", "copyMessages": "message_ids", "FORWARDMESSAGES": "message_ids"} {
		for _, list := range lists([]int64{1, 2, 3}) {
			assert.Equal(t, 3, cost(&Call{Method: method, Params: map[string]any{name: list}}), "%s %T", method, list)
		}
		for _, list := range garbage() {
			assert.Equal(t, 1, cost(&Call{Method: method, Params: map[string]any{name: list}}), "%s %T", method, list)
		}
		long := "[" + strings.Repeat("1,", 1000) + "1]"
		assert.Equal(t, 100, cost(&Call{Method: method, Params: map[string]any{name: long}}))
	}
	assert.True(t, paid(&Call{Params: map[string]any{"allow_paid_broadcast": json.RawMessage("true")}}))
	assert.False(t, paid(&Call{}))
}

func TestAChatOfAnyTypeIsTheSameKey(t *testing.T) {
	for _, chat := range numbers(42) {
		assert.Equal(t, ChatID{ID: 42}, ParseChatID(chat), "%T", chat)
	}
	for _, chat := range []any{-1001234567890, "-1001234567890", json.RawMessage("-1001234567890"), -1001234567890.0} {
		assert.Equal(t, ChatID{ID: -1001234567890}, ParseChatID(chat), "%T", chat)
	}
	for _, chat := range []any{"@News", new("@news"), namedString("@NEWS"), json.RawMessage(`"@news"`), new(json.RawMessage(` "\u0040News" `)), new(any("@News"))} {
		assert.Equal(t, ChatID{Username: "@news"}, ParseChatID(chat), "%T", chat)
	}
	for _, chat := range append(garbage(), json.RawMessage("[5]"), json.RawMessage("true"), true, uint64(math.MaxUint64), 1e300, []int64{5}) {
		assert.Zero(t, ParseChatID(chat), "%T", chat)
	}
}

// As a form field, a named string had quotes around it: "chat not found".
func TestAStringOfAnyTypeIsTheSameFormField(t *testing.T) {
	for _, chat := range []any{"@news", new("@news"), namedString("@news"), json.RawMessage(`"@news"`), new(json.RawMessage(`"@n\u0065ws"`))} {
		var got string
		_, err := request(t, func(t *testing.T, r *http.Request) (*http.Response, error) {
			_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
			require.NoError(t, err)
			form, err := multipart.NewReader(r.Body, params["boundary"]).ReadForm(1 << 20)
			require.NoError(t, err)
			got = form.Value["chat_id"][0]
			return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(`{"ok":true,"result":true}`))}, nil
		}, "sendDocument", map[string]any{"chat_id": chat, "document": gotgbot.InputFileByReader("a.txt", strings.NewReader("a"))})
		require.NoError(t, err)
		assert.Equal(t, "@news", got, "%T", chat)
	}
}

func FuzzParams(f *testing.F) {
	for _, s := range []string{"", "1", "-1", "25.5", "true", " Yes ", "[1,2]", `["[",{"a":"]"}]`, "@news", `"1"`, "null", "\xff", "99999999999999999999", "[[[["} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		type result struct {
			n      int64
			number bool
			truth  bool
			length int
			chat   ChatID
		}
		read := func(param any) (r result) {
			r.n, r.number = intParam(param)
			r.truth, r.length, r.chat = boolParam(param), listLen(param), ParseChatID(param)
			return r
		}
		want := read(text)
		forms := []any{&text, namedString(text), json.Number(text), new(any(text))}
		if quoted, _ := json.Marshal(text); json.Valid(quoted) && !strings.Contains(string(quoted), `\ufffd`) {
			forms = append(forms, json.RawMessage(quoted))
		}
		for _, form := range forms {
			if got := read(form); got != want {
				t.Errorf("%T %q: %+v, as a string %+v", form, text, got, want)
			}
		}
		raw := read(json.RawMessage(text)) // does not panic
		if !want.number && want.n != 0 || want.length < 0 || raw.length < 0 {
			t.Errorf("%q: %+v, %+v", text, want, raw)
		}
	})
}
