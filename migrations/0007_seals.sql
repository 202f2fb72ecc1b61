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
