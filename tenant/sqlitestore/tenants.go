package sqlitestore

import (
	"context"
	"database/sql"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Tenants is a [tenant.Store]. Take it from [DB.Tenants].
type Tenants struct {
	db                              *DB
	get, getMany, byBot, list       *sql.Stmt
	log, logOf                      *sql.Stmt
	insert, update, remove, version *sql.Stmt
	addEntry, setHealth             *sql.Stmt
	changes, lastChange             *sql.Stmt
	oldEntries                      *sql.Stmt
	sealed, replace                 *sql.Stmt
}

var _ tenant.Store = (*Tenants)(nil)

const columns = "id, bot_id, username, name, token, status, reason, health, limits, metadata, version, created_at, updated_at"

const entries = "SELECT seq, time, tenant, bot_id, version, actor, action, detail FROM log "

func newTenants(ctx context.Context, db *DB) (*Tenants, error) {
	s := &Tenants{db: db}
	return s, prepare(ctx, s.prepared(db))
}

func (s *Tenants) prepared(db *DB) []prepared {
	return []prepared{
		{&s.get, db.read, "SELECT " + columns + " FROM tenants WHERE id = ?"},
		{&s.getMany, db.read, "SELECT " + columns + " FROM tenants WHERE id IN (SELECT value FROM json_each(?))"},
		{&s.byBot, db.read, "SELECT " + columns + " FROM tenants WHERE bot_id = ?"},
		{&s.list, db.read, "SELECT " + columns + ` FROM tenants WHERE id > ?1
			AND (?2 = '' OR status IN (SELECT value FROM json_each(?2)))
			AND (?3 = '' OR health IN (SELECT value FROM json_each(?3)))
			ORDER BY id LIMIT ?4`},
		{&s.log, db.read, entries + "WHERE seq > ?1 AND ?2 = '' ORDER BY seq LIMIT ?3"},
		{&s.logOf, db.read, entries + "WHERE seq > ?1 AND tenant = ?2 ORDER BY seq LIMIT ?3"},
		{&s.insert, db.write, `INSERT INTO tenants
			(id, bot_id, username, name, token, token_key, status, reason, limits, metadata, version, created_at, updated_at)
			VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10,
				?11 + 1 + (SELECT retired FROM tenant_versions), ?12, ?13)
			RETURNING version`},
		{&s.update, db.write, `UPDATE tenants SET bot_id = CASE WHEN ?5 IS NULL THEN bot_id ELSE ?2 END, username = ?3, name = ?4,
			token = coalesce(?5, token), token_key = coalesce(?6, token_key), status = ?7, reason = ?8,
			limits = ?9, metadata = ?10, version = ?11 + 1, created_at = ?12, updated_at = ?13
			WHERE id = ?1 AND version = ?11 RETURNING bot_id, health`},
		{&s.remove, db.write, "DELETE FROM tenants WHERE id = ? AND version = ? RETURNING bot_id"},
		{&s.version, db.write, "SELECT version FROM tenants WHERE id = ?"},
		{&s.addEntry, db.write, "INSERT INTO log (time, tenant, bot_id, version, actor, action, detail) VALUES (?, ?, ?, ?, ?, ?, ?)"},
		{&s.setHealth, db.write, `UPDATE tenants SET health = h.value FROM json_each(?) AS h
			WHERE tenants.id = h.key AND health IS NOT h.value`},
		{&s.lastChange, db.read, "SELECT seq, id, version, status FROM tenant_changes ORDER BY seq DESC LIMIT 1"},
		{&s.changes, db.read, "SELECT seq, id, version, status FROM tenant_changes WHERE seq >= ? ORDER BY seq LIMIT 500"},
		{&s.oldEntries, db.write, `DELETE FROM log WHERE seq IN (SELECT seq FROM log
			WHERE ifnull(time, -9000000000000000000) < ? ORDER BY ifnull(time, -9000000000000000000) LIMIT ?)`},
		{&s.sealed, db.read, "SELECT id, token FROM tenants WHERE id > ? AND token_key <> ? ORDER BY id LIMIT ?"},
		{&s.replace, db.write, "UPDATE tenants SET token = ?1, token_key = ?2 WHERE id = ?3 AND token = ?4"},
	}
}

// Get implements [tenant.Store].
func (s *Tenants) Get(ctx context.Context, id string) (tenant.Record, error) {
	const op = "get tenant"
	if !sqlstore.Storable(id) {
		return tenant.Record{}, failure(ctx, op, "", sql.ErrNoRows)
	}
	r, err := s.scan(s.get.QueryRowContext(ctx, id))
	return r, failure(ctx, op, id, err)
}

// ByBot implements [tenant.Store].
func (s *Tenants) ByBot(ctx context.Context, botID int64) (tenant.Record, error) {
	r, err := s.scan(s.byBot.QueryRowContext(ctx, botID))
	return r, failure(ctx, "get tenant by bot", "", err)
}

// GetMany implements [tenant.Store], in one query.
func (s *Tenants) GetMany(ctx context.Context, ids []string) (map[string]tenant.Record, error) {
	const op = "get tenants"
	list, err := jsonList(storable(ids))
	if err != nil {
		return nil, sqlstore.Fail(op, "", errors.Internal, err)
	}
	found := make(map[string]tenant.Record, len(ids))
	err = s.each(ctx, s.getMany, func(r tenant.Record) bool { found[r.ID] = r; return true }, list)
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	return found, nil
}

// List implements [tenant.Store].
func (s *Tenants) List(ctx context.Context, f tenant.Filter) ([]tenant.Record, error) {
	const op = "list tenants"
	if f.Limit <= 0 {
		f.Limit = tenant.DefaultLimit
	}
	status, health := "", ""
	var err error
	if len(f.Status) > 0 {
		names := make([]string, len(f.Status))
		for i, s := range f.Status {
			names[i] = s.String()
		}
		status, err = jsonList(names)
	}
	if len(f.Health) > 0 && err == nil {
		health, err = jsonList(storable(f.Health))
	}
	if err != nil {
		return nil, sqlstore.Fail(op, "", errors.Internal, err)
	}
	var page []tenant.Record
	var room sqlstore.PageRoom
	err = s.each(ctx, s.list, func(r tenant.Record) bool {
		if !room.Take(sqlstore.SizeOf(&r)) {
			return false
		}
		page = append(page, r)
		return true
	}, f.After, status, health, f.Limit)
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	return page, nil
}

// storable returns those of texts that can be stored: the others are nobody's,
// and JSON would make them into texts that may be somebody's.
func storable(texts []string) []string {
	unfit := func(text string) bool { return !sqlstore.Storable(text) }
	if !slices.ContainsFunc(texts, unfit) {
		return texts
	}
	return slices.DeleteFunc(slices.Clone(texts), unfit)
}

// jsonList writes a list that json_each reads: SQLite has no arrays.
func jsonList(all []string) (string, error) {
	if all == nil {
		return "[]", nil
	}
	b, err := json.Marshal(all)
	return string(b), err
}

// each calls f for each record that a query returns, until f returns false.
func (s *Tenants) each(ctx context.Context, query *sql.Stmt, f func(tenant.Record) bool, args ...any) error {
	rows, err := query.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		r, err := s.scan(rows)
		if err != nil {
			return err
		}
		if !f(r) {
			return nil
		}
	}
	return rows.Err()
}

