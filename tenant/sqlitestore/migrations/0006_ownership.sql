-- Codes that were given out and not sent to their bots yet.
CREATE TABLE ownership_challenges (
	tenant     TEXT    NOT NULL,
	user       INTEGER NOT NULL, -- 0: whoever sends it
	bot_id     INTEGER NOT NULL,
	hash       BLOB    NOT NULL, -- a keyed hash of the code
	attempts   INTEGER NOT NULL,
	expires_at INTEGER NOT NULL, -- microseconds since 1970
	PRIMARY KEY (tenant, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX ownership_challenges_by_expiry ON ownership_challenges (expires_at);

CREATE TABLE ownership_proofs (
	tenant TEXT    NOT NULL PRIMARY KEY,
	bot_id INTEGER NOT NULL,
	user   INTEGER NOT NULL,
	method TEXT    NOT NULL,
	at     INTEGER NOT NULL,
	hash   BLOB
) STRICT, WITHOUT ROWID;
