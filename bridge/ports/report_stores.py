"""Rows as reports and stories read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bridge.domain.events import Log
from bridge.domain.reports.facts import Facts
from bridge.domain.stories import JournalFact, Match, SignedAttempt, StoryFacts
from bridge.domain.units import Address
from bridge.domain.windows import Window


class ReportStore(Protocol):
    async def facts(self, period: Window | None = None, progress: Callable[[str], None] = ...) -> Facts:
        """Everything that a report is assembled from: of all blocks up to the cut-off, or of those within `period`.

        Call it inside a snapshot. `progress` is told what is read next, in words.
        """


class StoryStore(Protocol):
    async def find(self, low: bytes, high: bytes) -> list[Match]:
        """What has an id in low … high, both included; bounded."""

    async def facts(self, decision_id: bytes) -> StoryFacts:
        """Raises LookupError where there is no such decision."""

    async def logs(
        self,
        chain: str,
        contracts: Sequence[Address],
        topic0: bytes,
        *,
        first: tuple[int, int],
        last: tuple[int, int],
        limit: int,
    ) -> list[Log]:
        """Finalized logs of one kind from position `first` to `last` (block, log index), both included, in order."""

    async def log_refs(self, chain: str, attempts: Sequence[SignedAttempt]) -> list[tuple[bytes, int, set[bytes]]]:
        """(block hash, log index, indexed fields) of every log that the included ones of `attempts` caused."""

    async def journals(self, keys: Sequence[tuple[str, str]]) -> list[JournalFact]:
        """The journals of these (source, ref), in the order of the books."""
