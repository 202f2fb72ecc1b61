"""The connection pool, and the transaction that every stage works in.

    database.begin(lease) ─► Transaction ─► .events .decisions .payouts .confirmations .ledger .breaks … ─► COMMIT

A transaction that names a lease first locks the lease's row and compares epochs: a stage that lost its lease cannot
commit anything, however late its last write arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import asyncpg

from bridge.domain.errors import ConfigError, DatabaseUnavailable, LeaseLost
from bridge.ports.running import Lease
from bridge.store.audits import Audits
from bridge.store.bookings import Bookings
from bridge.store.breaks import Breaks
from bridge.store.chains import Chains
from bridge.store.claims import Claims
from bridge.store.conditions import Conditions
from bridge.store.confirmations import Confirmations
from bridge.store.corrections import Corrections
from bridge.store.dead_letters import DeadLetters
from bridge.store.decisions import Decisions
from bridge.store.events import Events
from bridge.store.interventions import Interventions
from bridge.store.jobs import Jobs
from bridge.store.ledger import Ledger
from bridge.store.numeric import decode_numeric, encode_numeric
from bridge.store.payouts import Payouts
from bridge.store.reports import Reports
from bridge.store.seals import Seals
from bridge.store.status import StatusReader
from bridge.store.stories import Stories
from bridge.store.summaries import Summaries

if TYPE_CHECKING:
    from bridge.store.connection import Connection

# All that passes by itself: the same work may succeed on another connection, later.
_PASSING_ERRORS = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # the server shuts down, starts, or a person ended the session
    asyncpg.InsufficientResourcesError,  # too many connections, a full disk
    asyncpg.TransactionRollbackError,  # a deadlock, of which the server ends one side
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg says when the server's farewell comes between two messages
)

CHECK_LEASE = """
    -- FOR SHARE makes a take-over wait until this transaction ends, so that an older epoch never commits after a newer
    SELECT epoch FROM leases WHERE name = $1 FOR SHARE
"""


class Transaction:
    """One database transaction, with a store for each noun."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @cached_property
    def chains(self) -> Chains:
        return Chains(self.connection)

    @cached_property
    def events(self) -> Events:
        return Events(self.connection)

    @cached_property
    def decisions(self) -> Decisions:
        return Decisions(self.connection)

    @cached_property
    def payouts(self) -> Payouts:
        return Payouts(self.connection)

    @cached_property
    def summaries(self) -> Summaries:
        return Summaries(self.connection)

    @cached_property
    def claims(self) -> Claims:
        return Claims(self.connection)

    @cached_property
    def conditions(self) -> Conditions:
        return Conditions(self.connection)

    @cached_property
    def interventions(self) -> Interventions:
        return Interventions(self.connection)

    @cached_property
    def confirmations(self) -> Confirmations:
        return Confirmations(self.connection)

    @cached_property
    def bookings(self) -> Bookings:
        return Bookings(self.connection)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(self.connection)

    @cached_property
    def corrections(self) -> Corrections:
        return Corrections(self.connection)

    @cached_property
    def seals(self) -> Seals:
        return Seals(self.connection)

    @cached_property
    def jobs(self) -> Jobs:
        return Jobs(self.connection)

    @cached_property
    def audits(self) -> Audits:
        return Audits(self.connection)

    @cached_property
    def breaks(self) -> Breaks:
        return Breaks(self.connection)

    @cached_property
    def status(self) -> StatusReader:
        return StatusReader(self.connection)

    @cached_property
    def reports(self) -> Reports:
        return Reports(self.connection)

    @cached_property
    def stories(self) -> Stories:
        return Stories(self.connection)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.connection)


class Database:
    """A pool of connections to one Postgres database."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], url: str) -> None:
        self._pool = pool
        self._url = url

    @classmethod
    async def open(cls, url: str, *, connections_max: int = 10) -> Database:
        """Raises ConfigError where the URL is wrong or nobody answers there: at start that is a mistake to mend."""
        try:
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=connections_max,
                init=_prepare_connection,
                command_timeout=60,
                timeout=10,  # type: ignore[call-overload]  # stubs lack `timeout`
            )
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
            raise ConfigError(
                f"the database cannot be reached: {str(error) or type(error).__name__}",
                where="[database] url",
                mend="start Postgres, or correct host, port, user and database name in the URL",
            ) from error
        return cls(pool, url)

    async def close(self) -> None:
        """Waits for transactions under way, a few seconds at most."""
        try:
            await asyncio.wait_for(self._pool.close(), timeout=5)
        except TimeoutError:
            self._pool.terminate()

    @contextlib.asynccontextmanager
    async def begin(self, lease: Lease | None = None) -> AsyncIterator[Transaction]:
        """A read-write transaction; commits when the block ends, rolls back when it raises.

        Raises LeaseLost where `lease` is not the newest epoch, DatabaseUnavailable where the connection breaks (what
        was done is then rolled back or, if COMMIT itself was cut, may have happened: callers go on from their cursor).
        """
        async with self._transaction() as transaction:
            if lease is not None:
                epoch = await transaction.connection.fetchval(CHECK_LEASE, lease.name)
                if epoch != lease.epoch:
                    raise LeaseLost(f"lease {lease.name}: we hold epoch {lease.epoch}, the database says {epoch}")
            yield transaction

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Transaction]:
        """A read-only transaction in which every statement sees the same moment."""
        async with self._transaction(isolation="repeatable_read", readonly=True) as transaction:
            yield transaction

    @contextlib.asynccontextmanager
    async def _transaction(self, **options: Any) -> AsyncIterator[Transaction]:
        try:
            async with self._pool.acquire(timeout=30) as connection, connection.transaction(**options):
                yield Transaction(connection)
        except _PASSING_ERRORS as error:
            raise DatabaseUnavailable(f"the database failed: {str(error) or type(error).__name__}") from error

    async def listen(self, wake: Callable[[], None]) -> None:
        """Call `wake` whenever any stage has committed, until cancelled.

        A notice is only a wake-up: stages also poll, so a lost connection costs latency and nothing else.
        """
        while True:
            with contextlib.suppress(*_PASSING_ERRORS):
                await self._listen(wake)
            await asyncio.sleep(1)

    async def _listen(self, wake: Callable[[], None]) -> None:
        """Until the connection ends."""
        connection = await asyncpg.connect(self._url, timeout=10)
        try:
            closed = asyncio.Event()
            connection.add_termination_listener(lambda _: closed.set())
            await connection.add_listener("bridge", lambda *_: wake())
            wake()  # something may have been committed while nobody listened
            await closed.wait()
        finally:
            connection.terminate()


async def _prepare_connection(connection: Connection) -> None:
    await connection.set_type_codec(
        "numeric", schema="pg_catalog", encoder=encode_numeric, decoder=decode_numeric, format="binary"
    )
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=_as_text, decoder=str)


def _as_text(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError("jsonb columns take canonical JSON text")
    return value
