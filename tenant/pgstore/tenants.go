package pgstore

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/tgfleet/tgfleet/errors"
	"github.com/tgfleet/tgfleet/tenant"
	"github.com/tgfleet/tgfleet/tenant/internal/sqlstore"
)

// Tenants is a [tenant.Store]. Take it from [DB.Tenants].
type Tenants struct {
	db *DB
	// The statements, with the schema's name. pgx prepares them on each
	// connection.
	get, getMany, byBot, list, log string
	insert, update, remove         string
	setHealth, sealed, replace     string
	pruneLog                       string
}

var _ tenant.Store = (*Tenants)(nil)

const (
	columns = `id, bot_id, username, name, token, status, reason, health, coalesce(limits::text, ''), metadata::text,
		version, created_at, updated_at`

	// addLog adds the entries of a change, which the statement before it
	// called "changed". All is one statement, so it is one transaction and one
	// way to the server and back.
	addLog = `, logged AS (
		INSERT INTO {schema}.log (time, tenant, bot_id, version, actor, action, detail)
		SELECT e.time, changed.id, changed.bot_id, changed.version, e.actor, e.action, e.detail
		FROM changed, unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[])
			WITH ORDINALITY AS e(time, actor, action, detail, n)
		ORDER BY e.n
	)`
)

// Pages are bounded also where the caller's limit would let them fill the memory.
const (
	// pageBytes is how large the texts of a page of records or of dead letters
	// are that is not continued.
	pageBytes = 8 << 20
	// logPage is how many entries, of at most 1.7 KB, are a page.
	logPage = 4096
)

func newTenants(db *DB) *Tenants {
	from := "SELECT " + columns + " FROM {schema}.tenants "
	s := &Tenants{
		db:      db,
		get:     from + "WHERE id = $1",
		getMany: from + "WHERE id = ANY($1::text[])",
		byBot:   from + "WHERE bot_id = $1",
		list:    "SELECT " + columns + " FROM {schema}.tenants_page($1, $2, $3, $4, $5) ORDER BY id",
		log: `SELECT seq, time, tenant, bot_id, version, actor, action, detail FROM {schema}.log
			WHERE seq > $1 AND ($2 = '' OR tenant = $2) ORDER BY seq LIMIT $3`,
		pruneLog: `DELETE FROM {schema}.log WHERE seq IN (
			SELECT seq FROM {schema}.log WHERE coalesce(time, '-infinity') < $1
			ORDER BY coalesce(time, '-infinity') LIMIT $2 FOR UPDATE SKIP LOCKED)`,
		// Where records were removed a trigger makes the version greater.
		insert: `WITH changed AS (
				INSERT INTO {schema}.tenants (id, bot_id, username, name, token, token_key, status, reason,
					limits, metadata, version, created_at, updated_at)
				VALUES ($5, $6, $7, $8, $9, $10, $11, $12, nullif($13::text, '')::jsonb, $14::text::jsonb,
					$15::bigint + 1, $16, $17)
				RETURNING id, bot_id, version, health
			)` + addLog + ` SELECT true, bot_id, health, version FROM changed`,
		update: `WITH changed AS (
				UPDATE {schema}.tenants SET bot_id = CASE WHEN $9::bytea IS NULL THEN bot_id ELSE $6::bigint END,
					username = $7, name = $8, token = coalesce($9, token), token_key = coalesce($10, token_key),
					status = $11, reason = $12, limits = nullif($13::text, '')::jsonb, metadata = $14::text::jsonb,
					version = $15::bigint + 1, created_at = $16, updated_at = $17
				WHERE id = $5 AND version = $15
				RETURNING id, bot_id, version, health
			)` + addLog + ` SELECT EXISTS (SELECT FROM {schema}.tenants WHERE id = $5), (SELECT bot_id FROM changed),
				(SELECT health FROM changed), (SELECT version FROM changed)`,
		remove: `WITH changed AS (
				DELETE FROM {schema}.tenants WHERE id = $5 AND version = $6 RETURNING id, bot_id, version
			)` + addLog + ` SELECT EXISTS (SELECT FROM {schema}.tenants WHERE id = $5), (SELECT bot_id FROM changed)`,
		// Rows are locked in one order, or two of these would wait for each
		// other.
		setHealth: `WITH wanted AS (
				SELECT t.id, h.health FROM {schema}.tenants t
				JOIN unnest($1::text[], $2::text[]) AS h(id, health) ON h.id = t.id
				WHERE t.health <> h.health ORDER BY t.id FOR UPDATE OF t
			) UPDATE {schema}.tenants t SET health = wanted.health FROM wanted WHERE t.id = wanted.id`,
		sealed:  "SELECT id, token FROM {schema}.tenants WHERE id > $1 AND token_key <> $2 ORDER BY id LIMIT $3",
		replace: "UPDATE {schema}.tenants SET token = $1, token_key = $2 WHERE id = $3 AND token = $4",
	}
	for _, sql := range []*string{&s.get, &s.getMany, &s.byBot, &s.list, &s.log, &s.insert, &s.update, &s.remove, &s.setHealth, &s.sealed, &s.replace, &s.pruneLog} {
		*sql = db.name(*sql)
	}
	return s
}