// scan reads a record of columns.
func (s *Tenants) scan(row interface{ Scan(...any) error }) (tenant.Record, error) {
	var r tenant.Record
	var sealed []byte
	var status, limits, metadata string
	var created, updated sql.NullInt64
	err := row.Scan(&r.ID, &r.BotID, &r.Username, &r.Name, &sealed, &status, &r.Reason, &r.Health,
		&limits, &metadata, &r.Version, &created, &updated)
	if err != nil {
		return tenant.Record{}, err
	}
	r.CreatedAt, r.UpdatedAt = timeOf(created), timeOf(updated)
	sqlstore.Unseal(s.db.cfg.Keys, &r, sealed)
	sqlstore.Decode(&r, status, limits, metadata)
	return r, nil
}

// Put implements [tenant.Store].
func (s *Tenants) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (tenant.Record, error) {
	const op = "put tenant"
	if err := sqlstore.Check(r, log); err != nil {
		return tenant.Record{}, err
	}
	r = r.Normal()
	args, err := s.row(r)
	if err != nil {
		return tenant.Record{}, sqlstore.Fail(op, r.ID, errors.Internal, err)
	}
	err = s.db.change(ctx, func(tx *sql.Tx) error {
		if r.Version == 0 {
			if err := tx.StmtContext(ctx, s.insert).QueryRowContext(ctx, args...).Scan(&r.Version); err != nil {
				return s.refused(ctx, tx, op, r.ID, err)
			}
			r.Health = ""
		} else {
			err := tx.StmtContext(ctx, s.update).QueryRowContext(ctx, args...).Scan(&r.BotID, &r.Health)
			if err == sql.ErrNoRows {
				return s.missed(ctx, tx, op, r.ID)
			}
			if err != nil {
				return err
			}
			r.Version++
		}
		return s.addLog(ctx, tx, r, log)
	})
	if err != nil {
		return tenant.Record{}, failure(ctx, op, r.ID, err)
	}
	return r, nil
}

