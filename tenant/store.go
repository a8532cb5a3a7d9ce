package tenant

import "context"

// Store keeps records, and the log of who changed them. Implementations are
// safe for concurrent use, obey ctx, and return errors with the kinds named
// here; a database that can't be reached, restarts, is busy or full is
// [errors.StoreUnavailable], and what has no better kind [errors.Internal].
// Records go in and come out as copies; times are kept in UTC, to the
// microsecond.
//
// A change is whole or not there. On an error nothing is changed, with one
// exception that no store on a network can avoid: where ctx ended or the
// connection broke while a change was being committed ([errors.Canceled],
// [errors.Timeout], [errors.StoreUnavailable]), it may have been made, in whole.
// Where that is possible the error's Delivery is [errors.MaybeDelivered], so that
// [errors.SafeToRepeat] is false.
//
// An id that no record can have is nobody's, and not an error of its own.
//
// A store outside this process seals Token.Reveal() before it writes it, with
// package seal. Where a token can't be unsealed, the record comes without it
// and says why in TokenErr: a key that is missing hides no tenant.
//
// Package storetest tests all that this contract says.
type Store interface {
	// Get returns the record of a tenant; [errors.NotFound] where there is
	// none.
	Get(ctx context.Context, id string) (Record, error)

	// GetMany returns the records of those of the tenants that are there, by
	// id, in one query or few: it is what opens a fleet quickly. An id may
	// stand in ids more than once.
	//
	// What is stored of a tenant and can't be unsealed or understood is a record
	// with a TokenErr. Where the database itself can't read a row, as on a page
	// that is damaged, GetMany may fail whole, with [errors.Internal]: who asks
	// for the others without that tenant gets them.
	GetMany(ctx context.Context, ids []string) (map[string]Record, error)

	// ByBot returns the record of the tenant that a bot belongs to;
	// [errors.NotFound] where there is none.
	ByBot(ctx context.Context, botID int64) (Record, error)

	// List returns records by ascending id (compared byte by byte), at most
	// filter.Limit of them and fewer where the page would be very large,
	// beginning after filter.After. An empty result is the end and no error.
	List(ctx context.Context, filter Filter) ([]Record, error)

	// Put stores a record and returns it with its new version. With Version 0
	// it creates: [errors.Exists] where the id is taken. What is created where a
	// record was removed begins above the versions which that one had, so that
	// whoever still has it changes nothing. Otherwise it replaces
	// the record of that version: [errors.Stale] where the stored version is
	// another, [errors.NotFound] where there is no record. A bot that belongs
	// to another tenant is [errors.TokenTaken], which the store itself
	// enforces, also between processes. What [Record.Validate] or
	// [Entry.Validate] refuses is [errors.BadRequest].
	//
	// The entries go into the log in the same transaction; the store sets
	// their Seq, Tenant, BotID and Version. Health is left as stored. A record
	// with a TokenErr keeps the token, and the bot, that are stored.
	Put(ctx context.Context, r Record, log ...Entry) (Record, error)

	// Delete removes the record of that version, with the errors of Put, and
	// logs entries in the same transaction. The log of the tenant stays.
	Delete(ctx context.Context, id string, version int64, log ...Entry) error

	// SetHealth stores how tenants are, by id, in the words of whoever finds
	// out; ids that are not there are left out. It is no change of a record:
	// versions stay, nobody who watches hears of it.
	SetHealth(ctx context.Context, health map[string]string) error

	// Log returns entries by ascending Seq, at most filter.Limit of them and
	// fewer where the page would be very large, beginning after filter.After. An
	// empty result is the end and no error. No entry appears before one that has
	// been read: who goes on after the last one misses none.
	Log(ctx context.Context, filter LogFilter) ([]Entry, error)

	// Watch calls f for every change of a record, made by this process or
	// another, until ctx ends, which is the only way it ends well: its error
	// then is ctx's. After any other error changes were missed; call it again.
	//
	// f is called by one goroutine. It hears the zero [Change] first, once no
	// later change is missed, and again wherever some may have been: whatever
	// was read before then may be out of date. Changes of one tenant come in
	// their order, each at least once.
	Watch(ctx context.Context, f func(Change)) error
}

// DefaultLimit is how many records List and Log return where the filter does
// not say.
const DefaultLimit = 100

// Filter selects records. The zero Filter selects all.
type Filter struct {
	// Status selects records of one of these; empty selects all.
	Status []Status
	// Health selects records with one of these; empty selects all, and "" is
	// the health of those of whom nothing is known.
	Health []string
	// After is the id that the page begins after; "" begins at the start.
	After string
	// Limit bounds the page. 0 and less mean [DefaultLimit].
	Limit int
}

// Change tells of a record that was stored or removed. The zero Change says
// that any may have been.
type Change struct {
	// ID is the tenant's.
	ID string
	// Version is the record's new version, and 0 where it was removed.
	Version int64
	// Status is the record's new status.
	Status Status
}
