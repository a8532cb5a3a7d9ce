CREATE TABLE rollups (
	tenant TEXT    NOT NULL,
	start  INTEGER NOT NULL, -- of the hour or the day; microseconds since 1970
	daily  INTEGER NOT NULL, -- 0: an hour; 1: a day
	data   TEXT    NOT NULL, -- JSON
	PRIMARY KEY (tenant, start, daily)
) STRICT;
CREATE INDEX rollups_by_start ON rollups (daily, start, tenant);
