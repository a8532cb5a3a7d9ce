package webhook

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
)

// MinMaster is the length of the shortest master key, in bytes.
const MinMaster = 32

// Key is what paths and secrets are derived from.
type Key struct {
	// Master is at least [MinMaster] random bytes. Who knows it can send
	// updates in anybody's name.
	Master []byte
	// Generation tells keys apart and orders them: a newer key has a greater
	// one. Another generation of one master is another key, so raising it is
	// all that a rotation needs. It can be seen in the path.
	Generation uint32
}

// Accepted is a key that is not the current one, but whose webhooks are
// received all the same: an older one, for as long as webhooks are set with
// it, or the next one, so that every replica knows it before one sets webhooks
// with it.
type Accepted struct {
	Key
	// Until is when it is no longer accepted; zero is never.
	Until time.Time
	// Retired is set of a newer key that the fleet has gone back from: a
	// [Manager] then sets the webhooks that still have it with the current one.
	// Those of other newer keys it leaves alone, since another replica has
	// rotated already. For older keys it says nothing.
	Retired bool
}

// Keys derives of each tenant the path and the secret of its webhook. They are
// not stored anywhere: every process with the same master key derives the same
// ones, and a path says, to those who have the key, whose it is.
//
// A fleet of replicas rotates its key in steps, so that none refuses what
// another has set:
//
//  1. Every replica accepts the next key, with [Keys.Accept] or, where it
//     starts, as an [Accepted] one.
//  2. When all do, every replica calls [Keys.Rotate]. One that starts from now
//     on has the next key as its current one, and accepts the one before.
//  3. [Manager.Reconcile] sets the webhooks. The grace of the key before lasts
//     until the last replica has rotated and a Reconcile that began after that
//     has ended; for 10,000 bots that takes most of a day.
//
// To go back, every replica rotates to the key before, which its grace still
// accepts; one that starts has that as its current key, and the one gone back
// from as an Accepted key that is Retired. Between two replicas of which one has
// rotated and the other not yet, webhooks may be set to and fro, which does no
// harm while each accepts both keys.
//
// A replica that does not know a key answers 404 to what is signed with it.
// Telegram then tries again, maybe at another replica, for a day.
//
// A Keys is made by [NewKeys] and safe for concurrent use. It prints as its
// generations.
type Keys struct {
	mu  sync.Mutex // of those who change set
	set atomic.Pointer[keySet]
}

type keySet struct {
	current *derived
	all     []accepted // the current one first
}

type accepted struct {
	*derived
	until   time.Time // zero is for ever
	retired bool      // it was the current one, or would have been
}

// NewKeys returns the keys of a fleet. Webhooks are set with current, and
// received with the others too. The error names every bad field.
func NewKeys(current Key, others ...Accepted) (*Keys, error) {
	var bad []error
	d, err := derive(current)
	if err != nil {
		bad = append(bad, fmt.Errorf("current key: %w", err))
	}
	set := &keySet{current: d, all: []accepted{{derived: d}}}
	for i, o := range others {
		d, err := derive(o.Key)
		switch {
		case err != nil:
			bad = append(bad, fmt.Errorf("other key %d: %w", i, err))
			continue
		case current.Generation == o.Generation || slices.ContainsFunc(others[:i], func(x Accepted) bool { return x.Generation == o.Generation }):
			bad = append(bad, fmt.Errorf("other key %d: there is another of generation %d", i, o.Generation))
			continue
		}
		set.all = append(set.all, accepted{d, o.Until, o.Retired})
	}
	if len(bad) > 0 {
		return nil, fail("make webhook keys", "", errors.Internal, errors.Join(bad...))
	}
	k := &Keys{}
	k.set.Store(set)
	return k, nil
}

func (k *Keys) made() bool { return k != nil && k.set.Load() != nil }

// Generation returns that of the current key.
func (k *Keys) Generation() uint32 { return k.set.Load().current.generation }

// Path returns the last segment of a tenant's webhook URL: the generation, a
// dot, and text that means nothing to those who don't have the key. Who calls
// both Path and Secret while the key is rotated may get those of two keys;
// [Manager] does not.
func (k *Keys) Path(tenantID string) string { return k.set.Load().current.path(tenantID) }

// Secret returns a tenant's secret_token, 43 characters that setWebhook takes.
func (k *Keys) Secret(tenantID string) string { return k.set.Load().current.secret(tenantID) }

// open returns the tenant that a path is of, and the key that it was made
// with. It reads nothing but the path and the keys.
func (k *Keys) open(path string, now time.Time) (tenantID string, key *derived, ok bool) {
	generation, rest, ok := cutGeneration(path)
	if !ok || len(rest) > maxEncoded {
		return "", nil, false
	}
	for _, a := range k.set.Load().all {
		if a.generation != generation {
			continue
		}
		if a.expired(now) {
			return "", nil, false
		}
		id, ok := a.open(rest)
		return id, a.derived, ok
	}
	return "", nil, false
}

