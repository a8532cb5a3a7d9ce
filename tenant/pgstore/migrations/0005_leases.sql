-- Who polls for which tenant. A lease that has ended is as good as none.
CREATE TABLE {schema}.leases (
	tenant text COLLATE "C" NOT NULL,
	owner  text        NOT NULL,
	until  timestamptz NOT NULL,
	CONSTRAINT leases_pkey PRIMARY KEY (tenant)
) WITH (fillfactor = 70); -- they are extended all the time
