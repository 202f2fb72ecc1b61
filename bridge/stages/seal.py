"""booked journals ─► one hash chain; and the whole chain read again.

    unsealed ──► seals ──► count and head, in the log too
                   └─────► walks, a bounded piece in each run: what is new, the whole chain, the whole books ──► fault

What the database's owner did to a row is found by reading the chain again. What he did to the chain as well is found by
whoever noted a count and a head before.
"""

from __future__ import annotations

from contextlib import aclosing

from bridge.domain.seals import START, Tip, Verification, Walk, Walked, check_link
from bridge.ports.database import Database, Transaction
from bridge.ports.running import Clock, Lease
from bridge.runtime.logs import get_logger

_log = get_logger("seal")

INTERVAL_MS = 10_000
JOURNALS_PER_STEP = 5_000
PAGE = 5_000
LINKS_PER_RUN = 20_000
"""Of each walk: some seconds."""
BOOKS_START = ("", -2, 0)
"""Before every journal."""


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
        return await verify_in(tx, noted, page=page)


async def verify_in(tx: Transaction, noted: Tip | None = None, *, page: int = PAGE) -> Verification:
    """As `verify`, in a snapshot that is open already."""
    waiting = await tx.seals.waiting()
    tip, fault = await _follow(tx, Tip(0, START), (await tx.seals.tip()).count, noted, page)
    return Verification(tip, waiting, fault or await _check_end(tx, tip, noted))


# ── In the running daemon ───────────────────────────────────────────────────────────────────────────────────────────
async def walk_on(database: Database, lease: Lease | None = None, *, limit: int = LINKS_PER_RUN) -> str:
    """Go on along each of the walks, `limit` journals at most; what came of it, in words.

    Each walk is noted in the transaction that went along it: after a crash it goes on from there. A fault is logged
    when it is found; it stays until the walk finds it mended, and until a person has taken it up nothing is sent.
    """
    said = []
    for walk in Walk:
        async with database.begin(lease) as tx:
            before = await tx.seals.walked(walk)
            after, ended = await _go_on(tx, walk, before, limit)
            await tx.seals.walk(walk, after, ended=ended)
        if after.fault is not None and before.fault is None:
            _log.error("the books are not as they were sealed", action="ledger.fault", walk=walk, fault=after.fault)
        said.append(f"{walk}: {after.fault or ('round ended' if ended else 'intact')}")
    return "; ".join(said)


async def standing_faults(tx: Transaction) -> list[str] | None:
    """What walks stand in front of, looked at again: since it was noted it may have been mended. None where no walk
    was ever made."""
    noted = await tx.seals.faults()
    if noted is None:
        return None
    again = [await _go_on(tx, walk, await tx.seals.walked(walk), LINKS_PER_RUN) for walk in noted]
    return sorted({walked.fault for walked, _ in again if walked.fault is not None})


async def _go_on(tx: Transaction, walk: Walk, before: Walked, limit: int) -> tuple[Walked, bool]:
    """How far `walk` comes with `limit` journals more, and whether a round ends there. Writes nothing."""
    return await (_walk_books if walk is Walk.BOOKS else _walk_links)(tx, walk, before, limit)


async def _walk_links(tx: Transaction, walk: Walk, before: Walked, limit: int) -> tuple[Walked, bool]:
    """From where it stands, as Walked remembers it: a chain that was made anew does not go through that head."""
    start = before.tip
    end, said, head = await tx.seals.ends(start.count)
    if end < max(said, start.count):
        fault: str | None = (
            f"the chain ends after {end} journals, {max(said, start.count)} were sealed: its tail was cut"
        )
    elif start.count and head != start.head:
        fault = f"after {start.count} journals the head is not the one that was verified"
    else:
        tip, fault = await _follow(tx, start, min(end, start.count + limit), None, PAGE)
        start = tip
    if fault is None and said < end:
        fault = f"the chain goes on to position {end}, but only {said} journals were sealed"
    tip = start
    ended = walk is Walk.ROUND and fault is None and tip.count == end and tip.count > 0
    return Walked(Tip(0, START) if ended else tip, before.place, fault, before.rounds), ended


async def _walk_books(tx: Transaction, walk: Walk, before: Walked, limit: int) -> tuple[Walked, bool]:
    last, stranger = await tx.seals.books_after(before.place, limit)
    if stranger is not None:
        fault = f"{stranger} is in the books, neither sealed nor waiting for it"
        return Walked(before.tip, before.place, fault, before.rounds), False
    return Walked(before.tip, last or BOOKS_START, None, before.rounds), last is None


async def _follow(tx: Transaction, before: Tip, end: int, noted: Tip | None, page: int) -> tuple[Tip, str | None]:
    """From `before` to position `end`, as far as each journal is what was sealed; and what is wrong with the next."""
    tip = before
    for first in range(before.count + 1, end + 1, page):
        last = min(first + page - 1, end)
        heads = await tx.seals.sealings(first, last)
        async with aclosing(tx.seals.chain(first, last)) as chain:
            async for some in chain:
                for sealed in some:
                    fault = check_link(tip, sealed)
                    if fault is not None:
                        return tip, fault
                    # A walk that stands in front of a fault finds it again: `tip` moves only where nothing is wrong.
                    position, head = sealed.sequence, sealed.head
                    if heads.get(position, head) != head:
                        return tip, f"{sealed.name}, at position {position}, has another head than its run noted"
                    if noted is not None and noted.count == position and noted.head != head:
                        return tip, f"after {position} journals the head is not the one that was noted"
                    tip = Tip(position, head)
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
