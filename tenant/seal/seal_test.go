package seal_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant/seal"
	"pgregory.net/rapid"
)

const (
	purpose = "bot token"
	secret  = "123456:AA-canary-canary-canary-canary-canary"
)

func key(t testing.TB, id string) seal.Key {
	k, err := seal.GenerateKey(id)
	require.NoError(t, err)
	return k
}

func ring(t testing.TB, keys ...seal.Key) *seal.Ring {
	r, err := seal.New(keys...)
	require.NoError(t, err)
	return r
}

func TestWhatIsSealedOpensForItsPurposeAndOwnerOnly(t *testing.T) {
	r := ring(t, key(t, "a"))
	rapid.Check(t, func(t *rapid.T) {
		p, o := rapid.String().Draw(t, "purpose"), rapid.String().Draw(t, "owner")
		p2, o2 := rapid.String().Draw(t, "other purpose"), rapid.String().Draw(t, "other owner")
		text := rapid.SliceOf(rapid.Byte()).Draw(t, "text")
		sealed, err := r.Seal(p, o, text)
		require.NoError(t, err)
		opened, err := r.Open(p, o, sealed)
		require.NoError(t, err)
		assert.True(t, bytes.Equal(text, opened))
		if p2 != p || o2 != o {
			_, err = r.Open(p2, o2, sealed)
			assert.ErrorIs(t, err, seal.ErrAltered)
		}
	})
	sealed, err := r.Seal("ab", "c", nil)
	require.NoError(t, err)
	_, err = r.Open("a", "bc", sealed)
	assert.ErrorIs(t, err, seal.ErrAltered, "the border between purpose and owner counts")
}

func TestNoBitCanBeChanged(t *testing.T) {
	r := ring(t, key(t, "a"))
	sealed, err := r.Seal(purpose, "shop", []byte(secret))
	require.NoError(t, err)
	assert.NotContains(t, string(sealed), "canary")
	for i := range len(sealed) * 8 {
		changed := bytes.Clone(sealed)
		changed[i/8] ^= 1 << (i % 8)
		_, err := r.Open(purpose, "shop", changed)
		require.Error(t, err, "bit %d", i)
		require.NotContains(t, err.Error(), "canary")
	}
	for i := range sealed {
		_, err := r.Open(purpose, "shop", sealed[:i])
		require.Error(t, err, "cut at %d", i)
	}
	_, err = r.Open(purpose, "shop", append(sealed, 0))
	require.Error(t, err)
}

func TestTheSameSealedTwiceIsNotTheSame(t *testing.T) {
	r := ring(t, key(t, "a"))
	a, err := r.Seal(purpose, "shop", []byte(secret))
	require.NoError(t, err)
	b, err := r.Seal(purpose, "shop", []byte(secret))
	require.NoError(t, err)
	assert.NotEqual(t, a, b)
	assert.Len(t, b, len(a))
}

func TestOldKeysOpenAndTheNewestSeals(t *testing.T) {
	old, newer := key(t, "2025"), key(t, "2026")
	before := ring(t, old)
	sealed, err := before.Seal(purpose, "shop", []byte(secret))
	require.NoError(t, err)

	// A replica that knows the new key seals with the old one until the new
	// one is in front.
	waiting := ring(t, old, newer)
	assert.Equal(t, "2025", waiting.Newest())
	after := ring(t, newer, old)
	assert.Equal(t, []string{"2026", "2025"}, after.Keys())
	again, err := after.Seal(purpose, "shop", []byte(secret))
	require.NoError(t, err)
	for _, s := range [][]byte{sealed, again} {
		for _, r := range []*seal.Ring{waiting, after} {
			text, err := r.Open(purpose, "shop", s)
			require.NoError(t, err)
			assert.Equal(t, secret, string(text))
		}
	}
	id, err := seal.KeyOf(again)
	require.NoError(t, err)
	assert.Equal(t, "2026", id)

	_, err = ring(t, newer).Open(purpose, "shop", sealed)
	assert.ErrorIs(t, err, seal.ErrNoKey)
	assert.ErrorContains(t, err, `"2025"`, "it says which one is missing")
	_, err = ring(t, key(t, "2025")).Open(purpose, "shop", sealed)
	assert.ErrorIs(t, err, seal.ErrWrongKey)
	assert.ErrorIs(t, err, errors.Internal)
	_, err = seal.KeyOf([]byte("rubbish"))
	assert.ErrorIs(t, err, seal.ErrMalformed)
}

func TestKeysAreReadFromTheEnvironmentAFileOrAKMS(t *testing.T) {
	a, b := key(t, "a"), key(t, "b")
	text := "# newest first\n" + a.Reveal() + "\n\n " + b.Reveal() + " \n"
	t.Setenv("SEAL_TEST_KEYS", a.Reveal()+", "+b.Reveal())
	file := filepath.Join(t.TempDir(), "keys")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	kms := seal.UnwrapFunc(func(_ context.Context, id string, wrapped []byte) ([]byte, error) {
		for i := range wrapped {
			wrapped[i] ^= byte(len(id))
		}
		return wrapped, nil
	})
	wrapped := func(k seal.Key) string {
		b := []byte{}
		id, encoded, _ := strings.Cut(k.Reveal(), ":")
		raw, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err)
		for _, c := range raw {
			b = append(b, c^byte(len(id)))
		}
		return id + ":" + base64.RawURLEncoding.EncodeToString(b)
	}
	sealed, err := ring(t, a).Seal(purpose, "shop", []byte(secret))
	require.NoError(t, err)
	for name, load := range map[string]func() (*seal.Ring, error){
		"text":        func() (*seal.Ring, error) { return seal.Parse(text) },
		"environment": func() (*seal.Ring, error) { return seal.FromEnv("SEAL_TEST_KEYS") },
		"file":        func() (*seal.Ring, error) { return seal.FromFile(file) },
		"kms": func() (*seal.Ring, error) {
			return seal.Unwrap(t.Context(), wrapped(a)+"\n"+wrapped(b), kms)
		},
	} {
		r, err := load()
		require.NoError(t, err, name)
		assert.Equal(t, []string{"a", "b"}, r.Keys(), name)
		opened, err := r.Open(purpose, "shop", sealed)
		require.NoError(t, err, name)
		assert.Equal(t, secret, string(opened), name)
	}
}

