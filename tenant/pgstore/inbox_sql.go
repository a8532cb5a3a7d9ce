package pgstore

import "fmt"

// tidyMost is how many rows of forgotten ids are deleted at once.
const tidyMost = 1000

const (
	lockTenants = "SELECT pg_advisory_xact_lock(k) FROM unnest($1::bigint[]) AS k"
)

// inboxSQL is the statements of the inbox, with the schema's name.
type inboxSQL struct {
	now, count, seen, insert, makeReady, mark, forgetSeen, expire string
	lease, look, leaseOf, extend                                  string
	lockLeased, bury, pruneDead, end, retry                       string
	dead, replay, drop, depthTenant, depthAll                     string
	forget                                                        [5]string
}

func newInboxSQL(db *DB) inboxSQL {
	const (
		// What an index is searched by is a time that stays the same for as long
		// as the statement: it would be read whole otherwise.
		hour   = "floor(extract(epoch FROM statement_timestamp()) / 3600)::bigint"
		micros = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
		// leases are arguments as rows, in the order in which chats are locked.
		leases = `(SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS s(tenant, chat, id, token)
			ORDER BY s.tenant COLLATE "C", s.chat COLLATE "C") AS s`
		// leased joins each with its chat, while it is held, by the key and one by
		// one. A plan that joins the tables is made for ones that were empty when
		// somebody looked, as an inbox mostly is, and reads all of them when they
		// are not. For the same reason rows are changed by their places, in
		// statements that come after the one that locks them.
		leased = leases + ` CROSS JOIN LATERAL (SELECT c.ctid AS place, c.token, c.attempt FROM {schema}.inbox_chats AS c
			WHERE c.tenant = s.tenant AND c.chat = s.chat AND c.token = s.token AND c.id = s.id LIMIT 1) AS c`
		// update joins each with its update, one by one too.
		update = ` JOIN LATERAL (SELECT u.ctid AS place, u.kind, u.received_at, u.expires_at, u.raw FROM {schema}.inbox_updates AS u
			WHERE u.tenant = s.tenant AND u.chat = s.chat AND u.id = s.id LIMIT 1) AS u ON true`
		// depth is two statements, since one plan for both would read all.
		depth = `SELECT (SELECT count(*) FROM {schema}.inbox_updates WHERE %[1]s),
			(SELECT min(received_at) FROM {schema}.inbox_updates WHERE %[1]s),
			(SELECT count(*) FROM {schema}.inbox_chats WHERE %[1]s AND token <> 0 AND at > ` + micros + `),
			(SELECT count(*) FROM {schema}.inbox_dead WHERE %[1]s)`
	)
	s := inboxSQL{
		now: `SELECT ` + hour + `, EXISTS (SELECT FROM {schema}.inbox_updates WHERE expires_at <= statement_timestamp()),
			CASE WHEN $1 THEN (SELECT count(*) FROM {schema}.inbox_updates) END`,
		count: `SELECT t, (SELECT count(*) FROM (SELECT FROM {schema}.inbox_updates AS u WHERE u.tenant = t COLLATE "C" LIMIT $2) AS x)
			FROM unnest($1::text[]) AS t`,
		seen: `SELECT s.tenant, s.block, s.hour, s.bits FROM unnest($1::text[], $2::bigint[]) AS k(tenant, block)
			JOIN {schema}.inbox_seen AS s ON s.tenant = k.tenant AND s.block = k.block
			WHERE s.hour >= floor((extract(epoch FROM statement_timestamp()) - $3::bigint) / 3600)::bigint`,
		insert: `INSERT INTO {schema}.inbox_updates (tenant, chat, id, kind, received_at, expires_at, attempt, raw)
			SELECT tenant, chat, id, kind, received_at, expires_at, 0, raw
			FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::timestamptz[], $6::timestamptz[], $7::bytea[])
				AS u(tenant, chat, id, kind, received_at, expires_at, raw)
			ON CONFLICT DO NOTHING`,
		// The update that changes nothing takes the row's lock, so that who is
		// about to delete the chat sees its new update.
		makeReady: `INSERT INTO {schema}.inbox_chats AS c (tenant, chat, at)
			SELECT tenant, chat, nextval('{schema}.inbox_counter') FROM unnest($1::text[], $2::text[]) AS n(tenant, chat)
			ON CONFLICT (tenant, chat) DO UPDATE SET at = c.at`,
		mark: `INSERT INTO {schema}.inbox_seen (tenant, block, hour, bits)
			SELECT tenant, block, $1, bits FROM unnest($2::text[], $3::bigint[], $4::bytea[]) AS m(tenant, block, bits)
			ON CONFLICT (tenant, block, hour) DO UPDATE SET bits = excluded.bits`,
		forgetSeen: fmt.Sprintf(`DELETE FROM {schema}.inbox_seen WHERE ctid = ANY (ARRAY (
			SELECT ctid FROM {schema}.inbox_seen
			WHERE hour < floor((extract(epoch FROM statement_timestamp()) - $1::bigint) / 3600)::bigint LIMIT %d))`, tidyMost),
		// Chats that somebody is at are passed over.
		expire: `WITH c AS (
				SELECT c.tenant, c.chat, CASE WHEN c.token <> 0 AND c.at > ` + micros + ` THEN c.id END AS leased
				FROM {schema}.inbox_chats AS c WHERE (c.tenant, c.chat) IN (
					SELECT u.tenant, u.chat FROM {schema}.inbox_updates AS u WHERE u.expires_at <= statement_timestamp())
				FOR UPDATE SKIP LOCKED),
			gone AS (
				DELETE FROM {schema}.inbox_updates AS u USING c
				WHERE u.tenant = c.tenant AND u.chat = c.chat AND u.expires_at <= statement_timestamp() AND u.id IS DISTINCT FROM c.leased
				RETURNING u.tenant, u.chat, u.id)
			UPDATE {schema}.inbox_chats AS c SET token = 0 FROM gone
			WHERE c.tenant = gone.tenant AND c.chat = gone.chat AND c.id = gone.id AND c.token <> 0`,

		// Leases are not worth waiting for the disk: after a crash of the
		// server they lapse, or were never given.
		lease: `SELECT l.tenant, l.chat, l.id, l.kind, l.received_at, l.expires_at, l.attempt, l.raw, l.token, x.moment + $3::bigint
			FROM (SELECT set_config('synchronous_commit', 'off', true), ` + micros + ` AS moment) AS x,
				{schema}.inbox_lease($1, $2, x.moment, x.moment + $3::bigint, $4, $5, $6) AS l`,
		// What is due gets its place before the look, which may be left out.
		look: `SELECT ` + micros + `, ARRAY (SELECT {schema}.inbox_wake(` + micros + `)),
			CASE WHEN $1 THEN ARRAY (SELECT {schema}.inbox_ready()) END`,
		leaseOf: `SELECT l.tenant, l.chat, l.id, l.kind, l.received_at, l.expires_at, l.attempt, l.raw, l.token, $5::bigint + $6::bigint
			FROM (SELECT set_config('synchronous_commit', 'off', true)) AS x,
				{schema}.inbox_lease_of($1, $2, $3, $4, $5::bigint, $5::bigint + $6::bigint) AS l`,
		extend: `UPDATE {schema}.inbox_chats AS c SET at = ` + micros + ` + $5::bigint
			FROM (SELECT c.place FROM ` + leased + `) AS s WHERE c.ctid = s.place RETURNING c.token`,

		lockLeased: `SELECT c.token FROM ` + leases + ` CROSS JOIN LATERAL (SELECT c.token FROM {schema}.inbox_chats AS c
			WHERE c.tenant = s.tenant AND c.chat = s.chat AND c.token = s.token AND c.id = s.id LIMIT 1 FOR UPDATE) AS c`,
		bury: `INSERT INTO {schema}.inbox_dead (tenant, id, chat, kind, received_at, expires_at, attempt, raw, reason, died_at)
			SELECT s.tenant, s.id, s.chat, u.kind, u.received_at, u.expires_at, c.attempt, u.raw, r.reason, clock_timestamp()
			FROM ` + leased + update + ` JOIN unnest($4::bigint[], $5::text[]) AS r(token, reason) ON r.token = s.token
			ON CONFLICT (tenant, id) DO UPDATE SET chat = excluded.chat, kind = excluded.kind, received_at = excluded.received_at,
				expires_at = excluded.expires_at, attempt = excluded.attempt, raw = excluded.raw, reason = excluded.reason,
				died_at = excluded.died_at`,
		// Those that somebody else is at are left to the next: who replays one waits
		// for its chat, whose lock may be held here.
		pruneDead: `DELETE FROM {schema}.inbox_dead AS d USING unnest($1::text[]) AS t(tenant)
			WHERE d.tenant = t.tenant AND d.id IN (
				SELECT id FROM {schema}.inbox_dead WHERE tenant = t.tenant COLLATE "C" ORDER BY died_at DESC OFFSET $2 FOR UPDATE SKIP LOCKED)`,
		// The chat goes with the last of its updates.
		end: `WITH ended AS MATERIALIZED (
				SELECT c.place AS chat, u.place AS done,
					EXISTS (SELECT FROM {schema}.inbox_updates AS u WHERE u.tenant = s.tenant AND u.chat = s.chat AND u.id <> s.id) AS more
				FROM ` + leased + ` LEFT` + update + `),
			gone AS (
				DELETE FROM {schema}.inbox_updates AS u USING ended AS s WHERE u.ctid = s.done),
			empty AS (
				DELETE FROM {schema}.inbox_chats AS c USING ended AS s WHERE c.ctid = s.chat AND NOT s.more)
			UPDATE {schema}.inbox_chats AS c SET at = nextval('{schema}.inbox_counter'), id = 0, attempt = 0, token = 0
			FROM ended AS s WHERE c.ctid = s.chat AND s.more`,
		retry: `UPDATE {schema}.inbox_chats AS c
			SET at = CASE WHEN s.after > 0 THEN ` + micros + ` + s.after ELSE nextval('{schema}.inbox_counter') END,
				attempt = c.attempt - s.back, token = 0
			FROM (SELECT c.place, r.after, r.back FROM ` + leased + `
				JOIN unnest($4::bigint[], $5::bigint[], $6::integer[]) AS r(token, after, back) ON r.token = s.token) AS s
			WHERE c.ctid = s.place`,

		// The length of a raw is known without reading it.
		dead: `SELECT tenant, id, chat, kind, received_at, expires_at, attempt, raw, reason, died_at FROM (
				SELECT d.*, sum(octet_length(raw)) OVER (ORDER BY tenant, id) - octet_length(raw) AS before FROM (
					SELECT * FROM {schema}.inbox_dead WHERE (tenant, id) > ($1, $2) AND ($3 = '' OR tenant = $3)
					ORDER BY tenant, id LIMIT $4) AS d) AS d
			WHERE before < $5 ORDER BY tenant, id`,
		// One whose id another has that waits stays dead.
		replay: `WITH letters AS (
				SELECT d.* FROM {schema}.inbox_dead AS d JOIN unnest($1::text[], $2::bigint[]) AS r(tenant, id)
				ON d.tenant = r.tenant AND d.id = r.id ORDER BY d.tenant, d.id FOR UPDATE OF d),
			stored AS (
				INSERT INTO {schema}.inbox_updates (tenant, chat, id, kind, received_at, expires_at, attempt, raw)
				SELECT tenant, chat, id, kind, received_at, NULL, 0, raw FROM letters ON CONFLICT DO NOTHING RETURNING tenant, chat, id),
			risen AS (
				DELETE FROM {schema}.inbox_dead AS d USING stored AS s WHERE d.tenant = s.tenant AND d.id = s.id),
			woken AS (
				INSERT INTO {schema}.inbox_chats AS c (tenant, chat, at)
				SELECT tenant, chat, nextval('{schema}.inbox_counter')
				FROM (SELECT DISTINCT tenant, chat FROM stored ORDER BY tenant, chat) AS n
				ON CONFLICT (tenant, chat) DO UPDATE SET at = c.at)
			SELECT count(*) FROM stored`,
		drop: `DELETE FROM {schema}.inbox_dead AS d USING unnest($1::text[], $2::bigint[]) AS r(tenant, id)
			WHERE d.tenant = r.tenant AND d.id = r.id`,
		depthTenant: fmt.Sprintf(depth, "tenant = $1"),
		depthAll:    fmt.Sprintf(depth, "$1 = ''"),
		forget: [5]string{
			"SELECT FROM {schema}.inbox_chats WHERE tenant = $1 ORDER BY chat FOR UPDATE",
			"DELETE FROM {schema}.inbox_updates WHERE tenant = $1",
			"DELETE FROM {schema}.inbox_chats WHERE tenant = $1",
			"DELETE FROM {schema}.inbox_dead WHERE tenant = $1",
			"DELETE FROM {schema}.inbox_seen WHERE tenant = $1",
		},
	}
	for _, text := range []*string{
		&s.now, &s.count, &s.seen, &s.insert, &s.makeReady, &s.mark, &s.forgetSeen, &s.expire, &s.lease, &s.look, &s.leaseOf, &s.extend,
		&s.lockLeased, &s.bury, &s.pruneDead, &s.end, &s.retry,
		&s.dead, &s.replay, &s.drop, &s.depthTenant, &s.depthAll, &s.forget[0], &s.forget[1], &s.forget[2], &s.forget[3], &s.forget[4],
	} {
		*text = db.name(*text)
	}
	return s
}