// row returns the arguments of insert and update.
func (s *Tenants) row(r tenant.Record) ([]any, error) {
	limits, err := sqlstore.Limits(r.Limits)
	if err != nil {
		return nil, err
	}
	metadata, err := sqlstore.Metadata(r.Metadata)
	if err != nil {
		return nil, err
	}
	sealed, key, err := sqlstore.Seal(s.db.cfg.Keys, r)
	if err != nil {
		return nil, err
	}
	token, tokenKey := any(nil), any(nil) // stays as stored
	if sealed != nil {
		token, tokenKey = sealed, key
	}
	return []any{
		r.ID, r.BotID, r.Username, r.Name, token, tokenKey, r.Status.String(), r.Reason,
		limits, metadata, r.Version, micros(r.CreatedAt), micros(r.UpdatedAt),
	}, nil
}

// refused says why a record could not be inserted. SQLite names the one or the
// other of two constraints; that the tenant exists comes first.
func (s *Tenants) refused(ctx context.Context, tx *sql.Tx, op, id string, err error) error {
	if !constraint(err) {
		return err
	}
	switch missed := s.missed(ctx, tx, op, id); {
	case errors.Is(missed, errors.Stale):
		return sqlstore.Fail(op, id, errors.Exists, nil)
	case missed == sql.ErrNoRows:
		return sqlstore.Fail(op, id, errors.TokenTaken, nil)
	default:
		return missed
	}
}

// missed says why a change found no record of the version.
func (s *Tenants) missed(ctx context.Context, tx *sql.Tx, op, id string) error {
	var version int64
	if err := tx.StmtContext(ctx, s.version).QueryRowContext(ctx, id).Scan(&version); err != nil {
		return err // no rows: not found
	}
	return sqlstore.Fail(op, id, errors.Stale, nil)
}

// Delete implements [tenant.Store].
func (s *Tenants) Delete(ctx context.Context, id string, version int64, log ...tenant.Entry) error {
	const op = "delete tenant"
	if err := sqlstore.CheckLog(log); err != nil {
		return err
	}
	if !sqlstore.Storable(id) {
		return failure(ctx, op, "", sql.ErrNoRows)
	}
	err := s.db.change(ctx, func(tx *sql.Tx) error {
		r := tenant.Record{ID: id, Version: version}
		err := tx.StmtContext(ctx, s.remove).QueryRowContext(ctx, id, version).Scan(&r.BotID)
		if err == sql.ErrNoRows {
			return s.missed(ctx, tx, op, id)
		}
		if err != nil {
			return err
		}
		return s.addLog(ctx, tx, r, log)
	})
	return failure(ctx, op, id, err)
}

