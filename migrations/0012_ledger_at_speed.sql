-- A transfer's foreign keys asked three questions for each row, and each took a lock on an account that every other
-- writer wants: two thirds of what booking cost. One look at all that a statement added asks the same.
--
--   INSERT or COPY into transfers ──trigger──► each journal and each account of that asset is there, or nothing is added
--
-- It leaves out the other direction: that a journal or an account with transfers may not go. None may go at all
-- (journals_append_only, accounts_append_only), and those triggers are as hard to turn off as those of a foreign key.
ALTER TABLE transfers
    DROP CONSTRAINT transfers_chain_block_number_journal_id_fkey,
    DROP CONSTRAINT transfers_debit_account_asset_fkey,
    DROP CONSTRAINT transfers_credit_account_asset_fkey;

-- By index and by hash whatever the statistics say: a plan is kept for a session, and must not be that of a small table.
CREATE FUNCTION refuse_strangers() RETURNS trigger LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_sort = off SET enable_mergejoin = off SET enable_hashjoin = off AS $$
DECLARE
    stranger TEXT;
BEGIN
    SELECT format('account %s of %s', named.account_id, named.asset) INTO stranger
      FROM (SELECT debit_account, asset FROM added UNION SELECT credit_account, asset FROM added)
           AS named (account_id, asset)
     WHERE NOT EXISTS (SELECT FROM accounts a WHERE (a.account_id, a.asset) = (named.account_id, named.asset))
     LIMIT 1;
    IF stranger IS NULL THEN
        -- The journals of one statement lie side by side, so they are read as ranges: a third of finding each by itself.
        SELECT format('journal %s of block %s', named.journal_id, named.block_number) INTO stranger
          FROM (SELECT chain, block_number, journal_id FROM added
                EXCEPT
                SELECT j.chain, j.block_number, j.journal_id
                  FROM (SELECT chain, block_number, min(journal_id) AS first, max(journal_id) AS last
                          FROM added GROUP BY chain, block_number) AS span
                  JOIN journals j ON j.chain = span.chain AND j.block_number = span.block_number
                                 AND j.journal_id BETWEEN span.first AND span.last) AS named
         LIMIT 1;
    END IF;
    IF stranger IS NOT NULL THEN
        RAISE EXCEPTION 'a transfer names %, which is not there', stranger USING ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN NULL;
END $$;

-- A balance is written anew by every batch that moves it. With room beside it the new version stays on its page, and no
-- index has to learn of it: a third of the cost.
ALTER TABLE balances SET (fillfactor = 50);

-- What a batch asks of accounts and balances, by index only: a plan that a session made when there were two accounts
-- would read all of them for each of a hundred thousand.
CREATE FUNCTION account_ids(codes TEXT[], assets TEXT[]) RETURNS BIGINT[] STABLE LANGUAGE sql
    SET enable_seqscan = off SET enable_mergejoin = off SET enable_hashjoin = off AS $$
    SELECT ARRAY(SELECT a.account_id
                   FROM unnest(codes, assets) WITH ORDINALITY AS wanted (code, asset, place)
                   LEFT JOIN accounts a USING (code, asset) ORDER BY place)
$$;

-- In the order of ids, so that two writers wait for each other instead of deadlocking.
CREATE FUNCTION lock_balances(ids BIGINT[]) RETURNS BIGINT LANGUAGE sql
    SET enable_seqscan = off SET enable_bitmapscan = off AS $$
    SELECT count(*) FROM (SELECT FROM balances WHERE account_id = ANY(ids) ORDER BY account_id FOR UPDATE) AS locked
$$;

CREATE FUNCTION move_balances(ids BIGINT[], debits_posted NUMERIC[], credits_posted NUMERIC[],
                              debits_pending NUMERIC[], credits_pending NUMERIC[]) RETURNS VOID LANGUAGE sql
    SET enable_seqscan = off SET enable_mergejoin = off SET enable_hashjoin = off AS $$
    UPDATE balances b
       SET debits_posted = b.debits_posted + moved.debits_posted,
           credits_posted = b.credits_posted + moved.credits_posted,
           debits_pending = b.debits_pending + moved.debits_pending,
           credits_pending = b.credits_pending + moved.credits_pending
      FROM unnest(ids, $2, $3, $4, $5)  -- by number, for the names are columns here
           AS moved (account_id, debits_posted, credits_posted, debits_pending, credits_pending)
     WHERE b.account_id = moved.account_id
