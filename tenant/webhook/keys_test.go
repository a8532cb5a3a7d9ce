package webhook_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/inbox"
	"github.com/tgfleet/tgfleet/tenant/webhook"
)

// opens reports whether a receiver takes a path and a secret.
func opens(t testing.TB, keys *webhook.Keys, path, secret string) bool {
	t.Helper()
	m := newMemory(t, inbox.MemoryConfig{})
	r := request(keys, "x", body(1))
	r.URL.Path = "/" + path
	r.Header.Set(secretHeader, secret)
	return serve(newReceiver(t, m, keys, webhook.Config{}), r).Code == http.StatusOK
}

func TestAPathAndASecretAreTheTenantsOwn(t *testing.T) {
	keys := newKeys(t)
	seen := make(map[string]bool)
	for _, id := range []string{"a", "b", "customer-7", "Kunde ü/..", strings.Repeat("x", 128)} {
		path, secret := keys.Path(id), keys.Secret(id)
		assert.Regexp(t, `^1\.[A-Za-z0-9_-]{22,}$`, path)
		assert.Regexp(t, `^[A-Za-z0-9_-]{43}$`, secret, "what setWebhook takes")
		assert.False(t, seen[path] || seen[secret])
		seen[path], seen[secret] = true, true
		assert.Equal(t, path, keys.Path(id), "it stays the same")
		assert.True(t, opens(t, keys, path, secret))
	}
	assert.False(t, opens(t, keys, keys.Path("a"), keys.Secret("b")))
}

// Replicas of different versions derive the same, and webhooks that are set stay
// right when the service is updated: these may never change. Each was computed
// apart from this package, with HMAC-SHA-256 and AES-256 in counter mode.
func TestWhatIsDerivedNeverChanges(t *testing.T) {
	for _, test := range []struct {
		generation       uint32
		id, path, secret string
	}{
		{0, "a", "0.luqR0oiUtnI71uPmCJ3YoA0", "D3tZe-m6EW1cW5JBYm-9YajNDDssA4ZOW6KVq2jNozQ"},
		{1, "a", "1.dTj1ILPB9IxCyLXierfbBKg", "znQ5f_l-UalUahSicQvhHk6dcDqEsS6I6X2TyY1W8V8"},
		{1, "customer-7", "1.x5X85SyvSmbRXKxR2S0DWNVlGhsACZyZ44U", "KalmMPd4w73hzDAimz1PbqZ8UPfQENooIEcz6XkA0j0"},
		{2, "customer-7", "2.3Nx7eZ0Y5Q0fwWH9FZdIFqUh5m1Dspfjs10", "AVohIGMMUkpONRVVlso8S9omKnmeLs8GjF6OtWcCdwc"},
		{4294967295, "Kunde ü", "4294967295.VF7wNUMX3aJWU4q0sDKVMWEtsFR9CTcl", "-6vn2M-rnn7zh8Gstpguv7c-NiVTFDJdMd5To0x_rE4"},
		{1, strings.Repeat("x", 110) + "44863", "1.UXOBWqCk5toOgbntOBL__gm64-_1cMN7ugqQfEI8nN-XzgSQEGOKkJHZ56DjoQCHzB5nyaqVQN6SxyFyS1KQ5S7_ahlj9ylh0LFArOR0t7u9edzHFu-HcYPWxRVovzkdFplrJLn8-n843f1zPd0GVu-Efw9UiUhsR876WTehMMYhWjA", "CjVqLc6egm0WWC9b0oIpS9rElcbsC68WzMIduUTZPFM"}, // whose counter carries over
		{1, strings.Repeat("x", 128), "1.f-xlZNNWrdv0B9LNVyXYzN4KaM-TCbSoC83bYopSlDEaIvzlXAu7DHRAPnbLCJXlrwwi4-bqs-PncgcC6BzXLvLrhQPB2Wt4T6a3k9wD9i_x1i_mL-LI2kbVFo3AcC1IesPX1WwWl4sTSMCWIZcq8QtlnM6ywkHb3_3H8RXkxibTISFZ7HyJ3jEgyNjpogOi", "3y51ZWpqjyL3JDmzHr_AP4TijziWAH-3o8b1wuXzb48"},
	} {
		keys := of(t, generation(test.generation))
		assert.Equal(t, test.path, keys.Path(test.id))
		assert.Equal(t, test.secret, keys.Secret(test.id))
	}
}

