package inbox

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/PaulSonOfLars/gotgbot/v2"
	"github.com/tgfleet/tgfleet/errors"
)

// Update is one of Telegram's updates on its way to a handler. [Parse] makes
// one of what Telegram sent. It prints without its content, in every form.
type Update struct {
	// Tenant is the id of the tenant whose bot it is for.
	Tenant string
	// ID is Telegram's update_id, which is greater than 0 and unique within
	// the tenant for at least a day.
	ID int64
	// Kind is the name of the field that the update is in, such as "message"
	// or "callback_query"; see [Kinds].
	Kind string
	// Chat names what the update keeps its order in: updates of one tenant
	// with equal Chats are handled one after the other. It is the chat's id in
	// decimal where the update is of a chat, and else the user's, which is the
	// id of the private chat with the user.
	Chat string
	// Raw is the update as Telegram sent it: valid JSON, but not necessarily
	// valid UTF-8. Read only.
	Raw json.RawMessage
	// ReceivedAt is when a source got it.
	ReceivedAt time.Time
	// ExpiresAt is when handling it is no longer worthwhile; zero is never.
	ExpiresAt time.Time
	// Attempt counts how often it was given to a worker, this time included.
	// 0 until it was; it is the inbox that sets it.
	Attempt int
}

// Expired reports whether the update is not worth handling any more.
func (u Update) Expired(now time.Time) bool {
	return !u.ExpiresAt.IsZero() && !now.Before(u.ExpiresAt)
}

// Decode returns the update as gotgbot's type. The error has kind
// [errors.BadReply] and quotes nothing of the update.
func (u Update) Decode() (*gotgbot.Update, error) {
	var d gotgbot.Update
	if err := json.Unmarshal(u.Raw, &d); err != nil {
		// The text of err may quote the update.
		return nil, fail("decode update", u.Tenant, errors.BadReply, fmt.Errorf("%T", err))
	}
	return &d, nil
}

// Validate reports what keeps an update from being put into an inbox, as an
// error of kind [errors.BadRequest].
func (u Update) Validate() error {
	problem := ""
	switch {
	case u.Tenant == "":
		problem = "tenant is empty"
	case u.ID <= 0:
		problem = "update_id is not positive"
	case u.Kind == "" || len(u.Kind) > maxKind:
		problem = "kind is empty or too long"
	case u.Chat == "" || len(u.Chat) > maxChat:
		problem = "chat is empty or too long"
	case len(u.Raw) == 0:
		problem = "raw update is empty"
	case u.ReceivedAt.IsZero():
		problem = "time of receipt is missing"
	default:
		return nil
	}
	return fail("check update", u.Tenant, errors.BadRequest, errors.New(problem))
}

// Ref names an update.
type Ref struct {
	Tenant string // whose bot it is for
	ID     int64  // Telegram's update_id
}

// Ref returns the update's name.
func (u Update) Ref() Ref { return Ref{u.Tenant, u.ID} }

// String returns the update's name and kind, and none of its content.
func (u Update) String() string { return fmt.Sprintf("%s %d of tenant %q", u.Kind, u.ID, u.Tenant) }

// Format prints what String returns, whatever the verb.
func (u Update) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(u.String())) }

// LogValue makes slog write the update's name and kind.
func (u Update) LogValue() slog.Value {
	return slog.GroupValue(slog.String("tenant", u.Tenant), slog.Int64("id", u.ID), slog.String("kind", u.Kind))
}