$$;

-- Functions look up tables by name, and a role may make a temporary table of any name, which is found first: a false
-- `accounts` would hold any transfer, a false `unsealed` would keep a journal from the seal, a false `corrections` would
-- let one person approve what he asked for.
DO $$
DECLARE
    function_ TEXT;
BEGIN
    FOREACH function_ IN ARRAY ARRAY['refuse_strangers', 'seal_later', 'refuse_own_approval', 'account_ids', 'lock_balances',
                                    'move_balances'] LOOP
        EXECUTE format('ALTER FUNCTION %I SET search_path = %I, pg_temp', function_, current_schema());
    END LOOP;
END $$;

-- ── Partitions ─────────────────────────────────────────────────────────────────────────────────────────────────────
-- Statement triggers do not reach partitions by themselves: each has its own, for an owner who writes there directly.
CREATE FUNCTION guard_partition(partition REGCLASS) RETURNS VOID LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER transfers_name_what_is_there AFTER INSERT ON %s REFERENCING NEW TABLE AS added '
                   'FOR EACH STATEMENT EXECUTE FUNCTION refuse_strangers()', partition);
END $$;
SELECT guard_partition(relid) FROM pg_partition_tree('transfers');

-- As it was, but: the partitions of transfers are guarded; where partitions exist it takes no lock, so it may be asked for
-- with every block; and a new one is made beside its table and attached to it, which lets readers and writers go on.
CREATE OR REPLACE FUNCTION ensure_partitions(for_chain TEXT, through BIGINT) RETURNS INTEGER LANGUAGE plpgsql AS $$
DECLARE
    span    CONSTANT BIGINT := 1000000;     -- blocks a partition
    made    INTEGER := 0;
    parent  TEXT;
    branch  TEXT;
    leaf    TEXT;
    suffix  TEXT := substr(md5(for_chain), 1, 8);   -- chain names may hold what an identifier may not
    column_ TEXT;
    first   BIGINT;
    origin  BIGINT;
BEGIN
    -- transfers come last, and all are made in one transaction: where its partition is, every other is.
    IF to_regclass('transfers_' || suffix || '_' || (through / span)) IS NOT NULL THEN
        RETURN 0;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ensure_partitions'));
    origin := (SELECT greatest(start_block - 1, 0) / span * span FROM chains WHERE chain = for_chain);
    FOREACH parent IN ARRAY ARRAY['blocks', 'logs', 'journals', 'transfers'] LOOP
        branch := parent || '_' || suffix;
        column_ := CASE parent WHEN 'blocks' THEN 'number' ELSE 'block_number' END;
        IF to_regclass(branch) IS NULL THEN
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (%L) PARTITION BY RANGE (%I)',
                           branch, parent, for_chain, column_);
            IF parent = 'transfers' THEN
                PERFORM guard_partition(branch::REGCLASS);
            END IF;
        END IF;
        FOR first IN SELECT generate_series(origin, (through / span) * span, span) LOOP
            leaf := branch || '_' || (first / span);
            CONTINUE WHEN to_regclass(leaf) IS NOT NULL;
            EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', leaf, branch);
            -- Block -1 stands for "before the first block": opening balances of a chain read from genesis.
            EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%s) TO (%s)',
                           branch, leaf, CASE first WHEN 0 THEN '-1' ELSE first::TEXT END, first + span);
            IF parent IN ('journals', 'transfers') THEN
                -- Row triggers reach the partitions by themselves; those on statements do not.
                EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON %I '
                               'FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()', leaf);
            END IF;
            IF parent = 'transfers' THEN
                PERFORM guard_partition(leaf::REGCLASS);
            END IF;
            made := made + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END $$;
-- CREATE OR REPLACE forgets how a function runs, not who may call it.
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION ensure_partitions(TEXT, BIGINT) SECURITY DEFINER SET search_path = %I, pg_temp',
                   current_schema());
END $$;
