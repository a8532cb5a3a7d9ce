package ownership

import (
	"context"
	"crypto/hmac"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/inbox"
)

// Config configures a [Verifier]. Its zero value is a good one. Negative values
// are errors.
type Config struct {
	// Expiry is how long a code is worth something. 0 means 15 min.
	Expiry time.Duration
	// MaxAttempts is how many codes are compared with a challenge before it is
	// worth nothing. 0 means 5.
	MaxAttempts int
	// CacheFor is for how long it is not asked again whether a tenant is
	// verified; that one is not, for at most 5 s. What this process itself
	// learns counts at once. 0 means 1 min.
	CacheFor time.Duration
}

// MinKey is the length of the shortest key, in bytes.
const MinKey = 32

// Verifier finds out who owns a tenant's bot. It is safe for concurrent use,
// and starts no goroutine.
type Verifier struct {
	store Store
	key   []byte
	cfg   Config
	known cache
}

// New returns a Verifier. The key, of at least [MinKey] bytes, is what stored
// codes are hashed with; all processes of a store have the same. With another
// key, codes that were given out before are worth nothing, and proofs stay.
// The error names all that is bad.
func New(store Store, key []byte, cfg Config) (*Verifier, error) {
	var bad []error
	if store == nil {
		bad = append(bad, errors.New("store is nil"))
	}
	if len(key) < MinKey {
		bad = append(bad, errors.New("key is shorter than 32 bytes"))
	}
	if cfg.Expiry < 0 {
		bad = append(bad, errors.New("Expiry is negative"))
	}
	if cfg.MaxAttempts < 0 {
		bad = append(bad, errors.New("MaxAttempts is negative"))
	}
	if cfg.CacheFor < 0 {
		bad = append(bad, errors.New("CacheFor is negative"))
	}
	if len(bad) > 0 {
		return nil, fail("configure ownership", "", errors.Internal, errors.Join(bad...))
	}
	orElse(&cfg.Expiry, 15*time.Minute)
	orElse(&cfg.MaxAttempts, 5)
	orElse(&cfg.CacheFor, time.Minute)
	v := &Verifier{store: store, key: append([]byte(nil), key...), cfg: cfg}
	v.known.init(cfg.CacheFor)
	return v, nil
}

