-- A chat whose at is a time gets a place in the queue when the time has come, so
-- that those that are ready are found without passing by those that are not:
-- when nothing can be sent, every chat of every tenant waits for another try.
-- 1000000000000 is greater than any place, and a moment in January 1970.
DROP INDEX {schema}.inbox_chats_by_turn;
CREATE INDEX inbox_chats_ready ON {schema}.inbox_chats (tenant, at) WHERE at < 1000000000000;
CREATE INDEX inbox_chats_by_time ON {schema}.inbox_chats (at) WHERE at >= 1000000000000;

-- Gives a place in the queue to chats whose time has come, and returns their
-- tenants. Chats that others are at are passed over. What more there are get
-- theirs the next time.
CREATE FUNCTION {schema}.inbox_wake(moment bigint) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
	RETURN QUERY WITH due AS MATERIALIZED (
		SELECT q.ctid AS place FROM {schema}.inbox_chats AS q
		WHERE q.at >= 1000000000000 AND q.at <= moment ORDER BY q.at LIMIT 10000 FOR UPDATE SKIP LOCKED),
	woken AS (
		UPDATE {schema}.inbox_chats AS c SET at = nextval('{schema}.inbox_counter') FROM due
		WHERE c.ctid = due.place RETURNING c.tenant) -- one that changed just now is woken the next time
	SELECT DISTINCT w.tenant::text FROM woken AS w;
END $$;

-- Returns the tenants that have something ready, from one to the next, however
-- many chats each has.
CREATE FUNCTION {schema}.inbox_ready() RETURNS SETOF text LANGUAGE sql STABLE AS $$
	WITH RECURSIVE walk (tenant) AS (
		(SELECT c.tenant FROM {schema}.inbox_chats AS c WHERE c.at < 1000000000000 ORDER BY c.tenant LIMIT 1)
		UNION ALL SELECT (
			SELECT c.tenant FROM {schema}.inbox_chats AS c WHERE c.tenant > walk.tenant AND c.at < 1000000000000 ORDER BY c.tenant LIMIT 1)
		FROM walk WHERE walk.tenant IS NOT NULL)
	SELECT tenant::text FROM walk WHERE tenant IS NOT NULL
$$;

-- Reports that a lease that began at a moment has taken long enough.
CREATE FUNCTION {schema}.inbox_late(moment bigint) RETURNS boolean LANGUAGE sql VOLATILE AS $$
	SELECT extract(epoch FROM clock_timestamp()) * 1000000 > moment + 1000000
$$;

