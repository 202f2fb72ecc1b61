"""The way to a real Postgres, cut now and then: before a statement, before COMMIT, or after it and before its answer.

All processes of a run share one connection: only one of them speaks at a time, and a transaction runs to its end, so
the server sees what it would see from connections of their own. What another transaction could do between two
statements of this one is not searched here; the order of whole transactions is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import asyncpg

from tests.chaos.process import Process
from tests.chaos.trouble import Fault

SPOKEN = frozenset(
    {"execute", "executemany", "fetch", "fetchrow", "fetchval", "copy_records_to_table", "copy_to_table"}
)


class Wire:
    """Stands where an asyncpg.Pool would; one for each process."""

    def __init__(self, connection: asyncpg.Connection, process: Process, notify: Callable[[], None]) -> None:
        self._connection = connection
        self._process = process
        self._notify = notify

    def acquire(self, *, timeout: float) -> _Session:
        return _Session(self._connection, self._process, self._notify)

    async def close(self) -> None: ...


class _Session:
    """A connection from acquire to release."""

    def __init__(self, connection: asyncpg.Connection, process: Process, notify: Callable[[], None]) -> None:
        self._connection = connection
        self._process = process
        self._notify = notify
        self._within = False  # a transaction: another one in it is a savepoint, and commits nothing

    async def __aenter__(self) -> _Session:
        await self._process.turn("database")
        assert not self._process.loop.talking, "one transaction at a time"
        self._process.loop.talking = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.loop.talking = False

    def transaction(self, **options: Any) -> Any:
        made = self._connection.transaction(**options)
        if self._within:
            return made
        self._within = True
        return _Transaction(made, self, notify=not options.get("readonly"))

    def trouble(self, where: str) -> None:
        """Raises Died or what asyncpg raises when the connection is lost."""
        self._process.perhaps_die(where)
        if self._process.trouble.strikes(Fault.DISCONNECT):
            self._process.loop.note(f"{self._process.name} is cut off")
            raise asyncpg.ConnectionDoesNotExistError(f"cut off at {where}")

    def committed(self, *, notify: bool) -> None:
        """The server has committed; the client may never hear of it."""
        if notify:
            self._notify()
        self._process.perhaps_die("commit")
        if notify and self._process.trouble.strikes(Fault.COMMIT_UNANSWERED):
            raise asyncpg.ConnectionDoesNotExistError("cut off before the answer to COMMIT")

    def __getattr__(self, name: str) -> Any:
        spoken = getattr(self._connection, name)
        if name not in SPOKEN:
            return spoken

        async def speak(*args: Any, **kwargs: Any) -> Any:
            self.trouble(name)
            return await spoken(*args, **kwargs)

        return speak


class _Transaction:
    def __init__(self, transaction: Any, session: _Session, *, notify: bool) -> None:
        self._transaction = transaction
        self._session = session
        self._notify = notify

    async def __aenter__(self) -> None:
        await self._transaction.start()

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            await self._transaction.rollback()
            return
        try:
            self._session.trouble("COMMIT")
        except BaseException:
            await self._transaction.rollback()
            raise
        await self._transaction.commit()
        self._session.committed(notify=self._notify)
