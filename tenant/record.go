package tenant

import (
	"maps"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/ratelimit"
	"github.com/tgfleet/tgfleet/session"
)

// Bounds of a record, in bytes.
const (
	// MaxIDLen is the length of the longest tenant id.
	MaxIDLen = 128
	// MaxMetadata is how long the keys and values of Metadata may be together.
	MaxMetadata = 1 << 20
)

// ErrNotUnderstood says, in [Record].TokenErr, that a store does not understand
// what is stored of a tenant, such as a status that a newer version of the code
// knows. The record then is Suspended, without what was not understood. It can
// be removed; to change it would lose the rest.
var ErrNotUnderstood = errors.New("the stored record is not understood")

// Record is what is stored of a tenant. It prints without the token's secret,
// in every form.
type Record struct {
	// ID is the caller's own name for the tenant: 1 to [MaxIDLen] bytes of
	// UTF-8 without control characters.
	ID string
	// BotID is the bot's user id. One bot belongs to one tenant.
	BotID int64
	// Username and Name are the bot's, as getMe last returned them; Username
	// is without "@".
	Username, Name string
	// Token is the bot's token.
	Token session.Token
	// TokenErr says why Token is missing where a store could not unseal it,
	// such as [seal.ErrNoKey], or could not read the record whole, which is
	// [ErrNotUnderstood]. It is nil in all other records. Such a record can be
	// changed, but for one that was not understood, and removed; its bot can't
	// be opened.
	TokenErr error `json:"-"`
	// Status says whether the bot may be used, and Reason why not, in words
	// for the operator.
	Status Status
	Reason string
	// Limits are the tenant's own; zero fields mean the fleet's. They bind
	// where [PoolConfig].Limiter is set.
	Limits session.Limits
	// Health is what [Store].SetHealth last stored; "" where nothing is known.
	Health string
	// Metadata is the caller's: at most [MaxMetadata] of UTF-8 without NUL, in
	// the clear. It is no place for secrets.
	Metadata map[string]string
	// Version is 0 for a record that was not stored yet, and grows with every
	// Put. The store sets it.
	Version int64
	// CreatedAt and UpdatedAt are set by [Manager], in UTC, to the microsecond.
	CreatedAt, UpdatedAt time.Time
}

// Clone returns a copy that shares nothing that can be changed.
func (r Record) Clone() Record {
	r.Metadata = maps.Clone(r.Metadata)
	return r
}

// Normal returns the record as stores keep it: a copy whose times are in UTC
// and cut to microseconds, without empty metadata, and with a number for limits
// that are infinite, since JSON has none.
func (r Record) Normal() Record {
	r = r.Clone()
	if len(r.Metadata) == 0 {
		r.Metadata = nil
	}
	for _, l := range []*ratelimit.Limit{&r.Limits.Bot, &r.Limits.Paid, &r.Limits.Private, &r.Limits.Group} {
		if math.IsInf(l.Rate, 1) {
			l.Rate = ratelimit.Unlimited.Rate
		}
	}
	r.CreatedAt = r.CreatedAt.UTC().Truncate(time.Microsecond)
	r.UpdatedAt = r.UpdatedAt.UTC().Truncate(time.Microsecond)
	return r
}

// Validate reports what keeps a record from being stored, as an error of kind
// [errors.BadRequest]. Texts that hold the token's secret are refused too:
// they would be stored in the clear.
func (r Record) Validate() error {
	if err := checkID(r.ID); err != nil {
		return err
	}
	problem := ""
	switch {
	case errors.Is(r.TokenErr, ErrNotUnderstood):
		problem = ErrNotUnderstood.Error()
	case r.TokenErr != nil && (r.Version == 0 || r.BotID <= 0):
		problem = "token could not be unsealed, and there is none stored"
	case r.TokenErr == nil && (r.Token.IsZero() || r.BotID != r.Token.ID()):
		problem = "token is missing or of another bot"
	case r.Version < 0:
		problem = "version is negative"
	case int(r.Status) >= len(statusNames):
		problem = "status is not known"
	case !storableTime(r.CreatedAt) || !storableTime(r.UpdatedAt):
		problem = "a time is not of the years 1 to 9999"
	default:
		problem = r.checkTexts()
	}
	if problem != "" {
		return fail("check record", r.ID, errors.BadRequest, errors.New(problem))
	}
	if err := r.Limits.Check(); err != nil {
		return fail("check record", r.ID, errors.BadRequest, err)
	}
	return nil
}

// checkTexts returns what is wrong with a record's texts.
func (r Record) checkTexts() string {
	_, secret, _ := strings.Cut(r.Token.Reveal(), ":")
	shows := func(text string) bool {
		// What is shorter is no secret, and may be in any text.
		return len(secret) >= 16 && strings.Contains(text, secret)
	}
	for _, text := range []string{r.Username, r.Name, r.Reason} {
		if !storable(text) {
			return "username, name or reason is not UTF-8 or has a NUL"
		}
		if shows(text) {
			return "username, name or reason holds the token's secret"
		}
	}
	size := 0
	for key, value := range r.Metadata {
		size += len(key) + len(value)
		if !storable(key) || !storable(value) {
			return "metadata is not UTF-8 or has a NUL"
		}
		if shows(key) || shows(value) {
			return "metadata holds the token's secret"
		}
	}
	if size > MaxMetadata {
		return "metadata is longer than 1 MiB"
	}
	return ""
}

func (r Record) user() gotgbot.User {
	return gotgbot.User{Id: r.BotID, IsBot: true, FirstName: r.Name, Username: r.Username}
}

func checkID(id string) error {
	problem := ""
	switch {
	case id == "":
		problem = "tenant id is empty"
	case len(id) > MaxIDLen:
		return fail("check tenant id", "", errors.BadRequest, errors.New("tenant id is longer than 128 bytes"))
	case session.Redact(id) != id:
		// Who mixes up the fields of a form must not find the token in a log.
		return fail("check tenant id", "", errors.BadRequest, errors.New("tenant id looks like a token"))
	case !utf8.ValidString(id):
		return fail("check tenant id", "", errors.BadRequest, errors.New("tenant id is not UTF-8"))
	default:
		for _, r := range id {
			if unicode.IsControl(r) {
				problem = "tenant id has a control character"
			}
		}
	}
	if problem != "" {
		return fail("check tenant id", id, errors.BadRequest, errors.New(problem))
	}
	return nil
}

// fail makes an error of this package. An error that has a kind already is
// returned as it is.
func fail(op, id string, kind errors.Kind, err error) error {
	if e, ok := errors.AsType[*errors.Error](err); ok {
		return e
	}
	return &errors.Error{Kind: kind, Op: op, Key: id, Delivery: errors.NotDelivered, Err: err}
}
