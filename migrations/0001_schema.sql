-- The schema of the bridge, first version.
--
-- Flow of the tables, left to right; a stage commits its rows and its cursor in one transaction:
--
--   blocks, logs ─► decisions, allocations ─► distributions, payouts ─► confirmations ─► journals, transfers ─► checks, breaks
--   (ingest)        (decide)                  actions, slots, attempts  (confirm)        balances (post)       (reconcile)
--
-- Conventions: amounts are NUMERIC(78,0) (uint256 fits); hashes and addresses are BYTEA; times are TIMESTAMPTZ of the
-- database's clock and never decide anything that the chain can decide. Tables that grow without end (blocks, logs,
-- journals, transfers) are partitioned by chain, then by block range; every key of theirs starts with the chain, so
-- that they could be distributed by chain unchanged.

-- ── Amounts ────────────────────────────────────────────────────────────────────────────────────────────────────────
CREATE DOMAIN uint256 AS NUMERIC(78, 0)
    CHECK (VALUE >= 0 AND VALUE <= 115792089237316195423570985008687907853269984665640564039457584007913129639935);

-- ── Chains, leases, cursors ────────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE chains (
    chain         TEXT PRIMARY KEY,
    kind          TEXT NOT NULL,
    reference     TEXT NOT NULL,            -- CAIP-2, for example eip155:1
    genesis_hash  BYTEA NOT NULL,           -- a database never serves two chains under one name
    start_block   BIGINT NOT NULL,
    registered_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- A fenced lease: whoever writes for (stage, chain) names the epoch it holds; an older epoch is refused.
CREATE TABLE leases (
    name       TEXT PRIMARY KEY,            -- 'ingest:mainnet', 'pay:mainnet', …
    epoch      BIGINT NOT NULL,
    holder     TEXT NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL         -- database time, never a client's
);

-- How far a stage has come on a chain: everything up to and including block_number is done.
CREATE TABLE cursors (
    stage        TEXT NOT NULL,
    scope        TEXT NOT NULL,             -- chain, or chain/rule
    block_number BIGINT NOT NULL,
    block_hash   BYTEA NOT NULL,
    updated_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (stage, scope)
);

-- ── Ingest: blocks and raw logs ────────────────────────────────────────────────────────────────────────────────────
-- What ingest knows of each chain. Invariant: finalized_number <= head_number, both canonical.
CREATE TABLE heads (
    chain              TEXT PRIMARY KEY REFERENCES chains,
    head_number        BIGINT NOT NULL,
    head_hash          BYTEA NOT NULL,
    head_timestamp     BIGINT NOT NULL,     -- seconds, as the block says
    finalized_number   BIGINT NOT NULL,     -- start_block - 1 until something is final
    finalized_hash     BYTEA NOT NULL,
    finalized_timestamp BIGINT NOT NULL,
    node_head          BIGINT NOT NULL,     -- what the node last claimed; lag = node_head - head_number
    updated_at         TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK (finalized_number <= head_number)
);

CREATE TABLE blocks (
    chain       TEXT NOT NULL,
    number      BIGINT NOT NULL,
    hash        BYTEA NOT NULL,
    parent_hash BYTEA NOT NULL,
    timestamp   BIGINT NOT NULL,            -- seconds, as the block says
    status      TEXT NOT NULL DEFAULT 'canonical' CHECK (status IN ('canonical', 'orphaned', 'finalized')),
    added_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (chain, number, hash)
) PARTITION BY LIST (chain);
-- There is one chain: two blocks of one number that count would make two truths, and finality would seal both.
CREATE UNIQUE INDEX blocks_that_count ON blocks (chain, number) WHERE status <> 'orphaned';

-- Raw, undecoded. Whether a log counts is said by its block's status; logs of orphaned blocks stay.
CREATE TABLE logs (
    chain        TEXT NOT NULL,
    block_number BIGINT NOT NULL,
    block_hash   BYTEA NOT NULL,
    log_index    INTEGER NOT NULL,
    tx_hash      BYTEA NOT NULL,
    tx_index     INTEGER NOT NULL,
    address      BYTEA NOT NULL,
    topic0       BYTEA,
    topic1       BYTEA,
    topic2       BYTEA,
    topic3       BYTEA,
    data         BYTEA NOT NULL,
    PRIMARY KEY (chain, block_number, block_hash, log_index)
) PARTITION BY LIST (chain);

-- Finalized ranges, each agreed by a second read. Contiguous per chain: first_block = previous last_block + 1.
CREATE TABLE finalized_ranges (
    chain        TEXT NOT NULL REFERENCES chains,
    first_block  BIGINT NOT NULL,
    last_block   BIGINT NOT NULL,
    last_hash    BYTEA NOT NULL,
    logs         BIGINT NOT NULL,
    digest       BYTEA NOT NULL,            -- sha256 over the range's logs in order, both reads
    read_by      TEXT NOT NULL,
    verified_by  TEXT NOT NULL,             -- the same provider where only one is configured; reports say so
    verified_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (chain, first_block),
    CHECK (last_block >= first_block)
);

CREATE TABLE reorgs (
    reorg_id        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain           TEXT NOT NULL REFERENCES chains,
    ancestor_number BIGINT NOT NULL,
    ancestor_hash   BYTEA NOT NULL,
    old_head        BIGINT NOT NULL,
    blocks_orphaned INTEGER NOT NULL,
    seen_at         TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- ── Decide: rules, accumulators, decisions ─────────────────────────────────────────────────────────────────────────
CREATE TABLE rules (
    rule         TEXT NOT NULL,
    version      INTEGER NOT NULL,
    content_hash BYTEA NOT NULL,            -- sha256 of the file's bytes
    body         TEXT NOT NULL,             -- the file, so that an old decision can always be read with its rule
    loaded_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (rule, version),
    UNIQUE (content_hash)
);

-- What a rule stood for when it began on a chain. Its events may not have been read before it was there, so it decides
-- windows from `since` on; the row with rule '' says that the chain has begun, with whatever rules there were then.
CREATE TABLE rule_starts (
    chain        TEXT NOT NULL REFERENCES chains,
    rule         TEXT NOT NULL,
    block_number BIGINT NOT NULL,           -- events are complete from here on
    since        BIGINT NOT NULL,           -- second
    contracts    TEXT NOT NULL,             -- JSON: name → address
    stopped_at   BIGINT,                    -- block after which it was not configured any more: events may be missing
    PRIMARY KEY (chain, rule)
);

-- What a rule remembers between events: one row for each accumulator and key, only changed rows are written, nothing
-- when a window ends. value has the unit of the input, weight is value × seconds; both may pass uint256, hence wider.
CREATE TABLE accumulators (
    chain   TEXT NOT NULL,
    rule    TEXT NOT NULL,
    input   TEXT NOT NULL,
    account BYTEA NOT NULL,                 -- '' for a scalar
    value   NUMERIC NOT NULL,
    weight  NUMERIC NOT NULL DEFAULT 0,
    since   BIGINT NOT NULL DEFAULT 0,      -- second of the last event; before the window's start: counts as reset
    PRIMARY KEY (chain, rule, input, account)
);

-- The events that a window has counted so far, by the name that the rule gives them.
CREATE TABLE sources (
    chain        TEXT NOT NULL,
    rule         TEXT NOT NULL,
    event        TEXT NOT NULL,
    window_start BIGINT NOT NULL,           -- another window's row counts as absent
    events       BIGINT NOT NULL CHECK (events > 0),
    first_block  BIGINT NOT NULL,
    first_index  INTEGER NOT NULL,
    last_block   BIGINT NOT NULL,
    last_index   INTEGER NOT NULL,
    PRIMARY KEY (chain, rule, event)
);

-- What is owed but was too small to pay, by recipient; the key '' holds surplus that no recipient has yet.
CREATE TABLE carries (
    chain     TEXT NOT NULL,
    rule      TEXT NOT NULL,
    asset     TEXT NOT NULL,
    recipient BYTEA NOT NULL,
    amount    uint256 NOT NULL,
    PRIMARY KEY (chain, rule, asset, recipient)
);

CREATE TABLE decisions (
    decision_id  BYTEA PRIMARY KEY,         -- sha256 of artifact
    chain        TEXT NOT NULL REFERENCES chains,
    rule         TEXT NOT NULL,
    version      INTEGER NOT NULL,
    asset        TEXT NOT NULL,
    window_start BIGINT NOT NULL,           -- half-open: window_start <= t < window_end
    window_end   BIGINT NOT NULL,
    block_number BIGINT NOT NULL,           -- last finalized block of the window; every read is pinned to it
    block_hash   BYTEA NOT NULL,
    verdict      TEXT NOT NULL CHECK (verdict IN ('pay', 'carry', 'nothing', 'hold')),
    reason       TEXT NOT NULL,
    surplus      uint256 NOT NULL,          -- found in this window, before guardrails
    total        uint256 NOT NULL,          -- to pay now, = sum of allocations
    carried_in   uint256 NOT NULL,
    carried_out  uint256 NOT NULL,
    artifact     BYTEA NOT NULL,            -- canonical JSON: inputs, reads, trace, allocations
    decided_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (chain, rule, window_start),
    FOREIGN KEY (rule, version) REFERENCES rules (rule, version),
    CHECK (window_end > window_start),
    CHECK ((verdict = 'pay') = (total > 0))
);

CREATE TABLE allocations (
    decision_id BYTEA NOT NULL REFERENCES decisions,
    recipient   BYTEA NOT NULL,
    amount      uint256 NOT NULL CHECK (amount > 0),
    carried_in  uint256 NOT NULL,           -- part of amount that earlier windows left
    PRIMARY KEY (decision_id, recipient)
);

-- ── Pay: distribution → payouts (recipients), actions (steps) → slot (nonce) → attempt (signed transaction) ────────
CREATE TABLE distributions (
    distribution_id BYTEA PRIMARY KEY,      -- the on-chain id: derived from what is paid, never from content or nonce
    decision_id     BYTEA NOT NULL UNIQUE REFERENCES decisions,
    chain           TEXT NOT NULL REFERENCES chains,
    rule            TEXT NOT NULL,
    asset           TEXT NOT NULL,
    total           uint256 NOT NULL CHECK (total > 0),
    recipients      INTEGER NOT NULL CHECK (recipients > 0),
    batches         INTEGER NOT NULL CHECK (batches > 0),
    content_hash    BYTEA NOT NULL,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- One recipient of a distribution. outcome is set from the finalized receipt.
CREATE TABLE payouts (
    distribution_id BYTEA NOT NULL REFERENCES distributions,
    recipient       BYTEA NOT NULL,
    batch_index     INTEGER NOT NULL,
    amount          uint256 NOT NULL CHECK (amount > 0),
    outcome         TEXT CHECK (outcome IN ('paid', 'credited')),
    PRIMARY KEY (distribution_id, recipient)
);
CREATE INDEX payouts_by_batch ON payouts (distribution_id, batch_index);

-- The allowed arrows of every state machine; domain/states.py is the same table and a test compares the two.
CREATE TABLE state_arrows (
    machine    TEXT NOT NULL,
    from_state TEXT NOT NULL,
    to_state   TEXT NOT NULL,
    PRIMARY KEY (machine, from_state, to_state)
);

-- One on-chain step of a distribution: ordinal 0 proposes it, ordinal n executes batch n - 1.
CREATE TABLE actions (
    action_id       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    distribution_id BYTEA NOT NULL REFERENCES distributions,
    ordinal         INTEGER NOT NULL CHECK (ordinal >= 0),
    kind            TEXT NOT NULL CHECK (kind IN ('propose', 'execute')),
    chain           TEXT NOT NULL REFERENCES chains,
    state           TEXT NOT NULL DEFAULT 'planned' CHECK (state IN
        ('planned', 'reserved', 'signed', 'broadcast', 'included', 'final', 'held', 'quarantined', 'void')),
    reason          TEXT,                   -- why it is held or quarantined, or what it waits for; NULL when all is well
    payload         BYTEA NOT NULL,         -- chain-specific call data; the same bytes in every attempt
    target          BYTEA NOT NULL,         -- the contract that is called
    updated_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (distribution_id, ordinal),
    CHECK ((kind = 'propose') = (ordinal = 0)),
    CHECK (state NOT IN ('held', 'quarantined') OR reason IS NOT NULL)
);
CREATE INDEX actions_unfinished ON actions (chain, action_id) WHERE state NOT IN ('final', 'void');

-- The sending account and its next free nonce: taken only in the transaction that writes the slot.
CREATE TABLE senders (
    chain       TEXT NOT NULL REFERENCES chains,
    account     BYTEA NOT NULL,
    first_nonce BIGINT NOT NULL,            -- finalized nonce when the account was first used here
    next_nonce  BIGINT NOT NULL,
    -- money for gas, as last read at our head; since when it is less than what the configuration wants
    gas_balance uint256,
    gas_wanted  uint256,
    gas_low_since TIMESTAMPTZ,
    PRIMARY KEY (chain, account),
    CHECK (next_nonce >= first_nonce)
);

CREATE TABLE slots (
    slot_id   BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain     TEXT NOT NULL,
    account   BYTEA NOT NULL,
    nonce     BIGINT NOT NULL,
    action_id BIGINT NOT NULL REFERENCES actions,
    state     TEXT NOT NULL DEFAULT 'live' CHECK (state IN ('live', 'settled', 'foreign')),
    gas_limit BIGINT NOT NULL,              -- as the pre-flight measured it: signing again needs no node
    reserved_at BIGINT NOT NULL,            -- chain time of our head, seconds; the value ceiling per day counts from it
    UNIQUE (chain, account, nonce),
    FOREIGN KEY (chain, account) REFERENCES senders (chain, account)
);
-- One live slot per action: two nonces can never race for one payment.
CREATE UNIQUE INDEX slots_one_live ON slots (action_id) WHERE state = 'live';

-- One signed transaction, saved before a byte of it leaves.
CREATE TABLE attempts (
    attempt_id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    slot_id        BIGINT NOT NULL REFERENCES slots,
    ordinal        INTEGER NOT NULL,        -- 0 first, then fee bumps
    chain          TEXT NOT NULL,
    tx_id          BYTEA NOT NULL,          -- transaction hash
    raw            BYTEA NOT NULL,
    purpose        TEXT NOT NULL DEFAULT 'pay' CHECK (purpose IN ('pay', 'cancel')),
    gas_limit      BIGINT NOT NULL,
    max_fee        uint256 NOT NULL,        -- wei per gas
    priority_fee   uint256 NOT NULL,        -- wei per gas
    signed_head    BIGINT NOT NULL,         -- our head when it was signed, or given back by a reorg: bumps count from here
    signed_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    sent_at        TIMESTAMPTZ,             -- first time a node took it (or knew it)
    -- inclusion as last seen; cleared by a reorg
    block_number   BIGINT,
    block_hash     BYTEA,
    succeeded      BOOLEAN,
    gas_used       BIGINT,
    fee_paid       uint256,                 -- wei: effectiveGasPrice × gasUsed (+ L1 fee where there is one)
    final          BOOLEAN NOT NULL DEFAULT FALSE,
    UNIQUE (slot_id, ordinal),
    UNIQUE (chain, tx_id),
    CHECK ((block_number IS NULL) = (block_hash IS NULL)),
    CHECK ((block_number IS NULL) = (succeeded IS NULL)),
    CHECK (NOT final OR block_number IS NOT NULL)
);
-- One attempt of a slot can be included at a time, for a nonce executes once.
CREATE UNIQUE INDEX attempts_one_included ON attempts (slot_id) WHERE block_number IS NOT NULL;

-- What people ordered about an action (domain/interventions.py), kept for ever. A hold takes effect in the transaction
-- that writes it. The others are open until a stage answers, in the transaction that saves what it did: a crash loses
-- neither the order nor its effect, and does nothing twice.
CREATE TABLE interventions (
    intervention_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    action_id       BIGINT NOT NULL REFERENCES actions,
    kind            TEXT NOT NULL CHECK (kind IN ('hold', 'release', 'bump', 'cancel')),
    reason          TEXT NOT NULL CHECK (reason <> ''),
    ordered_by      TEXT NOT NULL,          -- user of the operating system
    ordered_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    answer          TEXT CHECK (answer IN ('done', 'refused')),
    answer_reason   TEXT,                   -- why it was refused
    answered_at     TIMESTAMPTZ,
    CHECK ((answer IS NULL) = (answered_at IS NULL)),
    CHECK ((answer_reason IS NOT NULL) = (answer IS NOT DISTINCT FROM 'refused'))
);
CREATE INDEX interventions_by_action ON interventions (action_id, intervention_id);
-- One open order for each action: which of two came first is never a question.
CREATE UNIQUE INDEX interventions_one_open ON interventions (action_id) WHERE answer IS NULL;

-- ── Confirm: every transition of an action, in order; what subscribers are told ────────────────────────────────────
-- Written by the trigger below and by nothing else, so that no transition can go unrecorded.
-- (transaction, confirmation_id) orders by commit visibility: readers take rows below the oldest running transaction,
-- because sequence order is not commit order.
CREATE TABLE confirmations (
    confirmation_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    transaction     XID8 NOT NULL DEFAULT pg_current_xact_id(),
    action_id       BIGINT NOT NULL REFERENCES actions,
    from_state      TEXT NOT NULL,
    to_state        TEXT NOT NULL,
    reason          TEXT,
    tx_id           BYTEA,                  -- the attempt that was included, where one was
    block_number    BIGINT,
    block_hash      BYTEA,
    confirmed_at    TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX confirmations_in_order ON confirmations (transaction, confirmation_id);
CREATE INDEX confirmations_by_action ON confirmations (action_id, confirmation_id);
-- What the chain's word alone made final: few, and their transactions are to be found.
CREATE INDEX confirmations_by_word ON confirmations (action_id) WHERE to_state = 'final' AND from_state <> 'included';

-- How far each subscriber has been told; moved only after its callback returned.
CREATE TABLE subscribers (
    subscriber      TEXT PRIMARY KEY,
    transaction     XID8 NOT NULL DEFAULT '0',
    confirmation_id BIGINT NOT NULL DEFAULT 0
);

CREATE FUNCTION refuse_illegal_arrow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> OLD.state AND NOT EXISTS (
        SELECT FROM state_arrows
         WHERE machine = TG_ARGV[0] AND from_state = OLD.state AND to_state = NEW.state
    ) THEN
        RAISE EXCEPTION '% may not go from % to %', TG_ARGV[0], OLD.state, NEW.state USING ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER actions_arrow BEFORE UPDATE OF state ON actions
    FOR EACH ROW EXECUTE FUNCTION refuse_illegal_arrow('action');
CREATE TRIGGER slots_arrow BEFORE UPDATE OF state ON slots
    FOR EACH ROW EXECUTE FUNCTION refuse_illegal_arrow('slot');

CREATE FUNCTION record_confirmation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state <> OLD.state THEN
        INSERT INTO confirmations (action_id, from_state, to_state, reason, tx_id, block_number, block_hash)
        SELECT NEW.action_id, OLD.state, NEW.state, NEW.reason, seen.tx_id, seen.block_number, seen.block_hash
          FROM (SELECT 1) AS one
          LEFT JOIN LATERAL (
              SELECT a.tx_id, a.block_number, a.block_hash
                FROM attempts a JOIN slots s USING (slot_id)
               WHERE s.action_id = NEW.action_id AND a.block_number IS NOT NULL
               ORDER BY a.attempt_id DESC LIMIT 1
          ) AS seen ON TRUE;
        PERFORM pg_notify('bridge', 'confirmations');
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER actions_recorded AFTER UPDATE OF state ON actions
    FOR EACH ROW EXECUTE FUNCTION record_confirmation();

-- A distribution's state follows from its actions; it is never stored.
CREATE VIEW distribution_states AS
SELECT d.distribution_id,
       CASE
           WHEN bool_or(a.state = 'quarantined') THEN 'quarantined'
           WHEN bool_or(a.state = 'held') THEN 'held'
           WHEN bool_and(a.state = 'final') THEN 'final'
           WHEN bool_and(a.state = 'planned') THEN 'planned'
           WHEN bool_or(a.state = 'void') THEN 'void'
           ELSE 'in_flight'
       END AS state
  FROM distributions d JOIN actions a USING (distribution_id)
 GROUP BY d.distribution_id;

-- ── Post: the ledger ───────────────────────────────────────────────────────────────────────────────────────────────
CREATE TABLE assets (
    asset    TEXT PRIMARY KEY,              -- CAIP-19: eip155:1/erc20:0x…, eip155:1/slip44:60
    chain    TEXT NOT NULL REFERENCES chains,
    address  BYTEA,                         -- NULL for the native coin
    symbol   TEXT NOT NULL,
    decimals INTEGER NOT NULL               -- metadata for people; never part of arithmetic
);

CREATE TABLE accounts (
    account_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    code       TEXT NOT NULL,               -- vault:0x…, surplus:unallocated, payable:0x…, …
    asset      TEXT NOT NULL REFERENCES assets,
    opened_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    UNIQUE (code, asset),
    UNIQUE (account_id, asset)
);

-- Idempotency: one journal per (source, ref); the same key with another payload is an error, never a no-op.
-- Unpartitioned, for a unique key of a partitioned table would need the block in it.
CREATE TABLE journal_keys (
    source       TEXT NOT NULL,
    ref          TEXT NOT NULL,
    payload_hash BYTEA NOT NULL,
    journal_id   BIGINT NOT NULL UNIQUE,
    chain        TEXT NOT NULL,
    block_number BIGINT NOT NULL,
    PRIMARY KEY (source, ref)
);

CREATE SEQUENCE journal_ids;

CREATE TABLE journals (
    chain        TEXT NOT NULL,
    block_number BIGINT NOT NULL,
    journal_id   BIGINT NOT NULL,
    block_hash   BYTEA NOT NULL,
    kind         TEXT NOT NULL,
    reason       TEXT NOT NULL,
    source       TEXT NOT NULL,
    ref          TEXT NOT NULL,
    payload_hash BYTEA NOT NULL,
    valid_at     BIGINT NOT NULL,           -- block time, seconds
    recorded_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    reverses_id  BIGINT,
    PRIMARY KEY (chain, block_number, journal_id)
) PARTITION BY LIST (chain);

-- One row moves one amount between two accounts of one asset: the sum over all accounts is zero by construction.
CREATE TABLE transfers (
    chain          TEXT NOT NULL,
    block_number   BIGINT NOT NULL,
    journal_id     BIGINT NOT NULL,
    seq            INTEGER NOT NULL,
    debit_account  BIGINT NOT NULL,
    credit_account BIGINT NOT NULL,
    asset          TEXT NOT NULL,
    amount         uint256 NOT NULL CHECK (amount > 0),
    -- posted: booked at once. pending: reserved. post / void: releases a pending of the same accounts and amount,
    -- booking it or not.
    phase          TEXT NOT NULL CHECK (phase IN ('posted', 'pending', 'post', 'void')),
    PRIMARY KEY (chain, block_number, journal_id, seq),
    FOREIGN KEY (chain, block_number, journal_id) REFERENCES journals (chain, block_number, journal_id),
    FOREIGN KEY (debit_account, asset) REFERENCES accounts (account_id, asset),
    FOREIGN KEY (credit_account, asset) REFERENCES accounts (account_id, asset),
    CHECK (debit_account <> credit_account)
) PARTITION BY LIST (chain);

-- A projection of transfers, maintained in the same transaction.
CREATE TABLE balances (
    account_id      BIGINT PRIMARY KEY REFERENCES accounts,
    -- Wider than uint256: a token that moves 2^256 - 1 to and fro may not stop the books.
    debits_posted   NUMERIC NOT NULL DEFAULT 0 CHECK (debits_posted >= 0),
    credits_posted  NUMERIC NOT NULL DEFAULT 0 CHECK (credits_posted >= 0),
    debits_pending  NUMERIC NOT NULL DEFAULT 0 CHECK (debits_pending >= 0),
    credits_pending NUMERIC NOT NULL DEFAULT 0 CHECK (credits_pending >= 0)
);

-- What other stages committed and the books do not have yet. Written by the triggers below in the transaction that makes
-- the fact, deleted in the one that books it: nothing can be forgotten, and finding what is new costs the same for ever.
CREATE TABLE unbooked (
    entry_id     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain        TEXT NOT NULL,
    block_number BIGINT NOT NULL,           -- booked once the ledger has come this far
    source       TEXT NOT NULL CHECK (source IN ('decision', 'distribution', 'attempt', 'void')),
    ref          BYTEA NOT NULL,            -- decision_id, distribution_id, tx_id, distribution_id
    batch_index  INTEGER,                   -- of a void batch
    CHECK ((source = 'void') = (batch_index IS NOT NULL))
);
CREATE INDEX unbooked_in_order ON unbooked (chain, block_number, entry_id);

-- The time of a finalized block; of the nearest stored one where a backfill did not keep it.
CREATE FUNCTION block_time(of_chain TEXT, at BIGINT) RETURNS BIGINT STABLE LANGUAGE sql AS $$
    SELECT COALESCE(
        (SELECT timestamp FROM blocks WHERE chain = of_chain AND number <= at AND status = 'finalized'
          ORDER BY number DESC LIMIT 1),
        (SELECT timestamp FROM blocks WHERE chain = of_chain AND number > at AND status = 'finalized'
          ORDER BY number LIMIT 1))
$$;

CREATE FUNCTION book_later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    CASE TG_TABLE_NAME
        WHEN 'decisions' THEN
            INSERT INTO unbooked (chain, block_number, source, ref)
            VALUES (NEW.chain, NEW.block_number, 'decision', NEW.decision_id);
        WHEN 'distributions' THEN
            INSERT INTO unbooked (chain, block_number, source, ref)
            SELECT NEW.chain, block_number, 'distribution', NEW.distribution_id
              FROM decisions WHERE decision_id = NEW.decision_id;
        WHEN 'attempts' THEN
            INSERT INTO unbooked (chain, block_number, source, ref)
            VALUES (NEW.chain, NEW.block_number, 'attempt', NEW.tx_id);
        WHEN 'actions' THEN
            INSERT INTO unbooked (chain, block_number, source, ref, batch_index)
            SELECT NEW.chain, e.block_number, 'void', NEW.distribution_id, NEW.ordinal - 1
              FROM distributions JOIN decisions e USING (decision_id) WHERE distribution_id = NEW.distribution_id;
    END CASE;
    RETURN NULL;
END $$;

CREATE TRIGGER decisions_booked AFTER INSERT ON decisions FOR EACH ROW EXECUTE FUNCTION book_later();
CREATE TRIGGER distributions_booked AFTER INSERT ON distributions FOR EACH ROW EXECUTE FUNCTION book_later();
CREATE TRIGGER attempts_inserted_final_booked AFTER INSERT ON attempts
    FOR EACH ROW WHEN (NEW.final) EXECUTE FUNCTION book_later();
CREATE TRIGGER attempts_final_booked AFTER UPDATE OF final ON attempts
    FOR EACH ROW WHEN (NEW.final AND NOT OLD.final) EXECUTE FUNCTION book_later();
CREATE TRIGGER actions_void_booked AFTER UPDATE OF state ON actions
    FOR EACH ROW WHEN (NEW.kind = 'execute' AND NEW.state = 'void' AND OLD.state <> 'void')
    EXECUTE FUNCTION book_later();

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: book a reversing or adjusting journal instead of %', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER journals_append_only BEFORE UPDATE OR DELETE ON journals
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER transfers_append_only BEFORE UPDATE OR DELETE ON transfers
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journal_keys_append_only BEFORE UPDATE OR DELETE ON journal_keys
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journals_no_truncate BEFORE TRUNCATE ON journals
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER transfers_no_truncate BEFORE TRUNCATE ON transfers
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER journal_keys_no_truncate BEFORE TRUNCATE ON journal_keys
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- ── Reconcile: checks and breaks ───────────────────────────────────────────────────────────────────────────────────
CREATE TABLE reconciliations (
    reconciliation_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    started_at        TIMESTAMPTZ NOT NULL DEFAULT now(),
    finished_at       TIMESTAMPTZ,
    verdict           TEXT CHECK (verdict IN ('balanced', 'breaks'))
);

CREATE TABLE checks (
    check_id          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reconciliation_id BIGINT NOT NULL REFERENCES reconciliations,
    level             TEXT NOT NULL CHECK (level IN
        ('event', 'balance', 'nonce', 'completeness', 'suspense', 'payout')),
    chain             TEXT NOT NULL REFERENCES chains,
    subject           TEXT NOT NULL,        -- what was checked; the same words in every run
    asset             TEXT,
    block_number      BIGINT NOT NULL,      -- at this finalized block, by hash
    block_hash        BYTEA NOT NULL,
    expected          NUMERIC,              -- what the books say
    actual            NUMERIC,              -- what the chain says
    outcome           TEXT NOT NULL CHECK (outcome IN ('agreed', 'broken', 'skipped')),
    cause             TEXT,                 -- why it was skipped or what differs
    checked_at        TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK (outcome = 'agreed' OR cause IS NOT NULL)
);
CREATE INDEX checks_by_run ON checks (reconciliation_id);

CREATE TABLE breaks (
    break_id    BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind        TEXT NOT NULL CHECK (kind IN
        ('missing_on_chain', 'missing_in_ledger', 'amount_mismatch', 'duplicate', 'timing', 'orphaned_by_reorg',
         'fee_mismatch', 'unexpected_in', 'unexpected_out', 'unexplained_balance', 'provider_disagreement')),
    chain       TEXT NOT NULL REFERENCES chains,
    level       TEXT NOT NULL,              -- with check_subject: the check that found it, and that may clear it
    check_subject TEXT NOT NULL,
    subject     TEXT NOT NULL,
    asset       TEXT,
    amount      NUMERIC,                    -- signed: chain minus books
    state       TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'assigned', 'explained', 'resolved')),
    evidence    JSONB NOT NULL,
    block_number BIGINT NOT NULL,
    block_hash  BYTEA NOT NULL,
    opened_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_seen   BIGINT REFERENCES reconciliations,  -- the last run that found it
    resolved_at TIMESTAMPTZ,
    resolution  TEXT,
    CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
);
-- The same break found again is the same row.
CREATE UNIQUE INDEX breaks_one_open ON breaks (kind, chain, subject, COALESCE(asset, '')) WHERE state <> 'resolved';
CREATE TRIGGER breaks_arrow BEFORE UPDATE OF state ON breaks
    FOR EACH ROW EXECUTE FUNCTION refuse_illegal_arrow('break');

-- ── What was given up after bounded retries; a person lists it and sends it again ──────────────────────────────────
CREATE TABLE dead_letters (
    dead_letter_id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    stage          TEXT NOT NULL,
    scope          TEXT NOT NULL,
    error          TEXT NOT NULL,
    retries        INTEGER NOT NULL,
    first_seen     TIMESTAMPTZ NOT NULL DEFAULT now(),
    last_seen      TIMESTAMPTZ NOT NULL DEFAULT now(),
    resolved_at    TIMESTAMPTZ
);
CREATE UNIQUE INDEX dead_letters_one_open ON dead_letters (stage, scope) WHERE resolved_at IS NULL;

-- ── Partitions ─────────────────────────────────────────────────────────────────────────────────────────────────────
-- Makes the partitions of one chain for every block range up to `through`; does nothing where they exist.
-- Called when a chain is registered and each time ingest nears the end of what there is.
CREATE FUNCTION ensure_partitions(for_chain TEXT, through BIGINT) RETURNS INTEGER LANGUAGE plpgsql AS $$
DECLARE
    span    CONSTANT BIGINT := 1000000;     -- blocks a partition
    made    INTEGER := 0;
    parent  TEXT;
    branch  TEXT;
    leaf    TEXT;
    suffix  TEXT := substr(md5(for_chain), 1, 8);   -- chain names may hold what an identifier may not
    column_ TEXT;
    first   BIGINT;
    origin  BIGINT := (SELECT greatest(start_block - 1, 0) / span * span FROM chains WHERE chain = for_chain);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('ensure_partitions'));
    FOREACH parent IN ARRAY ARRAY['blocks', 'logs', 'journals', 'transfers'] LOOP
        branch := parent || '_' || suffix;
        column_ := CASE parent WHEN 'blocks' THEN 'number' ELSE 'block_number' END;
        IF to_regclass(branch) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (%L) PARTITION BY RANGE (%I)',
                           branch, parent, for_chain, column_);
        END IF;
        FOR first IN SELECT generate_series(origin, (through / span) * span, span) LOOP
            leaf := branch || '_' || (first / span);
            CONTINUE WHEN to_regclass(leaf) IS NOT NULL;
            -- Block -1 stands for "before the first block": opening balances of a chain read from genesis.
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s)',
                           leaf, branch, CASE first WHEN 0 THEN '-1' ELSE first::TEXT END, first + span);
            IF parent IN ('journals', 'transfers') THEN
                -- Row triggers reach the partitions by themselves; those on TRUNCATE do not.
                EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I '
                               'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', leaf);
            END IF;
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;

