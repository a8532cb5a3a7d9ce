-- In the order in which changes lock them, or one that comes while this migrates
-- and this would wait for each other.
LOCK TABLE {schema}.tenants, {schema}.log IN SHARE ROW EXCLUSIVE MODE;

-- Entries become visible in the order of their seq, so that who reads on from
-- the last one misses none: who adds some waits, before they are numbered, until
-- those before have committed. Changes of tenants notify, and commits that do
-- wait for each other all the same.
CREATE FUNCTION {schema}.log_in_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_advisory_xact_lock(hashtextextended('tgfleet log of {schema}', 0));
	RETURN NULL;
END $$;
CREATE TRIGGER log_in_order BEFORE INSERT ON {schema}.log
	FOR EACH STATEMENT EXECUTE FUNCTION {schema}.log_in_order();

-- For pruning. Entries without a time are the oldest.
CREATE INDEX log_by_time ON {schema}.log (coalesce(time, '-infinity'));
