package seal

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/tgfleet/tgfleet/errors"
)

// Parse reads a ring: keys as [Key.Reveal] writes them, "id:base64", the one
// that seals first, on a line each or separated by commas. Empty lines and
// those that begin with "#" are left out. No error repeats a secret.
func Parse(text string) (*Ring, error) {
	return parse(text, func(id string, secret []byte) (Key, error) { return NewKey(id, secret) })
}

// FromEnv reads a ring from an environment variable, in the form of [Parse].
func FromEnv(name string) (*Ring, error) {
	text, ok := os.LookupEnv(name)
	if !ok {
		return nil, fail("read keys", "", fmt.Errorf("environment variable %s is not set", name))
	}
	ring, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("environment variable %s: %w", name, err)
	}
	return ring, nil
}

// FromFile reads a ring from a file, in the form of [Parse]. It makes none: the
// package's comment says how to. A file that is not there matches
// [os.ErrNotExist].
func FromFile(path string) (*Ring, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf(`%w; it is to have a line such as "2026-07:" and 32 random bytes in base64`, err)
	}
	if err != nil {
		return nil, fail("read keys", "", err)
	}
	ring, err := Parse(string(text))
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return ring, nil
}

// Unwrapper decrypts a key that a key management service encrypted. It has the
// shape of what they all offer: AWS and Google KMS's Decrypt, Vault's transit
// engine, a PKCS #11 token, a tink.AEAD.
type Unwrapper interface {
	// Unwrap returns the [KeySize] bytes of the key.
	Unwrap(ctx context.Context, keyID string, wrapped []byte) ([]byte, error)
}

// UnwrapFunc makes a function an [Unwrapper].
type UnwrapFunc func(ctx context.Context, keyID string, wrapped []byte) ([]byte, error)

// Unwrap calls f.
func (f UnwrapFunc) Unwrap(ctx context.Context, keyID string, wrapped []byte) ([]byte, error) {
	return f(ctx, keyID, wrapped)
}

// Unwrap reads a ring whose keys are encrypted by a key management service, in
// the form of [Parse] with the encrypted key in the place of the secret. The
// service is asked once for each key, here, and never again: a bot opens
// although the service is down. Its errors are returned wrapped.
func Unwrap(ctx context.Context, text string, kms Unwrapper) (*Ring, error) {
	return parse(text, func(id string, wrapped []byte) (Key, error) {
		secret, err := kms.Unwrap(ctx, id, wrapped)
		if err != nil {
			return Key{}, fmt.Errorf("key %q was not unwrapped: %w", id, err)
		}
		return NewKey(id, secret)
	})
}

func parse(text string, key func(id string, b []byte) (Key, error)) (*Ring, error) {
	const op = "read keys"
	var keys []Key
	n := 0
	for line := range strings.Lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			continue
		}
		for part := range strings.SplitSeq(line, ",") {
			part = strings.TrimSpace(part)
			if part == "" {
				continue
			}
			n++
			id, encoded, found := strings.Cut(part, ":")
			if !found {
				return nil, fail(op, "", fmt.Errorf("key %d has no colon between id and base64", n))
			}
			if !validKeyID(id) { // which may be a secret in the wrong place
				return nil, fail(op, "", fmt.Errorf("key %d has an id that is not 1 to 32 of A-Z, a-z, 0-9, '_', '.' and '-'", n))
			}
			b, err := decodeKey(strings.TrimSpace(encoded))
			if err != nil {
				return nil, fail(op, "", fmt.Errorf("key %d: %w", n, err))
			}
			k, err := key(id, b)
			if err != nil {
				return nil, err
			}
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fail(op, "", errors.New("no keys"))
	}
	return New(keys...)
}
