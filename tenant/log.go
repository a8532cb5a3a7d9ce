package tenant

import (
	"context"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
)

// Entry is a line of the log of changes: who did what, when. It holds no
// secret.
type Entry struct {
	// Seq is the entry's place in the log. It grows, with gaps. The store
	// sets it, and Tenant, BotID and Version too.
	Seq int64 `json:"seq"`
	// Time is when, in UTC.
	Time time.Time `json:"time"`
	// Tenant and BotID are whose record was changed.
	Tenant string `json:"tenant"`
	BotID  int64  `json:"bot_id"`
	// Version is the record's after the change; the last one where it was
	// removed.
	Version int64 `json:"version"`
	// Actor is who, as [WithActor] said; "" is the service itself.
	Actor string `json:"actor,omitempty"`
	// Action is what was done.
	Action Action `json:"action"`
	// Detail is more about it, such as the reason of a suspension.
	Detail string `json:"detail,omitempty"`
}

// Action is what was done to a tenant. Services may log actions of their own.
type Action string

// The actions of a [Manager], and of [Import].
const (
	ActionRegister   Action = "register"
	ActionRotate     Action = "rotate"
	ActionLimit      Action = "limit"
	ActionSuspend    Action = "suspend"
	ActionResume     Action = "resume"
	ActionQuarantine Action = "quarantine"
	ActionRemove     Action = "remove"
	ActionImport     Action = "import"
)

// LogFilter selects entries of the log. The zero LogFilter selects all.
type LogFilter struct {
	// Tenant selects the entries of one tenant; "" selects all.
	Tenant string
	// After is the Seq that the page begins after.
	After int64
	// Limit bounds the page. 0 and less mean [DefaultLimit].
	Limit int
}

// Bounds of an entry's texts, in bytes. The manager cuts what is longer.
const (
	maxActor  = 256
	maxDetail = 1024
)

// Validate reports what keeps an entry from being stored, as an error of kind
// [errors.BadRequest].
func (e Entry) Validate() error {
	problem := ""
	switch {
	case e.Action == "" || len(e.Action) > maxActor || !storable(string(e.Action)):
		problem = "action is missing, longer than 256 bytes or not text"
	case len(e.Actor) > maxActor || !storable(e.Actor):
		problem = "actor is longer than 256 bytes or not text"
	case len(e.Detail) > maxDetail || !storable(e.Detail):
		problem = "detail is longer than 1024 bytes or not text"
	case !storableTime(e.Time):
		problem = "time is not of the years 1 to 9999"
	case session.Redact(e.Actor) != e.Actor || session.Redact(e.Detail) != e.Detail || session.Redact(string(e.Action)) != string(e.Action):
		problem = "looks like it holds a token"
	}
	if problem != "" {
		return fail("check log entry", "", errors.BadRequest, errors.New(problem))
	}
	return nil
}

type actorKey struct{}

// WithActor returns a context whose changes are logged as made by who: a user,
// an operator, another service. Without it they are the service's own.
func WithActor(ctx context.Context, who string) context.Context {
	return context.WithValue(ctx, actorKey{}, who)
}

// ActorOf returns what WithActor said, or "".
func ActorOf(ctx context.Context) string {
	who, _ := ctx.Value(actorKey{}).(string)
	return who
}

// entry makes the manager's entry of a change, now.
func entry(ctx context.Context, action Action, detail string) Entry {
	return Entry{
		Time:   now(),
		Actor:  clean(ActorOf(ctx), maxActor),
		Action: action,
		Detail: clean(detail, maxDetail),
	}
}

// now is the time, as exact as stores keep it.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// clean makes a text that others wrote fit to be stored and shown: UTF-8
// without control characters and tokens, of at most limit bytes.
func clean(text string, limit int) string {
	text = session.Redact(strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	if len(text) > limit {
		text = text[:limit]
		for !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	return strings.TrimSpace(text)
}

// storable reports whether every database takes the text as it is: PostgreSQL
// has no NUL, and no text that is not UTF-8.
func storable(text string) bool {
	return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0
}

func storableTime(t time.Time) bool {
	return t.IsZero() || t.UTC().Year() >= 1 && t.UTC().Year() <= 9999
}
