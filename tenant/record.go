package tenant

import (
	"maps"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// MaxIDLen is the length of the longest tenant id, in bytes.
const MaxIDLen = 128

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
	// Status says whether the bot may be used, and Reason why not, in words
	// for the operator.
	Status Status
	Reason string
	// Limits are the tenant's own; zero fields mean the fleet's. They bind
	// where [PoolConfig].Limiter is set.
	Limits session.Limits
	// Metadata is the caller's.
	Metadata map[string]string
	// Version is 0 for a record that was not stored yet, and grows with every
	// Put. The store sets it.
	Version int64
	// CreatedAt and UpdatedAt are set by [Manager], in UTC.
	CreatedAt, UpdatedAt time.Time
}

// Clone returns a copy that shares nothing that can be changed.
func (r Record) Clone() Record {
	r.Metadata = maps.Clone(r.Metadata)
	return r
}

// Validate reports what keeps a record from being stored, as an error of kind
// [errors.BadRequest].
func (r Record) Validate() error {
	if err := checkID(r.ID); err != nil {
		return err
	}
	if r.Token.IsZero() || r.BotID != r.Token.ID() {
		return fail("check record", r.ID, errors.BadRequest, errors.New("token is missing or of another bot"))
	}
	if err := r.Limits.Check(); err != nil {
		return fail("check record", r.ID, errors.BadRequest, err)
	}
	return nil
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