-- ── The arrows ─────────────────────────────────────────────────────────────────────────────────────────────────────
INSERT INTO state_arrows (machine, from_state, to_state) VALUES
    ('action', 'planned', 'reserved'),
    ('action', 'planned', 'held'),
    ('action', 'planned', 'final'),
    ('action', 'reserved', 'signed'),
    ('action', 'signed', 'broadcast'),
    ('action', 'signed', 'included'),
    ('action', 'signed', 'quarantined'),
    ('action', 'broadcast', 'included'),
    ('action', 'broadcast', 'quarantined'),
    ('action', 'included', 'broadcast'),
    ('action', 'included', 'final'),
    ('action', 'included', 'held'),
    ('action', 'included', 'void'),
    ('action', 'quarantined', 'final'),
    ('action', 'quarantined', 'planned'),
    ('action', 'quarantined', 'void'),
    ('action', 'held', 'planned'),
    ('action', 'held', 'final'),
    ('action', 'held', 'void'),
    ('slot', 'live', 'settled'),
    ('slot', 'live', 'foreign'),
    ('slot', 'foreign', 'settled'),
    ('break', 'open', 'assigned'),
    ('break', 'open', 'explained'),
    ('break', 'open', 'resolved'),
    ('break', 'assigned', 'explained'),
    ('break', 'assigned', 'resolved'),
    ('break', 'explained', 'resolved');