-- As before, but for where it finds what is ready, and that it drops what has
-- expired before a chat's first that has not, which is found by the chat: others'
-- that have expired may be many. Where it finds chats with nothing else it looks
-- at more of them at once. It ends, as what calls it does, where it finds more such
-- a second after the moment: much may have expired while nobody leased, and what a
-- lease drops is to stay dropped, and not to be undone since it took too long.
CREATE OR REPLACE FUNCTION {schema}.inbox_take(of text, n integer, moment bigint, until bigint, expired boolean)
RETURNS TABLE (tenant text, chat text, id bigint, kind text, received_at timestamptz, expires_at timestamptz, attempt integer, raw bytea, token bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	now      timestamptz := to_timestamp(moment / 1000000.0);
	chats    text[];
	ids      bigint[];
	attempts integer[];
	tried    boolean;
	got      integer;
	look     integer := n;
BEGIN
	WHILE n > 0 LOOP
		SELECT array_agg(c.chat), array_agg(c.id), array_agg(c.attempt), bool_or(c.id <> 0) INTO chats, ids, attempts, tried FROM (
			SELECT q.chat, q.id, q.attempt FROM {schema}.inbox_chats AS q
			WHERE q.tenant = of COLLATE "C" AND q.at < 1000000000000 ORDER BY q.at LIMIT look FOR UPDATE SKIP LOCKED) AS c;
		EXIT WHEN chats IS NULL;
		IF expired THEN
			DELETE FROM {schema}.inbox_updates AS u USING unnest(chats) AS c(chat) CROSS JOIN LATERAL (SELECT coalesce(
				(SELECT k.id FROM {schema}.inbox_updates AS k WHERE k.tenant = of COLLATE "C" AND k.chat = c.chat COLLATE "C"
					AND (k.expires_at <= now) IS NOT TRUE ORDER BY k.id LIMIT 1), 9223372036854775807) AS id) AS kept
			WHERE u.tenant = of COLLATE "C" AND u.chat = c.chat COLLATE "C" AND u.id < kept.id;
		END IF;
		IF tried THEN -- and may have been overtaken since, by one before it
			UPDATE {schema}.inbox_updates AS u SET attempt = t.attempt FROM unnest(chats, ids, attempts) AS t(chat, id, attempt)
			WHERE u.tenant = of COLLATE "C" AND u.chat = t.chat AND u.id = t.id;
		END IF;
		RETURN QUERY
			UPDATE {schema}.inbox_chats AS q
			SET at = inbox_take.until, id = f.id, attempt = f.attempt + 1, token = nextval('{schema}.inbox_counter')
			FROM (SELECT c.chat, u.* FROM unnest(chats) WITH ORDINALITY AS c(chat, place) CROSS JOIN LATERAL (
				SELECT u.id, u.kind, u.received_at, u.expires_at, u.attempt, u.raw FROM {schema}.inbox_updates AS u
				WHERE u.tenant = of COLLATE "C" AND u.chat = c.chat COLLATE "C" ORDER BY u.id LIMIT 1) AS u
				ORDER BY c.place LIMIT inbox_take.n) AS f
			WHERE q.tenant = of COLLATE "C" AND q.chat = f.chat COLLATE "C"
			RETURNING of, q.chat, f.id, f.kind, f.received_at, f.expires_at, q.attempt, f.raw, q.token;
		GET DIAGNOSTICS got = ROW_COUNT;
		IF got < cardinality(chats) THEN
			DELETE FROM {schema}.inbox_chats AS q WHERE q.tenant = of COLLATE "C" AND q.chat = ANY (chats)
				AND NOT EXISTS (SELECT FROM {schema}.inbox_updates AS u WHERE u.tenant = q.tenant AND u.chat = q.chat);
		END IF;
		EXIT WHEN cardinality(chats) < look; -- all that are free are lent
		EXIT WHEN got < least(n, look) AND {schema}.inbox_late(moment);
		n := n - got;
		look := greatest(n, least(4 * look, 1000));
	END LOOP;
END $$;

-- Shares out what may be lent among tenants that have had one each, and rooms for
-- so many more.
CREATE FUNCTION {schema}.inbox_share(tenants text[], rooms integer[], rest integer, moment bigint, until bigint, expired boolean)
RETURNS TABLE (tenant text, chat text, id bigint, kind text, received_at timestamptz, expires_at timestamptz, attempt integer, raw bytea, token bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	share  integer;
	active integer;
	n      integer;
	got    integer;
BEGIN
	LOOP
		SELECT count(*) INTO active FROM unnest(rooms) AS r WHERE r > 0;
		EXIT WHEN rest = 0 OR active = 0;
		share := greatest(1, rest / active);
		FOR i IN 1 .. cardinality(tenants) LOOP
			n := least(share, rooms[i], rest);
			CONTINUE WHEN n <= 0;
			RETURN QUERY SELECT * FROM {schema}.inbox_take(tenants[i], n, moment, until, expired);
			GET DIAGNOSTICS got = ROW_COUNT;
			rest := rest - got;
			rooms[i] := CASE WHEN got = n THEN rooms[i] - got ELSE 0 END;
		END LOOP;
	END LOOP;
END $$;

-- Lends updates of these tenants, up to so many of each: one to each of the first
-- of them, since the others have had one, and then what more may be lent.
CREATE FUNCTION {schema}.inbox_lease_of(names text[], rooms integer[], first integer, rest integer, moment bigint, until bigint)
RETURNS TABLE (tenant text, chat text, id bigint, kind text, received_at timestamptz, expires_at timestamptz, attempt integer, raw bytea, token bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	expired boolean := EXISTS (SELECT FROM {schema}.inbox_updates AS u WHERE u.expires_at <= to_timestamp(moment / 1000000.0));
	got     integer;
BEGIN
	FOR i IN 1 .. first LOOP
		EXIT WHEN rest = 0;
		RETURN QUERY SELECT * FROM {schema}.inbox_take(names[i], 1, moment, until, expired);
		GET DIAGNOSTICS got = ROW_COUNT;
		rest := rest - got;
		rooms[i] := CASE WHEN got = 0 THEN 0 ELSE rooms[i] - 1 END;
		IF got = 0 AND {schema}.inbox_late(moment) THEN
			RETURN;
		END IF;
	END LOOP;
	RETURN QUERY SELECT * FROM {schema}.inbox_share(names, rooms, rest, moment, until, expired);
END $$;

-- The same for all that have something ready, beginning with the tenant after
-- the last whose turn it was, of whom a worker has so many.
CREATE FUNCTION {schema}.inbox_lease_each(last text, rest integer, moment bigint, until bigint, per_tenant integer, held jsonb)
RETURNS TABLE (tenant text, chat text, id bigint, kind text, received_at timestamptz, expires_at timestamptz, attempt integer, raw bytea, token bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	expired boolean := EXISTS (SELECT FROM {schema}.inbox_updates AS u WHERE u.expires_at <= to_timestamp(moment / 1000000.0));
	tenants text[] := '{}'; -- that may have more
	rooms   integer[] := '{}';
	name    text COLLATE "C" := last;
	room    integer;
	wrapped boolean := false;
	got     integer;
BEGIN
	WHILE rest > 0 LOOP
		SELECT q.tenant INTO name FROM {schema}.inbox_chats AS q WHERE q.tenant > name AND q.at < 1000000000000 ORDER BY q.tenant LIMIT 1;
		IF name IS NULL THEN
			EXIT WHEN wrapped OR last = '';
			name := '';
			wrapped := true;
			CONTINUE;
		END IF;
		EXIT WHEN wrapped AND name > last COLLATE "C";
		room := rest;
		IF per_tenant > 0 THEN
			room := least(rest, per_tenant - coalesce((held->>name)::integer, 0));
		END IF;
		CONTINUE WHEN room <= 0;
		RETURN QUERY SELECT * FROM {schema}.inbox_take(name, 1, moment, until, expired);
		GET DIAGNOSTICS got = ROW_COUNT;
		rest := rest - got;
		IF got > 0 AND room > 1 THEN
			tenants := tenants || name::text;
			rooms := rooms || room - 1;
		END IF;
		EXIT WHEN got = 0 AND {schema}.inbox_late(moment);
	END LOOP;
	RETURN QUERY SELECT * FROM {schema}.inbox_share(tenants, rooms, rest, moment, until, expired);
END $$;

-- Returns tenants that have something ready, up to n of them, from the one after a
-- name to another, '' being the last there is: those of whom a worker wants any, and
-- how many.
CREATE FUNCTION {schema}.inbox_walk(name text, upto text, n integer, rest integer, per_tenant integer, held jsonb)
RETURNS TABLE (tenant text, room integer) LANGUAGE sql STABLE AS $$
	WITH RECURSIVE walk (tenant) AS (
		(SELECT c.tenant FROM {schema}.inbox_chats AS c
			WHERE c.tenant > name COLLATE "C" AND c.at < 1000000000000 ORDER BY c.tenant LIMIT 1)
		UNION ALL SELECT (
			SELECT c.tenant FROM {schema}.inbox_chats AS c WHERE c.tenant > walk.tenant AND c.at < 1000000000000 ORDER BY c.tenant LIMIT 1)
		FROM walk WHERE walk.tenant IS NOT NULL AND (upto = '' OR walk.tenant < upto COLLATE "C"))
	SELECT w.tenant::text, w.room FROM (
		SELECT walk.tenant, CASE WHEN per_tenant > 0
			THEN least(rest, per_tenant - coalesce((held->>walk.tenant)::integer, 0)) ELSE rest END AS room
		FROM walk WHERE upto = '' OR walk.tenant <= upto COLLATE "C") AS w
	WHERE w.tenant IS NOT NULL AND w.room > 0 LIMIT n -- which ends the walk
$$;

-- Lends the first update of each of these chats, whose locks are held, in their
-- order, and returns fewer where some have none. Rows are found by their keys one
-- by one and changed by their places: a plan that joins is made for tables that
-- were empty when somebody looked, and reads all of them when they are not.
CREATE FUNCTION {schema}.inbox_lend(places tid[], tenants text[], chats text[], ids bigint[], attempts integer[], until bigint)
RETURNS TABLE (tenant text, chat text, id bigint, kind text, received_at timestamptz, expires_at timestamptz, attempt integer, raw bytea, token bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
	IF ids IS NOT NULL THEN -- tried, and may have been overtaken since, by one before it
		UPDATE {schema}.inbox_updates AS u SET attempt = f.attempt
		FROM (SELECT t.attempt, k.place FROM unnest(tenants, chats, ids, attempts) AS t(tenant, chat, id, attempt) CROSS JOIN LATERAL (
			SELECT x.ctid AS place FROM {schema}.inbox_updates AS x
			WHERE x.tenant = t.tenant COLLATE "C" AND x.chat = t.chat COLLATE "C" AND x.id = t.id LIMIT 1) AS k) AS f
		WHERE u.ctid = f.place;
	END IF;
	RETURN QUERY WITH lent AS (
		UPDATE {schema}.inbox_chats AS q
		SET at = inbox_lend.until, id = f.id, attempt = f.attempt + 1, token = nextval('{schema}.inbox_counter')
		FROM (SELECT c.n, c.place, u.* FROM unnest(places, tenants, chats) WITH ORDINALITY AS c(place, tenant, chat, n) CROSS JOIN LATERAL (
			SELECT u.tenant, u.chat, u.id, u.kind, u.received_at, u.expires_at, u.attempt, u.raw FROM {schema}.inbox_updates AS u
			WHERE u.tenant = c.tenant COLLATE "C" AND u.chat = c.chat COLLATE "C" ORDER BY u.id LIMIT 1) AS u) AS f
		WHERE q.ctid = f.place -- it is locked, so it is there still
		RETURNING f.n, f.tenant, f.chat, f.id, f.kind, f.received_at, f.expires_at, q.attempt, f.raw, q.token)
	SELECT l.tenant::text, l.chat::text, l.id, l.kind, l.received_at, l.expires_at, l.attempt, l.raw, l.token FROM lent AS l ORDER BY l.n;
END $$;

-- The same by few statements: those whose turn it is have one each, and then all
-- that had one more. Where updates have expired it is done tenant by tenant.
CREATE OR REPLACE FUNCTION {schema}.inbox_lease(last text, rest integer, moment bigint, until bigint, per_tenant integer, held_tenants text[], held_counts integer[])
RETURNS TABLE (tenant text, chat text, id bigint, kind text, received_at timestamptz, expires_at timestamptz, attempt integer, raw bytea, token bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	held    jsonb := coalesce((SELECT jsonb_object_agg(h.k, h.v) FROM unnest(held_tenants, held_counts) AS h(k, v)), '{}');
	expired boolean := EXISTS (SELECT FROM {schema}.inbox_updates AS u WHERE u.expires_at <= to_timestamp(moment / 1000000.0));
	tenants text[] := '{}'; -- that may have more
	rooms   integer[] := '{}';
	name    text := last; -- whose turn it was; NULL when all had theirs
	wrapped boolean := last = '';
	turn    text[]; -- whose turn it is
	wants   integer[];
	places  tid[];
	owners  text[]; -- of the chats that are free
	lent    text[]; -- of those that were lent
	chats   text[];
	ids     bigint[];
	tries   integer[];
	most    integer;
	got     integer;
BEGIN
	PERFORM {schema}.inbox_wake(moment);
	IF expired THEN
		RETURN QUERY SELECT * FROM {schema}.inbox_lease_each(last, rest, moment, until, per_tenant, held);
		RETURN;
	END IF;
	WHILE rest > 0 LOOP
		IF name IS NOT NULL THEN
			most := rest;
			SELECT array_agg(w.tenant), array_agg(w.room) INTO turn, wants
			FROM {schema}.inbox_walk(name, CASE WHEN wrapped THEN last ELSE '' END, most, rest, per_tenant, held) AS w;
			name := turn[most];
			IF name IS NULL AND NOT wrapped THEN
				name := '';
				wrapped := true;
			END IF;
			CONTINUE WHEN turn IS NULL;
			tenants := tenants || turn;
			rooms := rooms || wants;
			wants := array_fill(1, ARRAY[cardinality(turn)]);
		ELSE
			most := cardinality(tenants);
			EXIT WHEN most = 0;
			turn := tenants[1:rest];
			SELECT array_agg(least(r.room, greatest(1, rest / most)) ORDER BY r.n) INTO wants FROM unnest(rooms[1:rest]) WITH ORDINALITY AS r(room, n);
		END IF;
		-- The locks of chats are taken by one statement and their updates are read by
		-- the next, so that they are as they are under the locks.
		SELECT array_agg(c.place), array_agg(c.tenant), array_agg(c.chat), array_agg(c.id), array_agg(c.attempt)
		INTO places, owners, chats, ids, tries
		FROM (SELECT t.tenant, c.* FROM unnest(turn, wants) WITH ORDINALITY AS t(tenant, want, n) CROSS JOIN LATERAL (
			SELECT q.ctid AS place, q.chat, q.id, q.attempt FROM {schema}.inbox_chats AS q
			WHERE q.tenant = t.tenant COLLATE "C" AND q.at < 1000000000000 ORDER BY q.at LIMIT t.want FOR UPDATE SKIP LOCKED) AS c
			ORDER BY t.n) AS c;
		lent := owners;
		IF owners IS NOT NULL THEN
			RETURN QUERY SELECT * FROM {schema}.inbox_lend(places, owners, chats, CASE WHEN 0 <> ANY (ids) THEN ids END, tries, until);
			GET DIAGNOSTICS got = ROW_COUNT;
			rest := rest - got;
			IF got < cardinality(owners) THEN -- what some had has expired
				DELETE FROM {schema}.inbox_chats AS q WHERE q.ctid = ANY (places)
					AND NOT EXISTS (SELECT FROM {schema}.inbox_updates AS u WHERE u.tenant = q.tenant AND u.chat = q.chat);
				SELECT array_agg(c.owner) INTO lent FROM unnest(owners, chats) AS c(owner, chat) CROSS JOIN LATERAL (
					SELECT q.at FROM {schema}.inbox_chats AS q WHERE q.tenant = c.owner COLLATE "C" AND q.chat = c.chat COLLATE "C" LIMIT 1) AS q
				WHERE q.at >= 1000000000000;
				EXIT WHEN {schema}.inbox_late(moment);
			END IF;
		END IF;
		-- Who had fewer than wanted has no more.
		SELECT coalesce(array_agg(t.tenant ORDER BY t.n), '{}'), coalesce(array_agg(t.room - coalesce(l.got, 0)::integer ORDER BY t.n), '{}')
		INTO tenants, rooms
		FROM unnest(tenants, rooms) WITH ORDINALITY AS t(tenant, room, n)
			LEFT JOIN unnest(turn, wants) AS w(tenant, want) ON w.tenant = t.tenant
			LEFT JOIN (SELECT o.tenant, count(*) AS free FROM unnest(owners) AS o(tenant) GROUP BY 1) AS o ON o.tenant = t.tenant
			LEFT JOIN (SELECT l.tenant, count(*) AS got FROM unnest(lent) AS l(tenant) GROUP BY 1) AS l ON l.tenant = t.tenant
		WHERE w.want IS NULL OR o.free = w.want AND t.room > coalesce(l.got, 0);
	END LOOP;
END $$;
