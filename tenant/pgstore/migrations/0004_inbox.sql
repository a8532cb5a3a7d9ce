-- Updates that wait or are leased. A row is written once and deleted once: what
-- changes while it is handled is in its chat's row.
CREATE TABLE {schema}.inbox_updates (
	tenant      text COLLATE "C" NOT NULL,
	chat        text COLLATE "C" NOT NULL,
	id          bigint      NOT NULL,
	kind        text        NOT NULL,
	received_at timestamptz NOT NULL,
	expires_at  timestamptz,
	attempt     integer     NOT NULL,
	raw         bytea       NOT NULL,
	CONSTRAINT inbox_updates_pkey PRIMARY KEY (tenant, chat, id)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX inbox_updates_by_expiry ON {schema}.inbox_updates (expires_at) WHERE expires_at IS NOT NULL;

-- The chats that have updates. One is ready when at is not in the future: then
-- it is a place in the queue of the tenant's chats, which is far less than any
-- time of today, or the time (microseconds since 1970) when a lease has expired
-- or another try may be.
--
-- Who changes anything about the updates of a chat holds the lock of its row,
-- and takes the locks of several in the order of (tenant, chat).
CREATE TABLE {schema}.inbox_chats (
	tenant  text COLLATE "C" NOT NULL,
	chat    text COLLATE "C" NOT NULL,
	at      bigint  NOT NULL,
	id      bigint  NOT NULL DEFAULT 0, -- the update that was lent last; 0: none
	attempt integer NOT NULL DEFAULT 0, -- of that one
	token   bigint  NOT NULL DEFAULT 0, -- of its lease; 0: it is not leased
	CONSTRAINT inbox_chats_pkey PRIMARY KEY (tenant, chat)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
CREATE INDEX inbox_chats_by_turn ON {schema}.inbox_chats (tenant, at);

-- The ids that were put, 1024 to a row, by the hour.
CREATE TABLE {schema}.inbox_seen (
	tenant text COLLATE "C" NOT NULL,
	block  bigint NOT NULL,
	hour   bigint NOT NULL,
	bits   bytea  NOT NULL,
	CONSTRAINT inbox_seen_pkey PRIMARY KEY (tenant, block, hour)
) WITH (fillfactor = 70);
CREATE INDEX inbox_seen_by_hour ON {schema}.inbox_seen (hour);

CREATE TABLE {schema}.inbox_dead (
	tenant      text COLLATE "C" NOT NULL,
	id          bigint      NOT NULL,
	chat        text COLLATE "C" NOT NULL,
	kind        text        NOT NULL,
	received_at timestamptz NOT NULL,
	expires_at  timestamptz,
	attempt     integer     NOT NULL,
	raw         bytea       NOT NULL,
	reason      text        NOT NULL,
	died_at     timestamptz NOT NULL,
	CONSTRAINT inbox_dead_pkey PRIMARY KEY (tenant, id)
);
CREATE INDEX inbox_dead_by_age ON {schema}.inbox_dead (tenant, died_at);

-- Numbers places in the queue, and leases.
CREATE SEQUENCE {schema}.inbox_counter;

-- Lends up to n updates of a tenant; fewer are all that it has. Chats that
-- others are at are passed over. The locks of chats are taken by one statement
-- and their updates are read by the next, so that they are as they are under the
-- locks.
CREATE FUNCTION {schema}.inbox_take(of text, n integer, moment bigint, until bigint, expired boolean)
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
BEGIN
	WHILE n > 0 LOOP
		SELECT array_agg(c.chat), array_agg(c.id), array_agg(c.attempt), bool_or(c.id <> 0) INTO chats, ids, attempts, tried FROM (
			SELECT q.chat, q.id, q.attempt FROM {schema}.inbox_chats AS q
			WHERE q.tenant = of COLLATE "C" AND q.at <= moment ORDER BY q.at LIMIT n FOR UPDATE SKIP LOCKED) AS c;
		EXIT WHEN chats IS NULL;
		IF expired THEN
			DELETE FROM {schema}.inbox_updates AS u WHERE u.tenant = of COLLATE "C" AND u.chat = ANY (chats) AND u.expires_at <= now;
		END IF;
		IF tried THEN -- and may have been overtaken since, by one before it
			UPDATE {schema}.inbox_updates AS u SET attempt = t.attempt FROM unnest(chats, ids, attempts) AS t(chat, id, attempt)
			WHERE u.tenant = of COLLATE "C" AND u.chat = t.chat AND u.id = t.id;
		END IF;
		RETURN QUERY
			UPDATE {schema}.inbox_chats AS q
			SET at = inbox_take.until, id = f.id, attempt = f.attempt + 1, token = nextval('{schema}.inbox_counter')
			FROM unnest(chats) WITH ORDINALITY AS c(chat, n) CROSS JOIN LATERAL (
				SELECT u.id, u.kind, u.received_at, u.expires_at, u.attempt, u.raw FROM {schema}.inbox_updates AS u
				WHERE u.tenant = of COLLATE "C" AND u.chat = c.chat ORDER BY u.id LIMIT 1) AS f
			WHERE q.tenant = of COLLATE "C" AND q.chat = c.chat
			RETURNING of, q.chat, f.id, f.kind, f.received_at, f.expires_at, q.attempt, f.raw, q.token;
		GET DIAGNOSTICS got = ROW_COUNT;
		IF got < cardinality(chats) THEN
			DELETE FROM {schema}.inbox_chats AS q WHERE q.tenant = of COLLATE "C" AND q.chat = ANY (chats)
				AND NOT EXISTS (SELECT FROM {schema}.inbox_updates AS u WHERE u.tenant = q.tenant AND u.chat = q.chat);
		END IF;
		EXIT WHEN cardinality(chats) < n; -- all that are free are lent
		n := n - got;
	END LOOP;
END $$;

-- Lends updates: one of each tenant that has one, beginning with the tenant
-- after the last whose turn it was, and then shares out what more may be lent.
CREATE FUNCTION {schema}.inbox_lease(last text, rest integer, moment bigint, until bigint, per_tenant integer, held_tenants text[], held_counts integer[])
RETURNS TABLE (tenant text, chat text, id bigint, kind text, received_at timestamptz, expires_at timestamptz, attempt integer, raw bytea, token bigint)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	held    jsonb := coalesce((SELECT jsonb_object_agg(h.k, h.v) FROM unnest(held_tenants, held_counts) AS h(k, v)), '{}');
	expired boolean := EXISTS (SELECT FROM {schema}.inbox_updates AS u WHERE u.expires_at <= to_timestamp(moment / 1000000.0));
	tenants text[] := '{}'; -- that may have more
	rooms   integer[] := '{}';
	name    text COLLATE "C" := last;
	at_time bigint;
	room    integer;
	wrapped boolean := false;
	share   integer;
	active  integer;
	n       integer;
	got     integer;
BEGIN
	WHILE rest > 0 LOOP
		SELECT q.tenant, q.at INTO name, at_time FROM {schema}.inbox_chats AS q WHERE q.tenant > name ORDER BY q.tenant, q.at LIMIT 1;
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
		CONTINUE WHEN at_time > moment OR room <= 0;
		RETURN QUERY SELECT * FROM {schema}.inbox_take(name, 1, moment, until, expired);
		GET DIAGNOSTICS got = ROW_COUNT;
		rest := rest - got;
		IF got > 0 AND room > 1 THEN
			tenants := tenants || name::text;
			rooms := rooms || room - 1;
		END IF;
	END LOOP;
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