// Get implements [tenant.Store].
func (s *Tenants) Get(ctx context.Context, id string) (tenant.Record, error) {
	const op = "get tenant"
	if !sqlstore.Storable(id) { // which the server would refuse to read
		return tenant.Record{}, missed(op, "", false)
	}
	return s.one(ctx, op, id, s.get, id)
}

// ByBot implements [tenant.Store].
func (s *Tenants) ByBot(ctx context.Context, botID int64) (tenant.Record, error) {
	return s.one(ctx, "get tenant by bot", "", s.byBot, botID)
}

func (s *Tenants) one(ctx context.Context, op, id, sql string, arg any) (tenant.Record, error) {
	var r tenant.Record
	err := s.db.read(ctx, func() (err error) {
		r, err = s.scan(s.db.pool.QueryRow(ctx, sql, arg))
		return err
	})
	return r, failure(ctx, op, id, err)
}

// GetMany implements [tenant.Store], in one query.
func (s *Tenants) GetMany(ctx context.Context, ids []string) (map[string]tenant.Record, error) {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !sqlstore.Storable(id) })
	all, err := s.many(ctx, "get tenants", s.getMany, ids)
	if err != nil {
		return nil, err
	}
	found := make(map[string]tenant.Record, len(all))
	for _, r := range all {
		found[r.ID] = r
	}
	return found, nil
}

// List implements [tenant.Store].
func (s *Tenants) List(ctx context.Context, f tenant.Filter) ([]tenant.Record, error) {
	if f.Limit <= 0 {
		f.Limit = tenant.DefaultLimit
	}
	for _, text := range append([]string{f.After}, f.Health...) {
		if !sqlstore.Storable(text) {
			return nil, sqlstore.Fail("list tenants", "", errors.BadRequest, errors.New("filter is not UTF-8 or has a NUL"))
		}
	}
	var status, health []string // nil is NULL
	for _, s := range f.Status {
		status = append(status, s.String())
	}
	if len(f.Health) > 0 {
		health = f.Health
	}
	return s.many(ctx, "list tenants", s.list, f.After, status, health, min(f.Limit, math.MaxInt32), int64(pageBytes))
}

func (s *Tenants) many(ctx context.Context, op, sql string, args ...any) (all []tenant.Record, err error) {
	err = s.db.read(ctx, func() error {
		all = nil
		rows, err := s.db.pool.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			r, err := s.scan(rows)
			if err != nil {
				return err
			}
			all = append(all, r)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, failure(ctx, op, "", err)
	}
	return all, nil
}

// scan reads a record of columns.
func (s *Tenants) scan(row pgx.Row) (tenant.Record, error) {
	var r tenant.Record
	var sealed []byte
	var status, limits, metadata string
	var created, updated pgtype.Timestamptz // which may be infinite
	err := row.Scan(&r.ID, &r.BotID, &r.Username, &r.Name, &sealed, &status, &r.Reason, &r.Health,
		&limits, &metadata, &r.Version, &created, &updated)
	if err != nil {
		return tenant.Record{}, err
	}
	r.CreatedAt, r.UpdatedAt = created.Time.UTC(), updated.Time.UTC()
	sqlstore.Unseal(s.db.cfg.Keys, &r, sealed)
	var bad []string
	if created.InfinityModifier != pgtype.Finite {
		bad = append(bad, "created_at")
	}
	if updated.InfinityModifier != pgtype.Finite {
		bad = append(bad, "updated_at")
	}
	sqlstore.Decode(&r, status, limits, metadata, bad...)
	return r, nil
}

// Put implements [tenant.Store].
func (s *Tenants) Put(ctx context.Context, r tenant.Record, log ...tenant.Entry) (tenant.Record, error) {
	const op = "put tenant"
	if err := sqlstore.Check(r, log); err != nil {
		return tenant.Record{}, err
	}
	r = r.Normal()
	row, err := s.row(r)
	if err != nil {
		return tenant.Record{}, sqlstore.Fail(op, r.ID, errors.Internal, err)
	}
	sql := s.update
	if r.Version == 0 {
		sql = s.insert
	}
	var found bool
	var botID, version *int64
	var health *string
	err = s.db.change(ctx, func(conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, sql, append(entries(log), row...)...).Scan(&found, &botID, &health, &version)
	})
	switch {
	case err != nil:
		return tenant.Record{}, failure(ctx, op, r.ID, err)
	case botID != nil:
		r.BotID, r.Health, r.Version = *botID, *health, *version
		return r, nil
	default:
		return tenant.Record{}, missed(op, r.ID, found)
	}
}

