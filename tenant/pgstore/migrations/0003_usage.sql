CREATE TABLE {schema}.rollups (
	tenant bytea       NOT NULL, -- as in health
	start  timestamptz NOT NULL, -- of the hour or the day
	daily  boolean     NOT NULL,
	data   json        NOT NULL,
	PRIMARY KEY (tenant, start, daily)
) WITH (fillfactor = 85);
CREATE INDEX rollups_by_start ON {schema}.rollups (daily, start, tenant);
