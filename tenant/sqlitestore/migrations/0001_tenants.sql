CREATE TABLE tenants (
	id         TEXT    NOT NULL PRIMARY KEY,
	bot_id     INTEGER NOT NULL UNIQUE, -- a bot belongs to one tenant
	username   TEXT    NOT NULL,
	name       TEXT    NOT NULL,
	token      BLOB    NOT NULL,        -- sealed
	token_key  TEXT    NOT NULL,        -- the id of the key that sealed it
	status     TEXT    NOT NULL,
	reason     TEXT    NOT NULL,
	health     TEXT    NOT NULL DEFAULT '',
	limits     TEXT    NOT NULL,        -- JSON; '' for the defaults
	metadata   TEXT    NOT NULL,        -- JSON
	version    INTEGER NOT NULL,
	created_at INTEGER,                 -- microseconds since 1970
	updated_at INTEGER
) STRICT;

-- Who changed what. It outlives the tenants.
CREATE TABLE log (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	time    INTEGER,
	tenant  TEXT    NOT NULL,
	bot_id  INTEGER NOT NULL,
	version INTEGER NOT NULL,
	actor   TEXT    NOT NULL,
	action  TEXT    NOT NULL,
	detail  TEXT    NOT NULL
) STRICT;
CREATE INDEX log_by_tenant ON log (tenant, seq);

-- The latest changes, for those who watch. Whoever changes a tenant by hand
-- and adds 1 to its version is heard too.
CREATE TABLE tenant_changes (
	seq     INTEGER PRIMARY KEY AUTOINCREMENT,
	id      TEXT    NOT NULL,
	version INTEGER NOT NULL, -- 0: removed
	status  TEXT    NOT NULL
) STRICT;
CREATE TRIGGER tenants_inserted AFTER INSERT ON tenants BEGIN
	INSERT INTO tenant_changes (id, version, status) VALUES (NEW.id, NEW.version, NEW.status);
END;
CREATE TRIGGER tenants_updated AFTER UPDATE ON tenants WHEN OLD.version IS NOT NEW.version BEGIN
	INSERT INTO tenant_changes (id, version, status) VALUES (NEW.id, NEW.version, NEW.status);
END;
CREATE TRIGGER tenants_deleted AFTER DELETE ON tenants BEGIN
	INSERT INTO tenant_changes (id, version, status) VALUES (OLD.id, 0, '');
END;
CREATE TRIGGER tenant_changes_pruned AFTER INSERT ON tenant_changes BEGIN
	DELETE FROM tenant_changes WHERE seq <= NEW.seq - 10000;
END;
