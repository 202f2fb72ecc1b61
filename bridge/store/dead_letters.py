"""Table `dead_letters`: what was given up after bounded retries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.store.connection import Connection

RECORD = """
    INSERT INTO dead_letters AS known (stage, scope, error, retries) VALUES ($1, $2, $3, $4)
    ON CONFLICT (stage, scope) WHERE resolved_at IS NULL DO UPDATE
       SET error = excluded.error, retries = known.retries + excluded.retries, last_seen = now()
"""
RESOLVE = "UPDATE dead_letters SET resolved_at = now() WHERE stage = $1 AND scope = $2 AND resolved_at IS NULL"
OPEN = """
    SELECT stage, scope, error, retries, first_seen, last_seen
      FROM dead_letters WHERE resolved_at IS NULL ORDER BY dead_letter_id
"""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    stage: str
    scope: str
    error: str
    retries: int
    first_seen: datetime
    last_seen: datetime


class DeadLetters:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def record(self, stage: str, scope: str, error: str, retries: int) -> None:
        await self._connection.execute(RECORD, stage, scope, error.replace("\x00", ""), retries)

    async def resolve(self, stage: str, scope: str) -> None:
        """The stage works again: what it could not do is done."""
        await self._connection.execute(RESOLVE, stage, scope)

    async def open(self) -> list[DeadLetter]:
        return [DeadLetter(**row) for row in await self._connection.fetch(OPEN)]
