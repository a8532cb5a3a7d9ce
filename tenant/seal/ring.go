package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/tgfleet/tgfleet/errors"
)

// Why something does not open. Match them with Is.
var (
	// ErrNoKey says that the key which sealed it is not in the ring.
	ErrNoKey = errors.New("the key that sealed this is not in the ring")
	// ErrWrongKey says that the ring has a key of that name, but another one.
	ErrWrongKey = errors.New("the ring's key of this name is not the one that sealed this")
	// ErrAltered says that it was changed, or sealed for another owner or
	// purpose.
	ErrAltered = errors.New("altered, or sealed for another owner or purpose")
	// ErrMalformed says that it is not something that a ring sealed.
	ErrMalformed = errors.New("not something sealed")
)

// What is sealed is
//
//	format (1) | length of id (1) | id | fingerprint (4) | nonce (12) | text | tag (16)
//
// The fingerprint tells a wrong key from altered data, which GCM alone can't.
const (
	format         = 1
	fingerprintLen = 4
	nonceLen       = 12
	tagLen         = 16
)

// Ring seals with its first key and opens with all. It is immutable and safe
// for concurrent use, and prints without secrets. Make it with [New] or what
// loads one.
type Ring struct {
	newest *ringKey
	byID   map[string]*ringKey
	ids    []string // in the order given
}

type ringKey struct {
	Key
	header []byte // of what it seals
}

// New returns a ring of keys, the one that seals first. The error names every
// bad one.
func New(keys ...Key) (*Ring, error) {
	r := &Ring{byID: make(map[string]*ringKey, len(keys))}
	var bad []error
	for i, k := range keys {
		switch {
		case k.IsZero():
			bad = append(bad, fmt.Errorf("key %d is the zero Key", i+1))
			continue
		case r.byID[k.id] != nil:
			bad = append(bad, fmt.Errorf("two keys are named %q", k.id))
			continue
		}
		rk := &ringKey{Key: k}
		rk.header = append([]byte{format, byte(len(k.id))}, k.id...)
		rk.header = append(rk.header, derive(k, "fingerprint", "", "", fingerprintLen)...)
		r.byID[k.id] = rk
		r.ids = append(r.ids, k.id)
		if r.newest == nil {
			r.newest = rk
		}
	}
	if len(keys) == 0 {
		bad = append(bad, errors.New("no keys"))
	}
	if len(bad) > 0 {
		return nil, fail("make key ring", "", errors.Join(bad...))
	}
	return r, nil
}

// Newest returns the id of the key that seals.
func (r *Ring) Newest() string { return r.newest.id }

// Keys returns the ids of all keys, the one that seals first.
func (r *Ring) Keys() []string { return append([]string(nil), r.ids...) }

// String returns the ids of the keys.
func (r *Ring) String() string { return "seal.Ring(" + strings.Join(r.ids, ", ") + ")" }

// Format prints what String returns, whatever the verb.
func (r *Ring) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue makes slog write what String returns.
func (r *Ring) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Seal encrypts text for a purpose, such as "bot token", and an owner, such as
// a tenant's id. To seal the same twice gives two results, which say nothing
// about each other but their length.
func (r *Ring) Seal(purpose, owner string, text []byte) ([]byte, error) {
	aead, err := r.newest.aead(purpose, owner)
	if err != nil {
		return nil, fail("seal "+purpose, owner, err)
	}
	header := r.newest.header
	sealed := make([]byte, len(header), len(header)+nonceLen+len(text)+tagLen)
	copy(sealed, header)
	return aead.Seal(sealed, nil, text, associated(header, purpose, owner)), nil
}

// Open decrypts what Seal returned for that purpose and owner. Its errors are
// [ErrNoKey], [ErrWrongKey], [ErrAltered] and [ErrMalformed].
func (r *Ring) Open(purpose, owner string, sealed []byte) ([]byte, error) {
	op := "open sealed " + purpose
	header, id, err := split(sealed)
	if err != nil {
		return nil, fail(op, owner, err)
	}
	k := r.byID[id]
	switch {
	case k == nil:
		return nil, fail(op, owner, fmt.Errorf("%w: key %q", ErrNoKey, id))
	case subtle.ConstantTimeCompare(k.header, header) != 1:
		return nil, fail(op, owner, fmt.Errorf("%w: key %q", ErrWrongKey, id))
	}
	aead, err := k.aead(purpose, owner)
	if err != nil {
		return nil, fail(op, owner, err)
	}
	text, err := aead.Open(nil, nil, sealed[len(header):], associated(header, purpose, owner))
	if err != nil {
		return nil, fail(op, owner, fmt.Errorf("%w (key %q)", ErrAltered, id))
	}
	return text, nil
}

// KeyOf returns the id of the key that sealed it, without opening it.
func KeyOf(sealed []byte) (string, error) {
	_, id, err := split(sealed)
	if err != nil {
		return "", fail("read sealed", "", err)
	}
	return id, nil
}

func split(sealed []byte) (header []byte, id string, err error) {
	if len(sealed) < 2 || sealed[0] != format {
		return nil, "", ErrMalformed
	}
	end := 2 + int(sealed[1])
	if len(sealed) < end+fingerprintLen+nonceLen+tagLen {
		return nil, "", ErrMalformed
	}
	id = string(sealed[2:end])
	if !validKeyID(id) {
		return nil, "", ErrMalformed // and nothing of it in an error's text
	}
	return sealed[:end+fingerprintLen], id, nil
}

// aead returns the cipher of one purpose and owner.
func (k *ringKey) aead(purpose, owner string) (cipher.AEAD, error) {
	block, err := aes.NewCipher(derive(k.Key, "seal", purpose, owner, KeySize))
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// derive makes a key of a key. Lengths keep ("ab", "c") and ("a", "bc") apart.
func derive(k Key, use, purpose, owner string, size int) []byte {
	info := appendText([]byte("tgfleet/seal/1"), use, purpose, owner)
	b, err := hkdf.Key(sha256.New, k.secret(), nil, string(info), size)
	if err != nil {
		panic(err) // only for sizes that no caller asks for
	}
	return b
}

func associated(header []byte, purpose, owner string) []byte {
	return appendText(append([]byte(nil), header...), purpose, owner)
}

func appendText(b []byte, all ...string) []byte {
	for _, s := range all {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	return b
}