// SetHealth implements [tenant.Store].
func (s *Tenants) SetHealth(ctx context.Context, health map[string]string) error {
	const op = "set health"
	if err := sqlstore.CheckHealth(health); err != nil {
		return err
	}
	known := maps.Clone(health)
	maps.DeleteFunc(known, func(id, _ string) bool { return !sqlstore.Storable(id) })
	if len(known) == 0 && ctx.Err() == nil {
		return nil
	}
	all, err := json.Marshal(known)
	if err != nil {
		return sqlstore.Fail(op, "", errors.Internal, err)
	}
	err = s.db.change(ctx, func(tx *sql.Tx) error {
		_, err := tx.StmtContext(ctx, s.setHealth).ExecContext(ctx, string(all))
		return err
	})
	return failure(ctx, op, "", err)
}

func (s *Tenants) addLog(ctx context.Context, tx *sql.Tx, r tenant.Record, log []tenant.Entry) error {
	for _, e := range log {
		_, err := tx.StmtContext(ctx, s.addEntry).ExecContext(ctx,
			micros(e.Time), r.ID, r.BotID, r.Version, e.Actor, string(e.Action), e.Detail)
		if err != nil {
			return err
		}
	}
	return nil
}

// Log implements [tenant.Store].
func (s *Tenants) Log(ctx context.Context, f tenant.LogFilter) ([]tenant.Entry, error) {
	const op = "read log"
	if !sqlstore.Storable(f.Tenant) {
		return nil, nil
	}
	if f.Limit <= 0 {
		f.Limit = tenant.DefaultLimit
	}
	query := s.log
	if f.Tenant != "" {
		query = s.logOf
	}
	rows, err := query.QueryContext(ctx, f.After, f.Tenant, f.Limit)
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	defer rows.Close()
	var page []tenant.Entry
	for rows.Next() {
		var e tenant.Entry
		var at sql.NullInt64
		err := rows.Scan(&e.Seq, &at, &e.Tenant, &e.BotID, &e.Version, &e.Actor, &e.Action, &e.Detail)
		if err != nil {
			return nil, failure(ctx, op, "", err)
		}
		e.Time = timeOf(at)
		page = append(page, e)
	}
	return page, failure(ctx, op, "", rows.Err())
}

// PruneLog removes the oldest entries of the log that are from before a time, at
// most limit of them, and returns how many it removed. Entries without a time are
// the oldest. It is for who calls it every now and then, again while it removes
// as many as it may. Other changes wait while a batch is removed, so let it be of
// some 1000:
//
//	for {
//		n, err := db.Tenants().PruneLog(ctx, time.Now().AddDate(-1, 0, 0), 1000)
//		if err != nil || n < 1000 {
//			return err
//		}
//	}
//
// A limit of 0 and less removes nothing, and nothing is from before the zero time.
func (s *Tenants) PruneLog(ctx context.Context, before time.Time, limit int) (int, error) {
	if before.IsZero() { // a bound that was not set is none
		limit = 0
	}
	var n int64
	err := s.db.change(ctx, func(tx *sql.Tx) error {
		result, err := tx.StmtContext(ctx, s.oldEntries).ExecContext(ctx, sqlstore.Bound(before).UnixMicro(), max(limit, 0))
		if err != nil {
			return err
		}
		n, err = result.RowsAffected()
		return err
	})
	if err != nil {
		return 0, failure(ctx, "prune log", "", err)
	}
	return int(n), nil
}

// micros is a time as stored: NULL for none.
func micros(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMicro(), Valid: !t.IsZero()}
}

func timeOf(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMicro(n.Int64).UTC()
}
