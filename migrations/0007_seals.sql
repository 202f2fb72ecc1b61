-- The seal of the books: every journal is a link of one hash chain, so that no row can be changed, moved, put in between or
-- taken away later without every head after it being wrong.
--
--   journal_keys ──trigger──► unsealed ──sealer──► seals (sequence, head of each journal), sealings (count, head of each run)
--
-- The order is that of sealing, not of ids: a transaction that took an id early may commit late. Who can write to all of
-- this can make a new chain: so each run's count and head go to the log as well, and can be noted elsewhere.
CREATE TABLE unsealed (
    journal_id   BIGINT PRIMARY KEY,
    chain        TEXT NOT NULL,
    block_number BIGINT NOT NULL
);

CREATE TABLE seals (
    sequence     BIGINT PRIMARY KEY CHECK (sequence > 0),  -- 1, 2, 3, … without a gap
    journal_id   BIGINT NOT NULL UNIQUE,
    chain        TEXT NOT NULL,
    block_number BIGINT NOT NULL,
    head         BYTEA NOT NULL         -- over the head before, the sequence and the journal: bridge/domain/seals.py
);

-- What each run said: so many journals, with that head. The last one tells where the chain must end.
CREATE TABLE sealings (
    count     BIGINT PRIMARY KEY CHECK (count > 0),
    head      BYTEA NOT NULL,
    sealed_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE FUNCTION seal_later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO unsealed (journal_id, chain, block_number) SELECT journal_id, chain, block_number FROM booked;
    RETURN NULL;
END $$;

INSERT INTO unsealed (journal_id, chain, block_number) SELECT journal_id, chain, block_number FROM journal_keys;
CREATE TRIGGER journal_keys_sealed AFTER INSERT ON journal_keys
    REFERENCING NEW TABLE AS booked FOR EACH STATEMENT EXECUTE FUNCTION seal_later();

CREATE TRIGGER seals_append_only BEFORE UPDATE OR DELETE ON seals FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER sealings_append_only BEFORE UPDATE OR DELETE ON sealings FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER seals_no_truncate BEFORE TRUNCATE ON seals FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER sealings_no_truncate BEFORE TRUNCATE ON sealings FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- ── Who may write ──────────────────────────────────────────────────────────────────────────────────────────────────
-- Renaming an account or an asset would rewrite every entry that names it.
CREATE TRIGGER accounts_append_only BEFORE UPDATE OR DELETE ON accounts
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER assets_append_only BEFORE UPDATE OR DELETE ON assets
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER accounts_no_truncate BEFORE TRUNCATE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER assets_no_truncate BEFORE TRUNCATE ON assets
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Triggers bind everybody but the tables' owner and superusers, who can turn them off. So the daemon should log in as a
-- role that owns nothing, and has what this gives it. Partitions are made for it: with the owner's rights, and with a
-- search path on which nobody's temporary table stands in for one of ours.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION ensure_partitions(TEXT, BIGINT) SECURITY DEFINER SET search_path = %I, pg_temp',
                   current_schema());
END $$;
REVOKE EXECUTE ON FUNCTION ensure_partitions(TEXT, BIGINT) FROM PUBLIC;

-- Called by `bridge migrate --application ROLE`, after each migration: rights on new tables are given here as well.
-- Nothing is given on partitions: they are reached through their tables alone.
CREATE FUNCTION grant_application(application TEXT) RETURNS VOID LANGUAGE plpgsql AS $$
DECLARE
    append_only CONSTANT TEXT[] := ARRAY['assets', 'accounts', 'journal_keys', 'journals', 'transfers', 'corrections',
                                         'correction_answers', 'seals', 'sealings'];
    own         RECORD;
    rights      TEXT;
BEGIN
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = application) THEN
        RAISE EXCEPTION '% is a superuser: nothing can be kept from it', application
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    FOR own IN
        SELECT c.relname, c.relkind, c.relispartition, c.relowner FROM pg_class c
         WHERE c.relnamespace = current_schema()::REGNAMESPACE AND c.relkind IN ('r', 'p', 'v', 'S')
    LOOP
        IF pg_has_role(application, own.relowner, 'MEMBER') THEN
            RAISE EXCEPTION '% owns %: it could turn off what keeps the books append-only', application, own.relname
                USING ERRCODE = 'invalid_parameter_value';
        END IF;
        rights := CASE
            WHEN own.relkind = 'S' THEN 'USAGE'
            WHEN own.relispartition THEN NULL
            WHEN own.relkind = 'v' OR own.relname IN ('schema_migrations', 'break_history') THEN 'SELECT'
            WHEN own.relname = ANY(append_only) THEN 'SELECT, INSERT'
            ELSE 'SELECT, INSERT, UPDATE, DELETE'
        END;
        EXECUTE format('REVOKE ALL ON %s %I FROM %I',
                       CASE own.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, own.relname, application);
        IF rights IS NOT NULL THEN
            EXECUTE format('GRANT %s ON %s %I TO %I', rights,
                           CASE own.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, own.relname, application);
        END IF;
    END LOOP;
    EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM %I', current_schema(), application);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), application);
    EXECUTE format('GRANT EXECUTE ON FUNCTION ensure_partitions(TEXT, BIGINT) TO %I', application);
END $$;
