-- Corrections of the books: asked for by one person, approved by another, booked as a journal of their own.
--
--   corrections (asked) ──► correction_answers (approved, or refused) ──► an adjusting or reversing journal
--
-- Nothing here is ever changed: the answer is a row, not a column, and the journal is booked in its transaction.
CREATE TABLE corrections (
    correction_id   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain           TEXT NOT NULL REFERENCES chains,
    reason          TEXT NOT NULL CHECK (btrim(reason) <> ''),
    break_id        BIGINT REFERENCES breaks,   -- the break it explains, where it is about one
    asked_by        TEXT NOT NULL,              -- user of the operating system
    asked_at        TIMESTAMPTZ NOT NULL DEFAULT now(),
    -- a reversal: the journal that it undoes
    reverses_source TEXT,
    reverses_ref    TEXT,
    -- an adjustment: what it moves
    debit           TEXT,
    credit          TEXT,
    asset           TEXT REFERENCES assets,
    amount          uint256 CHECK (amount > 0),
    FOREIGN KEY (reverses_source, reverses_ref) REFERENCES journal_keys (source, ref),
    CHECK (num_nulls(reverses_source, reverses_ref) IN (0, 2)),
    CHECK (num_nulls(debit, credit, asset, amount) = CASE WHEN reverses_source IS NULL THEN 0 ELSE 4 END),
    CHECK (debit <> credit)
);

CREATE TABLE correction_answers (
    correction_id BIGINT PRIMARY KEY REFERENCES corrections,
    answer        TEXT NOT NULL CHECK (answer IN ('approved', 'refused')),
    reason        TEXT,                         -- why it was refused
    answered_by   TEXT NOT NULL,                -- user of the operating system
    answered_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK ((reason IS NOT NULL) = (answer = 'refused'))
);

CREATE FUNCTION refuse_own_approval() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.answer = 'approved' AND EXISTS (
        SELECT FROM corrections WHERE correction_id = NEW.correction_id AND asked_by = NEW.answered_by
    ) THEN
        RAISE EXCEPTION 'correction % was asked for by %: another person must approve it',
            NEW.correction_id, NEW.answered_by USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER correction_answers_by_another BEFORE INSERT ON correction_answers
    FOR EACH ROW EXECUTE FUNCTION refuse_own_approval();

CREATE TRIGGER corrections_append_only BEFORE UPDATE OR DELETE ON corrections
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER correction_answers_append_only BEFORE UPDATE OR DELETE ON correction_answers
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER corrections_no_truncate BEFORE TRUNCATE ON corrections
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER correction_answers_no_truncate BEFORE TRUNCATE ON correction_answers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
