-- The last write of each process that writes health or usage, so that one that
-- is repeated is applied once.
CREATE TABLE flushes (
	writer TEXT    NOT NULL PRIMARY KEY,
	seq    INTEGER NOT NULL,
	at     INTEGER NOT NULL  -- microseconds since 1970
) STRICT, WITHOUT ROWID;
CREATE INDEX flushes_by_time ON flushes (at);

CREATE TABLE health (
	tenant TEXT NOT NULL PRIMARY KEY,
	data   TEXT NOT NULL -- JSON
) STRICT;
