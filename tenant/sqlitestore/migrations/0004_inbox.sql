-- Updates that wait or are leased. A row is written once and deleted once: what
-- changes while it is handled is in its chat's row.
CREATE TABLE inbox_updates (
	seq         INTEGER PRIMARY KEY,
	tenant      TEXT    NOT NULL,
	chat        TEXT    NOT NULL,
	id          INTEGER NOT NULL,
	kind        TEXT    NOT NULL,
	received_at INTEGER NOT NULL, -- microseconds since 1970
	expires_at  INTEGER,
	attempt     INTEGER NOT NULL,
	raw         BLOB    NOT NULL
) STRICT;
CREATE UNIQUE INDEX inbox_updates_by_chat ON inbox_updates (tenant, chat, id, received_at);
CREATE INDEX inbox_updates_by_expiry ON inbox_updates (expires_at) WHERE expires_at IS NOT NULL;

-- The chats that have updates. One is ready when at is not in the future: then
-- it is a place in the queue of the tenant's chats, which is far less than any
-- time of today, or the time when a lease has expired or another try may be.
CREATE TABLE inbox_chats (
	tenant  TEXT    NOT NULL,
	chat    TEXT    NOT NULL,
	at      INTEGER NOT NULL,
	id      INTEGER NOT NULL DEFAULT 0, -- the update that was lent last; 0: none
	attempt INTEGER NOT NULL DEFAULT 0, -- of that one
	token   INTEGER NOT NULL DEFAULT 0, -- of its lease; 0: it is not leased
	PRIMARY KEY (tenant, chat)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_chats_by_turn ON inbox_chats (tenant, at);

-- The ids that were put, 1024 to a row, by the hour.
CREATE TABLE inbox_seen (
	tenant TEXT    NOT NULL,
	block  INTEGER NOT NULL,
	hour   INTEGER NOT NULL,
	bits   BLOB    NOT NULL,
	PRIMARY KEY (tenant, block, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_seen_by_hour ON inbox_seen (hour);

CREATE TABLE inbox_dead (
	tenant      TEXT    NOT NULL,
	id          INTEGER NOT NULL,
	chat        TEXT    NOT NULL,
	kind        TEXT    NOT NULL,
	received_at INTEGER NOT NULL,
	expires_at  INTEGER,
	attempt     INTEGER NOT NULL,
	raw         BLOB    NOT NULL,
	reason      TEXT    NOT NULL,
	died_at     INTEGER NOT NULL,
	PRIMARY KEY (tenant, id)
) STRICT;
CREATE INDEX inbox_dead_by_age ON inbox_dead (tenant, died_at);

-- Numbers places in the queue, and leases.
CREATE TABLE inbox_counter (n INTEGER NOT NULL) STRICT;
INSERT INTO inbox_counter (n) VALUES (0);
