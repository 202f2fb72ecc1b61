"""A copy of the whole database, and the way back to it: what pg_dump and psql do, within one session."""

from __future__ import annotations

from bridge.store.database import Transaction

TABLES = """
    SELECT c.relname FROM pg_class c
     WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
       AND c.relname NOT IN ('state_arrows', 'schema_migrations')
"""
_SEQUENCES = "SELECT sequencename, COALESCE(last_value, 1), last_value IS NOT NULL FROM pg_sequences"
COPY = f"""
    DO $$
    DECLARE
        one TEXT;
    BEGIN
        CREATE SCHEMA IF NOT EXISTS copy;
        CREATE UNLOGGED TABLE IF NOT EXISTS copy.its_sequences (name TEXT, last BIGINT, used BOOLEAN);
        DELETE FROM copy.its_sequences;
        INSERT INTO copy.its_sequences {_SEQUENCES} WHERE schemaname = 'public';
        FOR one IN {TABLES} LOOP
            EXECUTE format('CREATE UNLOGGED TABLE IF NOT EXISTS copy.%1$I (LIKE public.%1$I)', one);
            EXECUTE format('DELETE FROM copy.%I', one);
            EXECUTE format('INSERT INTO copy.%1$I SELECT * FROM public.%1$I', one);
        END LOOP;
    END $$
"""  # only constants are put in
RESTORE = f"""
    -- The ledger refuses to be emptied; a session in this role runs no triggers.
    DO $$
    DECLARE
        one TEXT;
    BEGIN
        SET LOCAL session_replication_role = replica;
        FOR one IN {TABLES} LOOP
            EXECUTE format('DELETE FROM public.%I', one);
            IF to_regclass(format('copy.%I', one)) IS NOT NULL THEN
                EXECUTE format('INSERT INTO public.%1$I OVERRIDING SYSTEM VALUE SELECT * FROM copy.%1$I', one);
            END IF;
        END LOOP;
        PERFORM setval(format('public.%I', name)::regclass, last, used) FROM copy.its_sequences;
    END $$
"""


async def make_copy(transaction: Transaction) -> None:
    await transaction.connection.execute(COPY)


async def set_back(transaction: Transaction) -> None:
    await transaction.connection.execute(RESTORE)