// missed is the error of a change that found no record of the version.
func missed(op, id string, found bool) error {
	if found {
		return sqlstore.Fail(op, id, errors.Stale, nil)
	}
	return sqlstore.Fail(op, id, errors.NotFound, nil)
}

// row returns the arguments of insert and update from $5 on.
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
	var tokenKey *string // NULL: stays as stored
	if sealed != nil {
		tokenKey = &key
	}
	return []any{
		r.ID, r.BotID, r.Username, r.Name, sealed, tokenKey, r.Status.String(), r.Reason,
		limits, metadata, r.Version, nullable(r.CreatedAt), nullable(r.UpdatedAt),
	}, nil
}

// entries returns the arguments of addLog.
func entries(log []tenant.Entry) []any {
	times := make([]*time.Time, len(log))
	actors, actions, details := make([]string, len(log)), make([]string, len(log)), make([]string, len(log))
	for i, e := range log {
		times[i], actors[i], actions[i], details[i] = nullable(e.Time), e.Actor, string(e.Action), e.Detail
	}
	return []any{times, actors, actions, details}
}

// Delete implements [tenant.Store].
func (s *Tenants) Delete(ctx context.Context, id string, version int64, log ...tenant.Entry) error {
	const op = "delete tenant"
	if err := sqlstore.CheckLog(log); err != nil {
		return err
	}
	if !sqlstore.Storable(id) {
		return missed(op, "", false)
	}
	var found bool
	var botID *int64
	err := s.db.change(ctx, func(conn *pgxpool.Conn) error {
		return conn.QueryRow(ctx, s.remove, append(entries(log), id, version)...).Scan(&found, &botID)
	})
	if err != nil {
		return failure(ctx, op, id, err)
	}
	if botID == nil {
		return missed(op, id, found)
	}
	return nil
}

// SetHealth implements [tenant.Store].
func (s *Tenants) SetHealth(ctx context.Context, health map[string]string) error {
	if err := sqlstore.CheckHealth(health); err != nil {
		return err
	}
	ids, values := make([]string, 0, len(health)), make([]string, 0, len(health))
	for id, h := range health {
		if sqlstore.Storable(id) {
			ids, values = append(ids, id), append(values, h)
		}
	}
	if len(ids) == 0 && ctx.Err() == nil {
		return nil
	}
	err := s.db.repeat(ctx, func(conn *pgxpool.Conn) error {
		_, err := conn.Exec(ctx, s.setHealth, ids, values)
		return err
	})
	return failure(ctx, "set health", "", err)
}

// Log implements [tenant.Store].
func (s *Tenants) Log(ctx context.Context, f tenant.LogFilter) (page []tenant.Entry, err error) {
	if f.Limit <= 0 {
		f.Limit = tenant.DefaultLimit
	}
	if !sqlstore.Storable(f.Tenant) {
		return nil, nil
	}
	err = s.db.read(ctx, func() error {
		page = nil
		rows, err := s.db.pool.Query(ctx, s.log, f.After, f.Tenant, min(f.Limit, logPage))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var e tenant.Entry
			var at pgtype.Timestamptz // an infinite one is none
			if err := rows.Scan(&e.Seq, &at, &e.Tenant, &e.BotID, &e.Version, &e.Actor, &e.Action, &e.Detail); err != nil {
				return err
			}
			e.Time = at.Time.UTC()
			page = append(page, e)
		}
		return rows.Err()
	})
	if err != nil {
		return nil, failure(ctx, "read log", "", err)
	}
	return page, nil
}

// PruneLog removes the oldest entries of the log that are from before a time, at
// most limit of them, and returns how many it removed. Entries without a time are
// the oldest. It is for who calls it every now and then, again while it removes
// as many as it may; of several at the same time none waits for another. A limit
// of 0 and less removes nothing, and nothing is from before the zero time.
func (s *Tenants) PruneLog(ctx context.Context, before time.Time, limit int) (int, error) {
	if before.IsZero() { // a bound that was not set is none
		limit = 0
	}
	var n int64
	err := s.db.change(ctx, func(conn *pgxpool.Conn) error {
		tag, err := conn.Exec(ctx, s.pruneLog, sqlstore.Bound(before), max(limit, 0))
		n = tag.RowsAffected()
		return err
	})
	if err != nil {
		return 0, failure(ctx, "prune log", "", err)
	}
	return int(n), nil
}

// nullable is a time as stored: NULL for none.
func nullable(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func timeOf(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.UTC()
}
