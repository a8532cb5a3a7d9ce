-- The highest version of a record that was removed. A record that is created
-- begins above it, so no tenant gets a version twice, whether or not the log
-- says which were used.
CREATE TABLE tenant_versions (retired INTEGER NOT NULL) STRICT;
INSERT INTO tenant_versions (retired) SELECT max(
	coalesce((SELECT max(version) FROM log), 0),
	coalesce((SELECT max(version) FROM tenant_changes), 0)
);
CREATE TRIGGER tenants_retired AFTER DELETE ON tenants BEGIN
	UPDATE tenant_versions SET retired = max(retired, OLD.version);
END;

-- For those who remove old entries. What has no time is older than all.
CREATE INDEX log_by_time ON log (ifnull(time, -9000000000000000000));
