package health

import (
	"context"
	"time"
)

// Store keeps a [Snapshot] of each tenant. Implementations are safe for
// concurrent use by many replicas, obey ctx, and return errors with the kinds
// named here; any other failure has the kind that fits it, and
// [errors.Internal] where none does. Snapshots go in and come out as copies.
// Package healthtest has the suite that each must pass.
type Store interface {
	// Merge adds each of the snapshots to what is stored of its tenant, as
	// [Snapshot.Merge] does; where nothing is stored it is stored as it is. No
	// tenant comes twice in a call.
	//
	// A flush is applied whole or not at all, and once: if one of the same
	// writer with this sequence number or a greater one was applied before,
	// Merge changes nothing and returns nil. That must hold across processes,
	// so the writer's last number is written in the transaction that adds. A
	// writer sends a flush again after any error, with the same content or
	// less of it, and the next one only after success. What is known of a
	// writer may be forgotten [FlushMemory] after its last flush.
	//
	// Two replicas may add to the same tenants at the same time, also to such
	// as are not stored yet, in any order: none of it may be lost. A database
	// had best write its rows in one order, so that they do not lock each
	// other out.
	//
	// The error is [errors.BadRequest] for a flush that [Flush.Check] finds fault
	// with, and where a tenant is empty.
	Merge(ctx context.Context, flush Flush, snapshots []Snapshot) error

	// Load returns snapshots by ascending tenant (compared byte by byte), at
	// most limit of them, beginning after the given one; "" begins at the
	// start. An empty result is the end and no error. A limit of 0 and less
	// means [DefaultLimit].
	Load(ctx context.Context, after string, limit int) ([]Snapshot, error)

	// Delete removes a tenant's snapshot where its [Snapshot.Latest] is before
	// the given time; the zero time removes it in any case. It is no error if
	// there is none, or if it stays.
	Delete(ctx context.Context, tenant string, before time.Time) error
}

// DefaultLimit is how many snapshots Load returns where the caller does not
// say.
const DefaultLimit = 1000