func orElse[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Invitation is what to show to the one who is to prove an ownership, and to
// nobody else. It has the code in JSON and in its fields; printed or logged, it
// hides it.
type Invitation struct {
	// Link opens the bot in Telegram, with a button that sends the code; "" if
	// the bot's username is not known.
	Link string `json:"link"`
	// Code is the same to be typed, in groups of four: a message to the bot
	// that is nothing else.
	Code string `json:"code"`
	// ExpiresAt is when both are worth nothing any more.
	ExpiresAt time.Time `json:"expires_at"`
}

// LogValue hides the code.
func (i Invitation) LogValue() slog.Value {
	return slog.GroupValue(slog.String("code", "***"), slog.Time("expires_at", i.ExpiresAt))
}

// Format prints when the invitation expires, whatever the verb.
func (i Invitation) Format(f fmt.State, _ rune) {
	_, _ = fmt.Fprintf(f, "invitation until %s", i.ExpiresAt.Format(time.RFC3339))
}

// Invite begins a challenge: who sends the invitation's code to the tenant's
// bot is its owner. user is the Telegram user that is to do so, where it is
// known, and 0 for whoever does; a user who is named can't be kept from it by
// strangers who send wrong codes. An earlier invitation of the same tenant and
// user is worth nothing any more.
func (v *Verifier) Invite(ctx context.Context, r tenant.Record, user int64) (Invitation, error) {
	const op = "begin challenge"
	if r.ID == "" || r.BotID <= 0 || user < 0 {
		return Invitation{}, fail(op, r.ID, errors.BadRequest, errors.New("record without id or bot, or a negative user"))
	}
	code := newCode()
	expires := normal(time.Now().Add(v.cfg.Expiry))
	err := v.store.Begin(ctx, Challenge{
		Tenant: r.ID, User: user, BotID: r.BotID, Hash: v.hash(r.ID, r.BotID, user, code), ExpiresAt: expires,
	})
	if err != nil {
		return Invitation{}, fail(op, r.ID, errors.KindOf(err), err)
	}
	return Invitation{Link: deepLink(r.Username, code), Code: pretty(code), ExpiresAt: expires}, nil
}

// Outcome is what an update is to an ownership.
type Outcome uint8

const (
	// Nothing: it is an update like others.
	Nothing Outcome = iota
	// Proved: its sender owns the bot.
	Proved
	// Refused: it is a code, but a wrong one, or one that has expired, was
	// used or tried too often. Which of these is not told to strangers.
	Refused
)

// String returns the outcome's name, such as "proved".
func (o Outcome) String() string {
	switch o {
	case Proved:
		return "proved"
	case Refused:
		return "refused"
	}
	return "nothing"
}

// Result is what [Verifier.Check] finds.
type Result struct {
	// Outcome says whether there was a code, and whether it was right.
	Outcome Outcome
	// User is who has sent the code, where there is one.
	User int64
	// Proof is who owns the bot, where that was Proved.
	Proof Proof
	// Again says that it was proved before by the same message, which has come
	// twice.
	Again bool
	// Link says that the code came by the invitation's link, and is not a text
	// that might mean something else.
	Link bool
}

// Check looks whether an update proves an ownership, and if so, notes it. Give
// it each update, whichever source it came from; it looks at messages in
// private chats and reads nothing else. [Verifier.Middleware] does so.
//
// After an error nothing is known, and the update may be checked again.
func (v *Verifier) Check(ctx context.Context, u inbox.Update) (Result, error) {
	from, code, link, ok := codeOf(u)
	if !ok {
		return Result{}, nil
	}
	if code == "" {
		return Result{Outcome: Refused, User: from, Link: link}, nil
	}
	tried := false
	for _, user := range [...]int64{from, 0} {
		p, found, err := v.try(ctx, u.Tenant, user, from, code)
		if err != nil {
			return Result{}, fail("check ownership", u.Tenant, errors.KindOf(err), err)
		}
		tried = tried || found
		if p.Tenant != "" {
			v.known.put(p)
			return Result{Outcome: Proved, User: from, Proof: p, Link: link}, nil
		}
	}
	p, err := v.store.Proof(ctx, u.Tenant)
	switch {
	case errors.Is(err, errors.NotFound):
	case err != nil:
		return Result{}, fail("check ownership", u.Tenant, errors.KindOf(err), err)
	case p.Method == ByChallenge && p.User == from && (v.matches(p.Hash, p, from, code) || v.matches(p.Hash, p, 0, code)):
		return Result{Outcome: Proved, User: from, Proof: p, Again: true, Link: link}, nil
	}
	if !tried && !link {
		return Result{}, nil // nobody has asked for one: it means something else
	}
	return Result{Outcome: Refused, User: from, Link: link}, nil
}

// try compares a code with a challenge. The proof is zero where it does not
// match; found says that there was a challenge to compare it with.
func (v *Verifier) try(ctx context.Context, tenant string, user, from int64, code string) (p Proof, found bool, err error) {
	now := time.Now()
	// It is counted before it is compared, so that no number of messages at the
	// same time gets more attempts.
	c, err := v.store.Attempt(ctx, tenant, user, v.cfg.MaxAttempts, now)
	if errors.Is(err, errors.NotFound) {
		return Proof{}, false, nil
	}
	if err != nil {
		return Proof{}, false, err
	}
	if !hmac.Equal(c.Hash, v.hash(tenant, c.BotID, user, code)) {
		return Proof{}, true, nil
	}
	p = Proof{Tenant: tenant, BotID: c.BotID, User: from, Method: ByChallenge, At: normal(now), Hash: c.Hash}
	switch err := v.store.Redeem(ctx, c, p); {
	case errors.Is(err, errors.NotFound):
		return Proof{}, true, nil // somebody was quicker
	case err != nil:
		return Proof{}, false, err
	}
	return p, true, nil
}

// matches compares a code with a proof's hash, in constant time.
func (v *Verifier) matches(hash []byte, p Proof, user int64, code string) bool {
	return hmac.Equal(hash, v.hash(p.Tenant, p.BotID, user, code))
}

// codeOf finds a code in an update, and who sent it. A message that somebody
// else wrote first, that was edited, or that is in a group is none.
func codeOf(u inbox.Update) (from int64, code string, link, ok bool) {
	if u.Kind != "message" {
		return 0, "", false, false
	}
	var m struct {
		Message struct {
			Text string `json:"text"`
			Chat struct {
				ID   int64  `json:"id"`
				Type string `json:"type"`
			} `json:"chat"`
			From struct {
				ID    int64 `json:"id"`
				IsBot bool  `json:"is_bot"`
			} `json:"from"`
			ForwardOrigin json.RawMessage `json:"forward_origin"`
			ForwardDate   json.RawMessage `json:"forward_date"` // of servers before Bot API 7.0
			ViaBot        json.RawMessage `json:"via_bot"`
			SenderChat    json.RawMessage `json:"sender_chat"`
		} `json:"message"`
	}
	if err := json.Unmarshal(u.Raw, &m); err != nil {
		return 0, "", false, false
	}
	msg := &m.Message
	if msg.Chat.Type != "private" || msg.From.ID <= 0 || msg.From.ID != msg.Chat.ID || msg.From.IsBot ||
		msg.ForwardOrigin != nil || msg.ForwardDate != nil || msg.ViaBot != nil || msg.SenderChat != nil {
		return 0, "", false, false
	}
	code, link, ok = parseText(msg.Text)
	if link && !ok {
		// It came by a link of ours that somebody has changed or cut off.
		return msg.From.ID, "", true, true
	}
	return msg.From.ID, code, link, ok
}

// Owner returns who owns a tenant's bot; [errors.Unverified] where nobody has
// proved it, or only of a bot that the tenant had before.
func (v *Verifier) Owner(ctx context.Context, r tenant.Record) (Proof, error) {
	const op = "get owner"
	p, err := v.store.Proof(ctx, r.ID)
	switch {
	case errors.Is(err, errors.NotFound), err == nil && p.BotID != r.BotID:
		return Proof{}, fail(op, r.ID, errors.Unverified, nil)
	case err != nil:
		return Proof{}, fail(op, r.ID, errors.KindOf(err), err)
	}
	return p, nil
}

// Vouch notes that a user owns a tenant's bot, because somebody says so who
// knows.
func (v *Verifier) Vouch(ctx context.Context, r tenant.Record, user int64) (Proof, error) {
	return v.prove(ctx, Proof{Tenant: r.ID, BotID: r.BotID, User: user, Method: ByHand})
}

func (v *Verifier) prove(ctx context.Context, p Proof) (Proof, error) {
	const op = "store proof"
	if p.Tenant == "" || p.BotID <= 0 || p.User <= 0 {
		return Proof{}, fail(op, p.Tenant, errors.BadRequest, errors.New("tenant, bot or user is missing"))
	}
	p.At = normal(time.Now())
	if err := v.store.Prove(ctx, p); err != nil {
		return Proof{}, fail(op, p.Tenant, errors.KindOf(err), err)
	}
	v.known.put(p)
	return p, nil
}

// Forget forgets all of a tenant: call it when the tenant is removed, or is to
// prove itself anew. Other processes may take it for verified for up to
// [Config.CacheFor].
func (v *Verifier) Forget(ctx context.Context, id string) error {
	err := v.store.Forget(ctx, id)
	v.known.drop(id)
	if err != nil {
		return fail("forget ownership", id, errors.KindOf(err), err)
	}
	return nil
}
