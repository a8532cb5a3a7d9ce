-- Who polls for which tenant. A lease that has ended is as good as none.
CREATE TABLE leases (
	tenant TEXT    NOT NULL PRIMARY KEY,
	owner  TEXT    NOT NULL,
	until  INTEGER NOT NULL -- microseconds since 1970
) STRICT, WITHOUT ROWID;
