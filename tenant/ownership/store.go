package ownership

import (
	"context"
	"fmt"
	"time"
)

// Store keeps challenges and proofs. Implementations are safe for concurrent
// use, also from several processes, and obey ctx; their errors have the kinds
// named here, and otherwise the one that fits. Values go in and come out as
// copies; times are kept in UTC, to the microsecond. Package ownershiptest
// tests all that is said here.
type Store interface {
	// Begin stores a challenge in place of the one that its Tenant and User
	// had.
	Begin(ctx context.Context, c Challenge) error

	// Attempt counts an attempt at a challenge and returns it, with this
	// attempt. [errors.NotFound] says that there is none, that it has expired
	// by now, or that max attempts were counted before. Of any number that
	// come at the same time, max are let through.
	Attempt(ctx context.Context, tenant string, user int64, max int, now time.Time) (Challenge, error)

	// Redeem removes a challenge and stores the proof that it has led to, in
	// place of the tenant's earlier one, both or none. [errors.NotFound] says
	// that the challenge of that Tenant, User and Hash is not there (any
	// more): of two who redeem it, one succeeds.
	Redeem(ctx context.Context, c Challenge, p Proof) error

	// Prove stores a proof in place of the tenant's earlier one.
	Prove(ctx context.Context, p Proof) error

	// Proof returns a tenant's proof; [errors.NotFound] where there is none.
	Proof(ctx context.Context, tenant string) (Proof, error)

	// Forget removes a tenant's challenges and its proof. A tenant of which
	// there is nothing is no error.
	Forget(ctx context.Context, tenant string) error
}

// Challenge is a code that was given out and not sent to the bot yet.
type Challenge struct {
	// Tenant is whose bot it is about.
	Tenant string
	// User is the Telegram user who must send the code; 0 is whoever does.
	User int64
	// BotID is the bot that it is for.
	BotID int64
	// Hash is a keyed hash of the code, 32 bytes.
	Hash []byte
	// Attempts counts how often a code was compared with it.
	Attempts int
	// ExpiresAt is when it is worth nothing any more.
	ExpiresAt time.Time
}

// Proof says who owns a tenant's bot, and how that is known.
type Proof struct {
	// Tenant is whose bot it is about.
	Tenant string
	// BotID is the bot. When the tenant's bot is another by now, the proof
	// proves nothing.
	BotID int64
	// User is the owner's Telegram user id.
	User int64
	// Method is how it was proved.
	Method Method
	// At is when.
	At time.Time
	// Hash is that of the challenge, of [ByChallenge]; nil otherwise.
	Hash []byte
}

// Method is how an ownership was proved.
type Method uint8

const (
	// ByChallenge: the owner has sent a code to the bot.
	ByChallenge Method = iota + 1
	// ByManager: Telegram has named the owner to the bot that manages this
	// one.
	ByManager
	// ByHand: somebody has said so, with [Verifier.Vouch].
	ByHand
)

var methodNames = [...]string{ByChallenge: "challenge", ByManager: "manager", ByHand: "hand"}

// String returns the method's name, such as "challenge".
func (m Method) String() string {
	if m > 0 && int(m) < len(methodNames) {
		return methodNames[m]
	}
	return fmt.Sprintf("Method(%d)", uint8(m))
}

// MarshalText returns the method's name.
func (m Method) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads a method's name; any other text is an error.
func (m *Method) UnmarshalText(text []byte) error {
	for i, name := range methodNames {
		if i > 0 && name == string(text) {
			*m = Method(i)
			return nil
		}
	}
	return fmt.Errorf("ownership: unknown method %q", text)
}