func cutGeneration(path string) (generation uint32, rest string, ok bool) {
	text, rest, ok := strings.Cut(path, ".")
	if !ok || text == "" || text[0] == '0' && text != "0" {
		return 0, "", false
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return uint32(n), rest, err == nil
}

// String returns the generations, the current one first.
func (k *Keys) String() string {
	var b strings.Builder
	b.WriteString("webhook keys")
	for _, a := range k.set.Load().all {
		fmt.Fprintf(&b, " %d", a.generation)
	}
	return b.String()
}

// Format prints what String returns, whatever the verb.
func (k *Keys) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// String returns the key's generation.
func (k Key) String() string { return fmt.Sprintf("webhook key %d", k.Generation) }

// Format prints what String returns, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// MarshalText returns what String returns, so that neither JSON nor a log shows
// the master key. A key does not survive a round trip through text.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// derived is what one key's paths and secrets are made with.
//
// A path is the tenant's id, encrypted, behind a tag that is a MAC of the id
// and serves as the counter's start, which makes it a synthetic IV (RFC 5297
// has the idea). Whoever does not have the key can neither read an id nor make
// a path that opens, and no table of paths is needed to look one up.
type derived struct {
	generation uint32
	print      [sha256.Size]byte // tells keys of one generation apart
	block      cipher.Block
	benches    *sync.Pool
}

const (
	tagSize    = 16
	maxEncoded = ((tagSize+tenant.MaxIDLen)*8 + 5) / 6 // base64 without padding
)

func derive(k Key) (*derived, error) {
	if len(k.Master) < MinMaster {
		return nil, fmt.Errorf("master key has %d bytes, fewer than %d", len(k.Master), MinMaster)
	}
	sub := func(purpose string) []byte {
		m := hmac.New(sha256.New, k.Master)
		m.Write([]byte("tgfleet webhook " + purpose + "\x00"))
		m.Write(binary.BigEndian.AppendUint32(nil, k.Generation))
		return m.Sum(nil)
	}
	block, err := aes.NewCipher(sub("path"))
	if err != nil {
		return nil, err
	}
	tags, secrets := sub("tag"), sub("secret")
	return &derived{generation: k.Generation, print: [sha256.Size]byte(sub("print")), block: block, benches: &sync.Pool{New: func() any {
		return &bench{tags: hmac.New(sha256.New, tags), secrets: hmac.New(sha256.New, secrets)}
	}}}, nil
}

// bench is where paths and secrets are computed: it is shared so that a request
// allocates nothing but the tenant's id.
type bench struct {
	tags, secrets hash.Hash
	text          [tagSize + tenant.MaxIDLen]byte
	encoded       [maxEncoded]byte
	sum           [sha256.Size]byte
	secret        [43]byte // a sum as text
	counter       [aes.BlockSize]byte
	stream        [aes.BlockSize]byte
}

func (d *derived) path(id string) string {
	b := d.benches.Get().(*bench)
	defer d.benches.Put(b)
	sealed := append(append(make([]byte, 0, tagSize+len(id)), b.mac(b.tags, []byte(id))[:tagSize]...), id...)
	b.crypt(d.block, sealed[:tagSize], sealed[tagSize:])
	return strconv.FormatUint(uint64(d.generation), 10) + "." + base64.RawURLEncoding.EncodeToString(sealed)
}

func (d *derived) open(text string) (id string, ok bool) {
	b := d.benches.Get().(*bench)
	defer d.benches.Put(b)
	n, err := strict.Decode(b.text[:], append(b.encoded[:0], text...))
	if err != nil || n <= tagSize || strict.EncodedLen(n) != len(text) {
		return "", false
	}
	tag, sealed := b.text[:tagSize], b.text[tagSize:n]
	b.crypt(d.block, tag, sealed)
	if subtle.ConstantTimeCompare(tag, b.mac(b.tags, sealed)[:tagSize]) != 1 {
		return "", false
	}
	return string(sealed), true
}

// strict takes only what it would have written itself, so that a tenant has
// one path. But it passes over line breaks, which only the length tells.
var strict = base64.RawURLEncoding.Strict()

func (d *derived) secret(id string) string {
	b := d.benches.Get().(*bench)
	defer d.benches.Put(b)
	return string(b.secretOf(id))
}

// holds reports whether a secret is the tenant's, in a time that tells nothing
// about it.
func (d *derived) holds(id, secret string) bool {
	b := d.benches.Get().(*bench)
	defer d.benches.Put(b)
	return len(secret) == len(b.secret) && subtle.ConstantTimeCompare(b.secretOf(id), append(b.text[:0], secret...)) == 1
}

func (b *bench) secretOf(id string) []byte {
	base64.RawURLEncoding.Encode(b.secret[:], b.mac(b.secrets, append(b.text[:0], id...)))
	return b.secret[:]
}

func (b *bench) mac(h hash.Hash, text []byte) []byte {
	h.Reset()
	h.Write(text)
	return h.Sum(b.sum[:0])
}

// crypt encrypts or decrypts in counter mode, without what cipher.NewCTR
// allocates.
func (b *bench) crypt(block cipher.Block, start, text []byte) {
	copy(b.counter[:], start)
	for len(text) > 0 {
		block.Encrypt(b.stream[:], b.counter[:])
		n := subtle.XORBytes(text, text, b.stream[:])
		text = text[n:]
		for i := len(b.counter) - 1; i >= 0; i-- {
			if b.counter[i]++; b.counter[i] != 0 {
				break
			}
		}
	}
}

// fail makes an error of this package. An error that has a kind already is
// returned as it is.
func fail(op, tenantID string, kind errors.Kind, err error) error {
	if e, ok := errors.AsType[*errors.Error](err); ok {
		return e
	}
	return &errors.Error{Kind: kind, Op: op, Key: tenantID, Delivery: errors.NotDelivered, Err: err}
}
