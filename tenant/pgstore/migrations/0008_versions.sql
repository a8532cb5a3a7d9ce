-- The highest version of a record that was removed. What is created begins above
-- it, so that no id has a version twice.
CREATE TABLE {schema}.retired (
	one     boolean NOT NULL DEFAULT true CHECK (one),
	version bigint  NOT NULL,
	CONSTRAINT retired_pkey PRIMARY KEY (one)
);

-- Who removes locks the row first, who creates waits for that and reads what was
-- removed meanwhile. Both do it before they lock a tenant's row.
CREATE FUNCTION {schema}.tenant_created() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	last bigint;
BEGIN
	SELECT r.version INTO last FROM {schema}.retired AS r FOR SHARE;
	NEW.version := greatest(NEW.version, last + 1);
	RETURN NEW;
END $$;
CREATE FUNCTION {schema}.tenants_removing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM FROM {schema}.retired FOR NO KEY UPDATE;
	RETURN NULL;
END $$;
CREATE FUNCTION {schema}.tenant_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	UPDATE {schema}.retired AS r SET version = OLD.version WHERE r.version < OLD.version;
	RETURN NULL;
END $$;
CREATE TRIGGER tenant_created BEFORE INSERT ON {schema}.tenants
	FOR EACH ROW EXECUTE FUNCTION {schema}.tenant_created();
CREATE TRIGGER tenants_removing BEFORE DELETE ON {schema}.tenants
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}.tenants_removing();
CREATE TRIGGER tenant_removed AFTER DELETE ON {schema}.tenants
	FOR EACH ROW EXECUTE FUNCTION {schema}.tenant_removed();
-- The triggers keep others out by now.
INSERT INTO {schema}.retired (version) SELECT coalesce(max(l.version), 0) FROM {schema}.log AS l
	WHERE NOT EXISTS (SELECT FROM {schema}.tenants AS t WHERE t.id = l.tenant);

-- Returns tenants by id, at most so many, and no more after some bytes: metadata
-- may be large.
CREATE FUNCTION {schema}.tenants_page(after text, statuses text[], healths text[], most integer, bytes bigint)
RETURNS SETOF {schema}.tenants LANGUAGE plpgsql STABLE AS $$
DECLARE
	r {schema}.tenants;
BEGIN
	FOR r IN SELECT t.* FROM {schema}.tenants AS t WHERE t.id > after COLLATE "C"
		AND (statuses IS NULL OR t.status = ANY (statuses)) AND (healths IS NULL OR t.health = ANY (healths))
		ORDER BY t.id LIMIT most
	LOOP
		RETURN NEXT r;
		bytes := bytes - octet_length(r.metadata::text) - octet_length(r.name) - octet_length(r.reason);
		EXIT WHEN bytes <= 0;
	END LOOP;
END $$;
