-- The life of a break: who takes care of it, and who changed it when, with which words.
ALTER TABLE breaks
    ADD COLUMN assignee TEXT,
    ADD COLUMN lasting  BOOLEAN NOT NULL DEFAULT FALSE;     -- a fact that no entry can undo: a person may resolve it

-- Which run last made the check that found a break.
CREATE INDEX checks_by_subject ON checks (chain, level, subject, reconciliation_id);

CREATE TABLE break_history (
    entry_id   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    break_id   BIGINT NOT NULL REFERENCES breaks,
    changed_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    changed_by TEXT NOT NULL,               -- a person, `reconciliation N`, `check N`, or a role of the database
    from_state TEXT,                        -- NULL where it was opened
    to_state   TEXT NOT NULL,
    words      TEXT                         -- why, or who takes care of it now
);
CREATE INDEX break_history_of ON break_history (break_id, entry_id);

-- Written by the database, so that a change by hand leaves its line too, and with the owner's rights: the daemon's role
-- has none to write a line of its own. A person's name and words are settings of the transaction: they end with it, and no
-- later change can be taken for theirs.
CREATE FUNCTION record_break() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    person CONSTANT TEXT := NULLIF(current_setting('bridge.person', TRUE), '');
    words  CONSTANT TEXT := NULLIF(current_setting('bridge.words', TRUE), '');
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO break_history (break_id, changed_at, changed_by, to_state)
        VALUES (NEW.break_id, NEW.opened_at, COALESCE('reconciliation ' || NEW.last_seen, 'role ' || session_user),
                NEW.state);
    ELSIF NEW.cleared_by IS DISTINCT FROM OLD.cleared_by THEN
        INSERT INTO break_history (break_id, changed_by, from_state, to_state)
        VALUES (NEW.break_id, 'check ' || NEW.cleared_by, OLD.state, NEW.state);
    ELSIF (NEW.state, NEW.assignee) IS DISTINCT FROM (OLD.state, OLD.assignee) THEN
        INSERT INTO break_history (break_id, changed_by, from_state, to_state, words)
        VALUES (NEW.break_id, COALESCE(person, 'role ' || session_user), OLD.state, NEW.state, words);
    END IF;
    RETURN NULL;
END $$;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION record_break() SECURITY DEFINER SET search_path = %I, pg_temp', current_schema());
END $$;
CREATE TRIGGER breaks_recorded AFTER INSERT OR UPDATE OF state, assignee ON breaks
    FOR EACH ROW EXECUTE FUNCTION record_break();

CREATE FUNCTION refuse_new_history() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: what was done about a break is never changed (%)', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER break_history_append_only BEFORE UPDATE OR DELETE ON break_history
    FOR EACH ROW EXECUTE FUNCTION refuse_new_history();
CREATE TRIGGER break_history_no_truncate BEFORE TRUNCATE ON break_history
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_new_history();

-- Breaks from before: when they were opened, and what has become of them.
INSERT INTO break_history (break_id, changed_at, changed_by, to_state)
SELECT break_id, opened_at, COALESCE('reconciliation ' || last_seen, 'unknown'), 'open' FROM breaks ORDER BY break_id;
INSERT INTO break_history (break_id, changed_at, changed_by, from_state, to_state, words)
SELECT break_id, COALESCE(resolved_at, now()), COALESCE('check ' || cleared_by, 'unknown'), 'open', state, resolution
  FROM breaks WHERE state <> 'open' ORDER BY break_id;
UPDATE breaks SET lasting = TRUE
 WHERE state <> 'resolved' AND (subject LIKE '% nonce %' AND kind = 'unexpected_out' OR check_subject = 'executed batches');
