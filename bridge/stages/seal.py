"""booked journals ─► one hash chain; and the whole chain read again.

    unsealed ──► seals ──► count and head, in the log too

What the database's owner did to a row is found by reading the chain again. What he did to the chain as well is found by
whoever noted a count and a head before.
"""

from __future__ import annotations

from contextlib import aclosing

from bridge.domain.seals import START, Tip, Verification, check_link
from bridge.ports import Clock, Database, Lease, Transaction
from bridge.runtime.logs import get_logger

_log = get_logger("seal")

INTERVAL_MS = 10_000
JOURNALS_PER_STEP = 5_000
PAGE = 5_000


class Seal:
    """Seals the journals of all chains."""

    name = "seal"

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        lease: Lease | None = None,
        interval_ms: int = INTERVAL_MS,
        journals_per_step: int = JOURNALS_PER_STEP,
    ) -> None:
        self._database = database
        self._clock = clock
        self._lease = lease
        self._interval_ms = interval_ms
        self._journals_per_step = journals_per_step
        self._idle_until_ms = 0  # monotonic; runs are bundled, for each leaves a row and a line in the log

    async def step(self) -> bool:
        if self._clock.monotonic_ms() < self._idle_until_ms:
            return False
        async with self._database.begin(self._lease) as tx:
            count, tip = await tx.seals.seal(self._journals_per_step)
        if count:
            _log.info("sealed", action="ledger.sealed", journals=count, count=tip.count, head=tip.head)
        if count < self._journals_per_step:
            self._idle_until_ms = self._clock.monotonic_ms() + self._interval_ms
            return False
        return True


async def verify(database: Database, noted: Tip | None = None, *, page: int = PAGE) -> Verification:
    """Read every sealed journal anew and compare, up to the first one that differs.

    `noted` is a count and a head that somebody kept elsewhere: the chain must have passed through it.
    """
    async with database.snapshot() as tx:
        waiting = await tx.seals.waiting()
        tip, fault = await _follow(tx, noted, page)
        return Verification(tip, waiting, fault or await _check_end(tx, tip, noted))


async def _follow(tx: Transaction, noted: Tip | None, page: int) -> tuple[Tip, str | None]:
    """As far as each journal is what was sealed, and what is wrong with the next one."""
    tip, end = Tip(0, START), await tx.seals.tip()
    for first in range(1, end.count + 1, page):
        last = first + page - 1
        heads = await tx.seals.sealings(first, last)
        async with aclosing(tx.seals.chain(first, last)) as chain:
            async for sealed in chain:
                fault = check_link(tip, sealed)
                if fault is not None:
                    return tip, fault
                tip = Tip(sealed.sequence, sealed.head)
                if heads.get(tip.count, tip.head) != tip.head:
                    return tip, f"{sealed.name}, at position {tip.count}, has another head than its run noted"
                if noted is not None and noted.count == tip.count and noted.head != tip.head:
                    return tip, f"after {tip.count} journals the head is not the one that was noted"
    return tip, None


async def _check_end(tx: Transaction, tip: Tip, noted: Tip | None) -> str | None:
    # said:   where the last run, or whoever noted it, says that the chain goes at least
    # tip  ●──────● said       the tail was cut
    # said ●──────● tip        a link that no run made
    last = await tx.seals.last_sealing()
    stranger = await tx.seals.stranger()
    beside = "" if stranger is None else f"; {stranger} is in the books, neither sealed nor waiting for it"
    for said in (last, noted or tip):
        if said.count > tip.count:
            return f"the chain ends after {tip.count} journals, {said.count} were sealed: its tail was cut{beside}"
    if last != tip:
        return f"the chain goes on to position {tip.count}, but only {last.count} journals were sealed{beside}"
    return None if stranger is None else f"{stranger} is in the books, neither sealed nor waiting for it"
