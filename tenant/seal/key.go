package seal

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/tgfleet/tgfleet/errors"
)

// KeySize is the length of a key's secret in bytes.
const KeySize = 32

// maxKeyID is the length of the longest key id in bytes.
const maxKeyID = 32

// Key is a secret with a name. It prints as "2026-07:***", in every verb, in
// slog and in JSON; [Key.Reveal] is the one way to the secret. The zero Key is
// no key. Keys are immutable and safe for concurrent use.
type Key struct {
	id string
	// secret is a func since printers that walk unexported fields can't look
	// inside one.
	secret func() []byte
}

// NewKey returns a key. Its id, 1 to 32 of A-Z, a-z, 0-9, "_", "." and "-", is
// stored with everything that the key seals, so it is never given to another
// key. The secret is [KeySize] random bytes: not a password, nor the hash of
// one.
func NewKey(id string, secret []byte) (Key, error) {
	if !validKeyID(id) {
		return Key{}, fail("make key", "", errors.New("key id is not 1 to 32 of A-Z, a-z, 0-9, '_', '.' and '-'"))
	}
	if len(secret) != KeySize {
		return Key{}, fail("make key", "", fmt.Errorf("key %q has %d bytes, not %d", id, len(secret), KeySize))
	}
	s := [KeySize]byte(secret)
	if s == [KeySize]byte{} {
		return Key{}, fail("make key", "", fmt.Errorf("key %q is all zeros", id))
	}
	return Key{id: id, secret: func() []byte { return s[:] }}, nil
}

// GenerateKey returns a new random key.
func GenerateKey(id string) (Key, error) {
	secret := make([]byte, KeySize)
	_, _ = rand.Read(secret) // never fails
	return NewKey(id, secret)
}

func validKeyID(id string) bool {
	if id == "" || len(id) > maxKeyID {
		return false
	}
	for i := range len(id) {
		c := id[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// ID returns the key's name.
func (k Key) ID() string { return k.id }

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return k.secret == nil }

// Reveal returns the key as [Parse] reads it, "id:base64".
func (k Key) Reveal() string {
	if k.IsZero() {
		return ""
	}
	return k.id + ":" + base64.StdEncoding.EncodeToString(k.secret())
}

// String returns the key's name and three stars.
func (k Key) String() string { return k.id + ":***" }

// Format prints what String returns, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// LogValue makes slog write what String returns.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// MarshalText returns what String returns.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// decodeKey reads base64 of any of the usual alphabets, padded or not.
func decodeKey(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		// The decoder's own error says where, which is enough to find it by
		// and still a piece of the secret's form.
		return nil, errors.New("not base64")
	}
	return b, nil
}

// fail makes an error of this package. All of them are Internal: nothing that a
// tenant or Telegram did is the cause.
func fail(op, owner string, err error) error {
	return &errors.Error{Kind: errors.Internal, Op: op, Key: owner, Delivery: errors.NotDelivered, Err: err}
}
