CREATE TABLE {schema}.tenants (
	id         text COLLATE "C" NOT NULL,
	bot_id     bigint      NOT NULL,
	username   text        NOT NULL,
	name       text        NOT NULL,
	token      bytea       NOT NULL, -- sealed
	token_key  text        NOT NULL, -- the id of the key that sealed it
	status     text        NOT NULL,
	reason     text        NOT NULL,
	health     text        NOT NULL DEFAULT '',
	limits     jsonb,                -- NULL for the defaults
	metadata   jsonb       NOT NULL,
	version    bigint      NOT NULL,
	created_at timestamptz,
	updated_at timestamptz,
	CONSTRAINT tenants_pkey PRIMARY KEY (id),
	CONSTRAINT tenants_bot_id_key UNIQUE (bot_id) -- a bot belongs to one tenant
);

-- Who changed what. It outlives the tenants.
CREATE TABLE {schema}.log (
	seq     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	time    timestamptz,
	tenant  text COLLATE "C" NOT NULL,
	bot_id  bigint NOT NULL,
	version bigint NOT NULL,
	actor   text   NOT NULL,
	action  text   NOT NULL,
	detail  text   NOT NULL
);
CREATE INDEX log_by_tenant ON {schema}.log (tenant, seq);

-- Those who watch hear of every new version, whoever makes it: who changes a
-- tenant by hand adds 1 to its version.
CREATE FUNCTION {schema}.tenant_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		PERFORM pg_notify('{channel}', '0 ' || OLD.status || ' ' || OLD.id);
	ELSIF TG_OP = 'INSERT' OR OLD.version IS DISTINCT FROM NEW.version THEN
		PERFORM pg_notify('{channel}', NEW.version || ' ' || NEW.status || ' ' || NEW.id);
	END IF;
	RETURN NULL;
END $$;
CREATE TRIGGER tenant_changed AFTER INSERT OR UPDATE OR DELETE ON {schema}.tenants
	FOR EACH ROW EXECUTE FUNCTION {schema}.tenant_changed();
