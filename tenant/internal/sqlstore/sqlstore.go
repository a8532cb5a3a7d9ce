// Package sqlstore holds what the SQL stores have in common: how the parts of a
// record become columns, how errors get their kinds, and which migrations are
// to be run. It knows no driver.
package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/session"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/seal"
)

// TokenPurpose is what tokens are sealed for.
const TokenPurpose = "bot token"

// Fail makes a store's error. One that has a kind already is returned as it is.
func Fail(op, id string, kind errors.Kind, err error) error {
	if e, ok := errors.AsType[*errors.Error](err); ok {
		return e
	}
	return &errors.Error{Kind: kind, Op: op, Key: id, Delivery: errors.NotDelivered, Err: err}
}

// Ended is the error of an operation whose context has ended.
func Ended(ctx context.Context, op, id string) error {
	return &errors.Error{
		Kind: errors.KindOf(ctx.Err()), Op: op, Key: id, Delivery: errors.NotDelivered, Err: context.Cause(ctx),
	}
}

// Check refuses what no store takes.
func Check(r tenant.Record, log []tenant.Entry) error {
	if err := r.Validate(); err != nil {
		return err
	}
	return CheckLog(log)
}

// CheckLog refuses entries that no store takes.
func CheckLog(log []tenant.Entry) error {
	for _, e := range log {
		if err := e.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Storable reports whether every database takes a text: PostgreSQL has no NUL,
// and no text that is not UTF-8.
func Storable(text string) bool { return utf8.ValidString(text) && strings.IndexByte(text, 0) < 0 }

// CheckHealth refuses words that no store takes.
func CheckHealth(health map[string]string) error {
	for id, h := range health {
		if !Storable(h) {
			return Fail("set health", id, errors.BadRequest, errors.New("health is not UTF-8 or has a NUL"))
		}
	}
	return nil
}

// Seal returns what to store of a record's token, and the key that sealed it;
// nothing where the stored token is to stay.
func Seal(keys *seal.Ring, r tenant.Record) (sealed []byte, key string, err error) {
	if r.TokenErr != nil {
		return nil, "", nil
	}
	sealed, err = keys.Seal(TokenPurpose, r.ID, []byte(r.Token.Reveal()))
	return sealed, keys.Newest(), err
}

// Unseal sets a record's token, or why it has none.
func Unseal(keys *seal.Ring, r *tenant.Record, sealed []byte) {
	text, err := keys.Open(TokenPurpose, r.ID, sealed)
	if err == nil {
		r.Token, err = session.ParseToken(string(text))
	}
	if err == nil && r.Token.ID() != r.BotID {
		r.Token, err = session.Token{}, Fail("read tenant", r.ID, errors.Internal, errors.New("the token is of another bot than the row"))
	}
	r.TokenErr = err
}

// Decode sets the parts of a record that are stored as text. A row that is not
// understood, such as one that a newer version of the code wrote, becomes a
// record that nobody can use rather than an error: it keeps nobody from reading
// the others. It is called after Unseal; bad are columns that are known not to
// be understood.
func Decode(r *tenant.Record, status, limits, metadata string, bad ...string) {
	note := func(column string, err error) {
		if err != nil { // whose text may be the column's
			bad = append(bad, column)
		}
	}
	var err error
	note("status", r.Status.UnmarshalText([]byte(status)))
	r.Limits, err = ParseLimits(limits)
	note("limits", err)
	r.Metadata, err = ParseMetadata(metadata)
	note("metadata", err)
	if len(bad) > 0 {
		r.Status, r.Token = tenant.Suspended, session.Token{}
		r.TokenErr = Fail("read tenant", r.ID, errors.Internal, fmt.Errorf("%w: %s", tenant.ErrNotUnderstood, strings.Join(bad, ", ")))
	}
}

// StatusOf reads the status of a change. One that is not known is nobody's to
// use.
func StatusOf(text string) (s tenant.Status) {
	if s.UnmarshalText([]byte(text)) != nil {
		return tenant.Suspended
	}
	return s
}

// Limits writes limits as JSON; those that are all default as "".
func Limits(l session.Limits) (string, error) {
	if l.IsZero() {
		return "", nil
	}
	b, err := json.Marshal(l)
	return string(b), err
}

// ParseLimits reads what Limits wrote.
func ParseLimits(text string) (l session.Limits, err error) {
	if text == "" {
		return l, nil
	}
	err = json.Unmarshal([]byte(text), &l)
	return l, err
}

// Metadata writes metadata as JSON; none as "{}".
func Metadata(m map[string]string) (string, error) {
	if len(m) == 0 {
		return "{}", nil
	}
	b, err := json.Marshal(m)
	return string(b), err
}

// ParseMetadata reads what Metadata wrote.
func ParseMetadata(text string) (m map[string]string, err error) {
	if text == "{}" {
		return nil, nil
	}
	err = json.Unmarshal([]byte(text), &m)
	return m, err
}
