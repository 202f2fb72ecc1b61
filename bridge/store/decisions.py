"""Tables: rules, accumulators, carries, decisions, allocations."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.store.database import Connection


class Decisions:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