func TestAPathHasOneSpelling(t *testing.T) {
	keys := newKeys(t)
	rc := newReceiver(t, newMemory(t, inbox.MemoryConfig{}), keys, webhook.Config{})
	mux := http.NewServeMux()
	mux.Handle("POST /webhook/{opaque}", rc)
	right := keys.Path("a")
	for target, want := range map[string]int{
		"/webhook/" + right:                            http.StatusOK,
		"/webhook/%31" + right[1:]:                     http.StatusNotFound,
		"/webhook/1%2e" + right[2:]:                    http.StatusNotFound,
		"/webhook/" + right + "%0A":                    http.StatusNotFound,
		"/webhook/" + right[:9] + "%0d%0a" + right[9:]: http.StatusNotFound,
		"/webhook/x%2F" + right:                        http.StatusNotFound,
		"/webhook/" + right[:5] + "%" + fmt.Sprintf("%02x", right[5]) + right[6:]: http.StatusNotFound,
	} {
		r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body(1)))
		r.Header = request(keys, "a", "").Header
		assert.Equal(t, want, serve(mux, r).Code, target)
	}
}

func TestAPathTellsNothing(t *testing.T) {
	keys := newKeys(t)
	path := keys.Path("customer-7")
	assert.NotContains(t, path, "customer")
	_, text, _ := strings.Cut(path, ".")
	raw, err := base64.RawURLEncoding.DecodeString(text)
	require.NoError(t, err)
	assert.NotContains(t, string(raw), "customer")
	// Ids that are alike have paths that are not.
	assert.NotEqual(t, path[:12], keys.Path("customer-8")[:12])
}

func TestAPathThatIsChangedIsNobodys(t *testing.T) {
	keys := newKeys(t)
	path, secret := keys.Path("customer-7"), keys.Secret("customer-7")
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	for i := range path {
		for _, c := range []byte(alphabet) {
			if changed := path[:i] + string(c) + path[i+1:]; changed != path {
				require.False(t, opens(t, keys, changed, secret), changed)
			}
		}
	}
	_, text, _ := strings.Cut(path, ".")
	for _, other := range []string{"", ".", "1.", text, path + "\n", path + "\r\n", path[:9] + "\n" + path[9:], "1.\n\n\n\n" + text, path[:8] + "\r" + path[8:12] + "\n" + path[12:], "01." + text, "+1." + text, "2." + text, "99999999999." + text, path + "=", path + "A", " " + path, path[:len(path)-1]} {
		assert.False(t, opens(t, keys, other, secret), other)
	}
	foreign, err := webhook.NewKeys(webhook.Key{Master: []byte(strings.Repeat("f", 32)), Generation: 1})
	require.NoError(t, err)
	assert.False(t, opens(t, keys, foreign.Path("customer-7"), foreign.Secret("customer-7")))
}

func TestAGenerationHasPathsAndSecretsOfItsOwn(t *testing.T) {
	one := newKeys(t)
	two, err := webhook.NewKeys(webhook.Key{Master: master, Generation: 2})
	require.NoError(t, err)
	assert.NotEqual(t, one.Secret("a"), two.Secret("a"))
	assert.NotEqual(t, one.Path("a")[2:], two.Path("a")[2:])
	assert.False(t, opens(t, one, two.Path("a"), two.Secret("a")))
	both := newKeys(t, webhook.Accepted{Key: webhook.Key{Master: master, Generation: 2}})
	assert.True(t, opens(t, both, two.Path("a"), two.Secret("a")), "known ahead")
	assert.True(t, opens(t, both, one.Path("a"), one.Secret("a")))
	assert.False(t, opens(t, both, two.Path("a"), one.Secret("a")))
	assert.Equal(t, one.Path("a"), both.Path("a"))
}

