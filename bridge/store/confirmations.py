"""Tables: confirmations and subscribers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.store.database import Connection


class Confirmations:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