func TestKeysThatCannotBeReadAreToldWithoutTheirSecrets(t *testing.T) {
	good := key(t, "a").Reveal()
	_, encoded, _ := strings.Cut(good, ":")
	for name, text := range map[string]string{
		"nothing":           "",
		"only comments":     "# none\n",
		"no id":             encoded,
		"an empty id":       ":" + encoded,
		"the wrong order":   encoded + ":a",
		"a long id":         strings.Repeat("x", 33) + ":" + encoded,
		"not base64":        "a:" + encoded[:20] + "!",
		"too short":         "a:" + encoded[:20],
		"too long":          "a:" + strings.TrimRight(encoded, "=") + "AAAA",
		"all zeros":         "a:" + strings.Repeat("A", 43),
		"two of a name":     good + "," + good,
		"the second is bad": good + "\nb:" + encoded[:20],
	} {
		t.Run(name, func(t *testing.T) {
			_, err := seal.Parse(text)
			require.ErrorIs(t, err, errors.Internal)
			assert.NotContains(t, err.Error(), encoded[:20])
		})
	}
	_, err := seal.FromEnv("SEAL_TEST_IS_NOT_SET")
	assert.ErrorContains(t, err, "SEAL_TEST_IS_NOT_SET")
	_, err = seal.FromFile(filepath.Join(t.TempDir(), "none"))
	assert.ErrorIs(t, err, os.ErrNotExist)
	assert.ErrorContains(t, err, "32 random bytes in base64", "it says what is to be there")
	down := errors.New("the service is down")
	_, err = seal.Unwrap(t.Context(), good, seal.UnwrapFunc(func(context.Context, string, []byte) ([]byte, error) { return nil, down }))
	assert.ErrorIs(t, err, down)
	_, err = seal.New()
	assert.Error(t, err)
	_, err = seal.New(seal.Key{}, key(t, "a"))
	assert.Error(t, err)
}

func TestNothingPrintsASecret(t *testing.T) {
	k := key(t, "2026-07")
	_, encoded, _ := strings.Cut(k.Reveal(), ":")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	require.NoError(t, err)
	r := ring(t, k)
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("keys", "key", k, "ring", r, "all", struct {
		K seal.Key
		R *seal.Ring
	}{k, r})
	text, err := json.Marshal(k)
	require.NoError(t, err)
	out := fmt.Sprintf("%v %+v %#v %s %q %x %d %v %+v %#v %x %s %s", k, k, k, k, k, k, k, r, r, r, r, text, log.String())
	out += fmt.Sprintf("%+v %#v", struct{ k seal.Key }{k}, struct{ r *seal.Ring }{r})
	assert.Contains(t, out, "2026-07:***")
	assert.NotContains(t, out, encoded)
	assert.NotContains(t, out, fmt.Sprintf("%x", raw))
	assert.NotContains(t, out, fmt.Sprintf("%d", raw)[1:20])
	assert.Empty(t, seal.Key{}.Reveal())
}

func FuzzOpen(f *testing.F) {
	k, err := seal.NewKey("a", bytes.Repeat([]byte{7}, seal.KeySize))
	require.NoError(f, err)
	r := ring(f, k)
	sealed, err := r.Seal(purpose, "shop", []byte(secret))
	require.NoError(f, err)
	f.Add(sealed, purpose, "shop")
	f.Add(sealed[:len(sealed)-1], purpose, "shop")
	f.Add([]byte{1, 255}, "", "")
	f.Add([]byte{}, "", "")
	f.Fuzz(func(t *testing.T, data []byte, p, owner string) {
		text, err := r.Open(p, owner, data)
		// The worker processes of a fuzz run seal with the same key.
		if err == nil && (string(text) != secret || p != purpose || owner != "shop") {
			t.Fatalf("forged: %q", text)
		}
		if err != nil && !errors.Is(err, errors.Internal) {
			t.Fatalf("an error without a kind: %v", err)
		}
		_, _ = seal.KeyOf(data)
	})
}

func FuzzParse(f *testing.F) {
	f.Add("a:" + strings.Repeat("B", 43) + "\n#\n,b:")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := seal.Parse(text)
		if err == nil && len(r.Keys()) == 0 {
			t.Fatal("a ring without keys")
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	r := ring(b, key(b, "a"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Seal(purpose, "customer-7", []byte(secret)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	r := ring(b, key(b, "a"))
	sealed, err := r.Seal(purpose, "customer-7", []byte(secret))
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.Open(purpose, "customer-7", sealed); err != nil {
			b.Fatal(err)
		}
	}
}
