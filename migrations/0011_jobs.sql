-- What is done by the clock, what has been verified of the seal, and which blocks breaks are about.

-- ── Jobs ───────────────────────────────────────────────────────────────────────────────────────────────────────────
-- The truth about what is due. due_at moves only in the transaction that says that a run is done: a job that dies in the
-- middle is still due. Times are the daemon's clock; that a job never runs twice at once is what leases are for.
CREATE TABLE jobs (
    job         TEXT PRIMARY KEY,
    interval_s  BIGINT NOT NULL CHECK (interval_s > 0),
    due_at      TIMESTAMPTZ NOT NULL,       -- the first run that is not done yet
    started_at  TIMESTAMPTZ,                -- of the last run, done or not
    finished_at TIMESTAMPTZ,
    result      TEXT,                       -- what came of the last run that is done
    runs        BIGINT NOT NULL DEFAULT 0,
    missed      BIGINT NOT NULL DEFAULT 0   -- runs that were made good by a later one
);

-- ── The seal, verified piece by piece ──────────────────────────────────────────────────────────────────────────────
--   new     what was sealed since, from where it was verified the last time
--   round   everything from the first link on, again and again
--   books   every journal and transfer of the books, in the order of blocks: that each is in the chain
-- A walk that finds a fault stays in front of it, and looks again in its next run.
CREATE TABLE seal_walks (
    walk         TEXT PRIMARY KEY CHECK (walk IN ('new', 'round', 'books')),
    count        BIGINT NOT NULL DEFAULT 0,             -- new, round: links that are as they were sealed
    head         BYTEA NOT NULL DEFAULT '',             -- after them
    chain        TEXT NOT NULL DEFAULT '',              -- books: the last journal that was looked at
    block_number BIGINT NOT NULL DEFAULT -2,
    journal_id   BIGINT NOT NULL DEFAULT 0,
    fault        TEXT,                                  -- what is wrong with what comes next
    fault_at     TIMESTAMPTZ,
    rounds       BIGINT NOT NULL DEFAULT 0,
    walked_at    TIMESTAMPTZ
);
INSERT INTO seal_walks (walk, head) VALUES
    ('new', decode(repeat('00', 32), 'hex')), ('round', decode(repeat('00', 32), 'hex')), ('books', '');

-- ── Breaks know their block ────────────────────────────────────────────────────────────────────────────────────────
-- The block that a break is about, the last one of several, where its check looks at blocks: a later run looks at new blocks and at those of breaks
-- that are not resolved, and at no others. NULL: the check is made anew in every run, or the break is from before.
ALTER TABLE breaks ADD COLUMN about_block BIGINT;
ALTER TABLE breaks ADD COLUMN about_after BIGINT;           -- the block before the first one, where it is about several
-- Of a balance that is off: the block at which the check had agreed before, NULL where it never had. Found once, when the
-- break is opened: later that would mean to go back through every run that found it broken.
ALTER TABLE breaks ADD COLUMN agreed_block BIGINT;
CREATE INDEX breaks_unresolved ON breaks (chain, state) WHERE state <> 'resolved';

-- The first run that reached a block.
CREATE INDEX checks_by_block ON checks (chain, block_number, reconciliation_id);

-- ── Where a sweep over many things stands ──────────────────────────────────────────────────────────────────────────
CREATE TABLE sweeps (
    sweep    TEXT NOT NULL,                 -- 'accounts', 'blocks'
    chain    TEXT NOT NULL REFERENCES chains,
    place    TEXT NOT NULL,                 -- the last one that was looked at
    rounds   BIGINT NOT NULL DEFAULT 0,
    moved_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (sweep, chain)
);

-- ── Days ───────────────────────────────────────────────────────────────────────────────────────────────────────────
-- What was found when a day of a chain, in UTC, was looked at again after its end. Its opening is the closing of the day
-- before: a day without a block has none of its own, and no row.
CREATE TABLE days (
    chain       TEXT NOT NULL REFERENCES chains,
    day         DATE NOT NULL,
    first_block BIGINT NOT NULL,
    last_block  BIGINT NOT NULL CHECK (last_block >= first_block),
    last_hash   BYTEA NOT NULL,
    agreed      INTEGER NOT NULL,           -- checks
    broken      INTEGER NOT NULL,
    skipped     INTEGER NOT NULL,
    found       TEXT NOT NULL,              -- what was broken or skipped, and why
    closed_at   TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (chain, day)
);
