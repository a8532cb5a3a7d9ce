package tenant

import "context"

// Store keeps records. Implementations are safe for concurrent use, obey ctx,
// and return errors with the kinds named here; any other failure has the kind
// that fits it, and [errors.Internal] where none does. Records go in and come
// out as copies.
//
// A store outside this process must seal Token.Reveal() before it writes it.
type Store interface {
	// Get returns the record of a tenant; [errors.NotFound] where there is
	// none.
	Get(ctx context.Context, id string) (Record, error)

	// ByBot returns the record of the tenant that a bot belongs to;
	// [errors.NotFound] where there is none.
	ByBot(ctx context.Context, botID int64) (Record, error)

	// Put stores a record and returns it with its new version. With Version 0
	// it creates: [errors.Exists] where the id is taken. Otherwise it replaces
	// the record of that version: [errors.Stale] where the stored version is
	// another, [errors.NotFound] where there is no record. A bot that belongs
	// to another tenant is [errors.TokenTaken], which the store itself
	// enforces, also between processes. On an error nothing is changed.
	Put(ctx context.Context, r Record) (Record, error)

	// Delete removes the record of that version, with the errors of Put.
	Delete(ctx context.Context, id string, version int64) error

	// List returns records by ascending id (compared byte by byte), at most
	// filter.Limit of them, beginning after filter.After. An empty result is
	// the end and no error.
	List(ctx context.Context, filter Filter) ([]Record, error)
}

// DefaultLimit is how many records List returns where the filter does not say.
const DefaultLimit = 100

// Filter selects records. The zero Filter selects all.
type Filter struct {
	// Status selects records of one of these; empty selects all.
	Status []Status
	// After is the id that the page begins after; "" begins at the start.
	After string
	// Limit bounds the page. 0 and less mean [DefaultLimit].
	Limit int
}
