"""Tables: distributions, payouts, actions, senders, slots, attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bridge.store.database import Connection


class Payouts:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
