-- The last write of each process that writes health or usage, so that one that
-- is repeated is applied once.
CREATE TABLE {schema}.flushes (
	writer text COLLATE "C" NOT NULL PRIMARY KEY,
	seq    bigint           NOT NULL,
	at     timestamptz      NOT NULL
);
CREATE INDEX flushes_by_time ON {schema}.flushes (at);

-- A tenant is whatever calls were made for, and one whose id is no text must not
-- keep the rest of its flush from being stored: so it is bytes. A plain id can be
-- written as it is, WHERE tenant = 'shop'; convert_from(tenant, 'UTF8') reads it.
-- The data is json and not jsonb, which refuses a NUL in a text of Telegram's.
CREATE TABLE {schema}.health (
	tenant bytea NOT NULL PRIMARY KEY,
	data   json  NOT NULL
) WITH (fillfactor = 70); -- rows are written again and again, beside their old versions