func TestARotatedSecretIsAcceptedForItsGraceAndNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys := newKeys(t)
		path, secret := keys.Path("a"), keys.Secret("a")
		require.NoError(t, keys.Rotate(webhook.Key{Master: []byte(strings.Repeat("n", 32)), Generation: 2}, time.Hour))
		assert.Equal(t, uint32(2), keys.Generation())
		assert.NotEqual(t, path, keys.Path("a"))
		time.Sleep(time.Hour - time.Second)
		assert.True(t, opens(t, keys, path, secret))
		assert.True(t, opens(t, keys, keys.Path("a"), keys.Secret("a")))
		time.Sleep(time.Second)
		assert.False(t, opens(t, keys, path, secret))
		require.ErrorIs(t, keys.Rotate(webhook.Key{Master: master, Generation: 2}, 0), errors.BadRequest, "another key's")
		require.ErrorIs(t, keys.Rotate(webhook.Key{Master: master, Generation: 1}, 0), errors.BadRequest)
		require.ErrorIs(t, keys.Rotate(webhook.Key{Master: master, Generation: 3}, -1), errors.BadRequest)
		require.ErrorIs(t, keys.Rotate(webhook.Key{Generation: 3}, 0), errors.BadRequest)
		assert.Equal(t, uint32(2), keys.Generation())
	})
}

func TestKeysPrintWithoutTheirSecret(t *testing.T) {
	key := webhook.Key{Master: []byte(strings.Repeat("secret", 6)), Generation: 3}
	keys, err := webhook.NewKeys(key, webhook.Accepted{Key: webhook.Key{Master: []byte(strings.Repeat("secret", 6)), Generation: 2}})
	require.NoError(t, err)
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		assert.Equal(t, "webhook keys 3 2", fmt.Sprintf(format, keys))
		assert.Equal(t, "webhook key 3", fmt.Sprintf(format, key))
	}
	for _, v := range []any{key, &key, []webhook.Key{key}, webhook.Accepted{Key: key}, struct{ Key webhook.Key }{key}} {
		var out bytes.Buffer
		require.NoError(t, json.NewEncoder(&out).Encode(v))
		slog.New(slog.NewJSONHandler(&out, nil)).Info("keys", "key", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("keys", "key", v)
		assert.NotContains(t, out.String(), "secret")
		assert.NotContains(t, out.String(), base64.StdEncoding.EncodeToString([]byte("secret")))
	}
}

func TestBadKeysAreAllReported(t *testing.T) {
	_, err := webhook.NewKeys(webhook.Key{Master: []byte("short")},
		webhook.Accepted{Key: webhook.Key{Generation: 1}}, webhook.Accepted{Key: webhook.Key{Master: master}}, webhook.Accepted{})
	assert.ErrorContains(t, err, "current key: master key has 5 bytes")
	assert.ErrorContains(t, err, "other key 0: master key has 0 bytes")
	assert.ErrorContains(t, err, "other key 1: there is another of generation 0")
	assert.ErrorContains(t, err, "other key 2")
	assert.NotContains(t, err.Error(), "short")
}

func FuzzPath(f *testing.F) {
	keys, err := webhook.NewKeys(webhook.Key{Master: master, Generation: 1})
	require.NoError(f, err)
	for _, path := range []string{"", "/", "1.", keys.Path("a"), keys.Path(strings.Repeat("x", 128)), "1." + strings.Repeat("A", 5000), "4294967296.AAAA", "../1.x", "%2e", "\x00", keys.Path("a") + "\n", "/x/" + keys.Path("a")[:8] + "\r\n" + keys.Path("a")[8:]} {
		f.Add(path)
	}
	m := newMemory(f, inbox.MemoryConfig{})
	rc := newReceiver(f, m, keys, webhook.Config{})
	f.Fuzz(func(t *testing.T, path string) {
		r := request(keys, "a", body(1))
		r.URL.Path = path
		code := serve(rc, r).Code
		own := path[strings.LastIndexByte(path, '/')+1:] == keys.Path("a")
		if own != (code == http.StatusOK) {
			t.Fatalf("%q: %d", path, code)
		}
		if !own && code != http.StatusNotFound && code != http.StatusUnauthorized {
			t.Fatalf("%q: %d", path, code)
		}
	})
}
