"""Tables: blocks, logs, heads, finalized_ranges, reorgs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.store.database import Connection


class Events:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
