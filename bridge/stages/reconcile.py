"""books, chain ─► checks ─► breaks (opened, seen again, cleared) ─► verdict.

Everything is compared at one finalized block of each chain: the last one that the ledger has booked. Rows are read in
one snapshot; the chain is asked for the same block by its hash (ask.py).

    event         each covered log ↔ exactly one journal, made again from the log and compared field by field
    balance       our contracts and the operator in every token and the native coin: books = chain
    nonce         transactions the operator sent = slots that were spent, where accounts count what they send
    independent   nodes agree with each other; a slice of old blocks in each sweep: their logs as two nodes tell them
                  now = those that are stored
    completeness  finalized ranges without a gap, headers linked and as a node tells them, nothing waiting to be booked,
                  journals as they were sealed;
                  in a full run also journals with their keys, balances as the sum of transfers, and what remake.py does
    suspense      suspense:in and suspense:out are empty
    payout        executed batches = intended batches; what is pending = in flight + held; nothing in flight is overdue;
                  batches that are over = what the chain keeps of them, where it does (some of them in each run);
                  nobody has claimed more than it was given; the distributor owes each account what the books say, and
                  each has claimed what they say: accounts that moved at once, others when the sweep comes to them

There is no tolerance of amounts. What cannot be judged yet is skipped, with its cause.

A run that is not full looks at the blocks since the last run, and again at those that breaks are about:

    ───────●─────────────●●────────────────┬──────────────► at
        in doubt       in doubt         last run    new

so it costs what is new and what is open, however old the books are. What is old is gone through by the sweep.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing

from bridge.domain.breaks import (
    Batches,
    BreakKind,
    Check,
    Difference,
    Evidence,
    Executed,
    Level,
    Reconciliation,
    judge_claims,
    judge_suspense,
    judge_waiting,
    merge_spans,
)
from bridge.domain.errors import RetryableError, StateUnavailable
from bridge.domain.events import Event, Log, Value
from bridge.domain.ledger import SUSPENSE_IN, SUSPENSE_OUT, Balance, Journal, Mirror, Watched, book_event, log_ref
from bridge.domain.matches import Moved, match
from bridge.domain.units import Address, AssetId, BlockStamp, format_tx
from bridge.ports.database import Database, Transaction
from bridge.ports.running import Lease
from bridge.stages.ask import Ask
from bridge.stages.balances import false_balances
from bridge.stages.headers import Period, find_period
from bridge.stages.post import ACTIVATED, CREDITED, EXECUTED, SKIPPED, TRANSFERRED, EventReader, batch_of
from bridge.stages.remake import check_corrections, check_facts, check_ranges, check_records
from bridge.stages.seal import standing_faults, verify_in
from bridge.stages.view import DIFFERENCES_MAX, Books, Span, View, bounded, posted

DEADLINE_S = 86_400
"""Chain time after the end of its window by which a batch should have been executed."""
ALLOWANCE_S = 600
"""Database time within which the confirm stage should have settled a transaction that was sent."""
LOGS_AT_ONCE = 5_000
HEADERS_MAX = 256
UNMATCHED_MAX = 1_000
UNMATCHED_NAMED = 50
DOUBTED_BLOCKS_MAX = 1_000
"""Looked at again for one balance that is off."""
LOGS_SWEPT = 20_000
BLOCKS_SWEPT = 20_000
ACCOUNTS_SWEPT = 200
"""Of a slice."""
TOUCHED_MAX = 500
"""Accounts asked at once because something moved them; where there are more, the sweep comes to them."""
OUTCOMES_MAX = 20
"""Batches that are over, asked for again in one run where the chain keeps what it executed; each takes some calls."""
BLOCKS, ACCOUNTS, CLAIMANTS = "blocks", "accounts", "claimants"
"""What is swept."""
NEAR_BLOCKS = 100
"""So near, blocks in doubt are read together."""


class Reconcile:
    """Compares all chains in one run."""

    name = "reconcile"

    def __init__(
        self,
        *,
        database: Database,
        books: Sequence[Books],
        lease: Lease | None = None,
        deadline_s: int = DEADLINE_S,
        allowance_s: int = ALLOWANCE_S,
        logs_at_once: int = LOGS_AT_ONCE,
        logs_swept: int = LOGS_SWEPT,
        accounts_swept: int = ACCOUNTS_SWEPT,
    ) -> None:
        self._database = database
        self._books = tuple(books)
        self._readers = {each.chain.name: EventReader(each.chain, each.watched) for each in books}
        self._lease = lease  # a run by hand needs none: checks and breaks are of whoever finds them
        self._deadline_s = deadline_s
        self._allowance_s = allowance_s
        self._logs_at_once = logs_at_once
        self._logs_swept = logs_swept
        self._accounts_swept = accounts_swept
        self._ask = Ask(database, self._readers, logs_at_once)
        self._last: dict[str, BlockStamp] = {}  # how far the last run of `follow` came

    async def follow(self, *, sweep: bool = False) -> str:
        """A run over what is new, where the ledger has moved on, or with `sweep` in any case; in words what came of it.

        Raises as `run` does, but for a ledger that has not begun.
        """
        async with self._database.snapshot() as tx:
            cursors = await self._cursors(tx)
        if not cursors:
            return "nothing is booked yet"
        if not sweep and cursors == self._last:
            return "nothing new"
        result = await self.run(full=False, sweep=sweep)
        self._last = cursors
        verdict = "balanced" if result.balanced else f"{len(result.breaks)} breaks"
        return f"reconciliation {result.reconciliation_id}: {verdict}, {len(result.skipped)} checks skipped"

    async def run(self, *, full: bool = True, sweep: bool = False) -> Reconciliation:
        """Compare now. Not `full`: events and blocks only since the last run, and those that breaks are about. With
        `sweep` also the next slice of what is old; where it ends is noted with what was found.

        Raises RetryableError where nothing is booked yet or a node does not answer; then the run has no verdict.
        """
        async with self._database.begin(self._lease) as tx:
            if not await self._cursors(tx):
                raise RetryableError("nothing is booked yet: the ledger starts with the first finalized block")
            # Before anything is looked at: of two runs at once, the one with the higher number has seen more.
            reconciliation_id = await tx.breaks.start()
        async with self._database.snapshot() as tx:
            cursors = await self._cursors(tx)
            views = [
                (each, await self._view(tx, each, cursors[each.chain.name], full=full, sweep=sweep))
                for each in self._books_in(cursors)
            ]
        checks = [check for each, view in views for check in (*view.checks, *await self._ask.checks(each, view))]
        async with self._database.begin(self._lease) as tx:
            for _, view in views:
                for what, place in view.swept.items():
                    await tx.jobs.move(what, view.at.chain, place)
            return await tx.breaks.finish(reconciliation_id, checks)

    async def examine(self, start: int, end: int) -> list[tuple[Period, list[Check]]]:
        """The blocks of each chain with `start` ≤ time < `end`, in seconds, again: their events, and the balances after
        the last of them. Writes nothing: what is found may be corrected by now, and the last blocks say what is open.

        A chain that is not booked there is left out. Raises as `run` does.
        """
        async with self._database.snapshot() as tx:
            cursors = await self._cursors(tx)
        found = []
        for books in self._books_in(cursors):
            opening = max(books.start_block - 1, 0)
            period = await find_period(books.chain, start, end, opening, cursors[books.chain.name].number)
            if period is not None:
                found.append((period, await self._examine(books, period)))
        return found

    async def booked_through(self, end: int) -> bool:
        """Whether the books of every chain have passed `end`, in seconds: nothing before it is still to come."""
        async with self._database.snapshot() as tx:
            cursors = await self._cursors(tx)
            times = [await tx.audits.time(at) for at in cursors.values()]
        return len(cursors) == len(self._books) and all(time >= end for time in times)

    async def _examine(self, books: Books, period: Period) -> list[Check]:
        at = period.last
        spans = [(period.first - 1, at.number)]
        async with self._database.snapshot() as tx:
            balances = await self._balances(tx, books, at)
            view = View(
                at=at,
                checks=(
                    *await self._events(tx, books, at, spans, Batches()),
                    *await self._completeness(tx, at, spans),
                    *await self._suspense(tx, books, at, balances),
                ),
                balances=balances,
                spent=await tx.audits.spent(at.chain, books.watched.operator, at.number, self._allowance_s),
                unbooked=await tx.bookings.unbooked_count(at.chain, at.number),
                headers=tuple(await tx.audits.sample(at.chain, period.first, at.number, HEADERS_MAX)),
            )
        try:
            return [*view.checks, *await self._ask.checks(books, view)]
        except StateUnavailable as error:
            return [*view.checks, *self._ask.skipped(books, view, str(error))]

    async def _cursors(self, tx: Transaction) -> dict[str, BlockStamp]:
        """How far each chain is booked; a chain whose ledger is not open yet is left out."""
        found = {each.chain.name: await tx.chains.cursor("post", each.chain.name) for each in self._books}
        return {chain: BlockStamp(chain, *cursor) for chain, cursor in found.items() if cursor is not None}

    def _books_in(self, cursors: Mapping[str, BlockStamp]) -> list[Books]:
        return [each for each in self._books if each.chain.name in cursors]

    # ── What the database says ─────────────────────────────────────────────────────────────────────────────────────
    async def _view(self, tx: Transaction, books: Books, at: BlockStamp, *, full: bool, sweep: bool) -> View:
        opening = max(books.start_block - 1, 0)
        looked = None if full else await tx.audits.last_looked(at.chain)
        since = opening if looked is None else min(max(looked, opening), at.number)
        old, swept = await self._slice(tx, at, opening, since) if sweep else ([], {})
        doubted = await self._doubted(tx, at, opening, since) if since > opening else []
        # Apart from what is new, for a sample of headers is taken of that.
        spans = [*merge_spans([*old, *doubted], NEAR_BLOCKS), (since, at.number)]
        credited, last_account = await self._credited(tx, at, None if full else since, sweep)
        claimed, last_claimant = await self._claimed(tx, books, at, None if full else since, sweep)
        ends = {ACCOUNTS: last_account, CLAIMANTS: last_claimant}
        balances = await self._balances(tx, books, at)
        unbooked = await tx.bookings.unbooked_count(at.chain, at.number)
        batches = Batches()
        checks = [
            *await self._events(tx, books, at, spans, batches),
            *await self._completeness(tx, at, spans),
            *await self._seals(tx, at, full),
            Check(
                Level.COMPLETENESS,
                "unbooked facts",
                at,
                actual=unbooked,
                skipped=f"{unbooked} decisions, distributions or attempts wait to be booked" if unbooked else None,
            ),
            await check_ranges(tx, at, spans),
            *(await self._rows(tx, books, at, batches) if full else ()),
            *await self._suspense(tx, books, at, balances),
            *await self._intents(tx, at),
        ]
        return View(
            at=at,
            checks=tuple(checks),
            balances=balances,
            spent=await tx.audits.spent(at.chain, books.watched.operator, at.number, self._allowance_s),
            unbooked=unbooked,
            headers=tuple(await tx.audits.sample(at.chain, since + 1, at.number, HEADERS_MAX)),
            outcomes=()
            if books.executions is None
            else tuple(await tx.audits.outcomes(at.chain, at.number, OUTCOMES_MAX)),
            credited=credited,
            claimed=claimed,
            opening=await self._opening(tx, at.chain) if claimed else None,
            swept={**swept, **{what: end for what, end in ends.items() if end is not None}},
            again=merge_spans([*old, *doubted], 0) if sweep and books.history is not None else (),
        )

    async def _slice(
        self, tx: Transaction, at: BlockStamp, opening: int, since: int
    ) -> tuple[list[Span], dict[str, str]]:
        """The next blocks of the sweep, and where it then stands; from the first block again where all were seen."""
        after = max(int(await tx.jobs.place(BLOCKS, at.chain) or opening), opening)
        last = min(since, after + BLOCKS_SWEPT)
        if after < last:
            last = await tx.audits.slice_end(at.chain, after, last, self._logs_swept)
        return [(after, last)] if after < last else [], {BLOCKS: str(last) if last < since else ""}

    async def _credited(
        self, tx: Transaction, at: BlockStamp, since: int | None, sweep: bool
    ) -> tuple[dict[tuple[str, AssetId], int], str | None]:
        """What the books say that the distributor owes single accounts, in atoms: all of them, or those that were moved
        after block `since`, those that are a break, and a slice of all; with the last of the slice, '' at the end."""
        doubted = await tx.audits.credited_in_doubt(at.chain, at.number if since is None else since, TOUCHED_MAX)
        everything = since is None
        codes, last = await self._chosen(
            tx, ACCOUNTS, tx.audits.credited_after, at.chain, everything=everything, sweep=sweep
        )
        codes |= set(doubted)
        owed = await tx.ledger.balances(at.chain, at.number, sorted(codes)) if codes else []
        return {(each.code, each.asset): -each.posted for each in owed}, last

    async def _claimed(
        self, tx: Transaction, books: Books, at: BlockStamp, since: int | None, sweep: bool
    ) -> tuple[dict[tuple[str, AssetId], int], str | None]:
        """What the books say that single accounts have claimed, chosen likewise."""
        if books.claimed is None:
            return {}, None
        doubted = await tx.audits.claimants_in_doubt(at.chain, at.number if since is None else since, TOUCHED_MAX)
        everything = since is None
        codes, last = await self._chosen(
            tx, CLAIMANTS, tx.audits.claimants_after, at.chain, everything=everything, sweep=sweep
        )
        codes |= set(doubted)
        return await tx.audits.claimed(at, sorted(codes)) if codes else {}, last

    async def _chosen(
        self,
        tx: Transaction,
        what: str,
        after: Callable[[str, str, int | None], Awaitable[list[str]]],
        chain: str,
        *,
        everything: bool,
        sweep: bool,
    ) -> tuple[set[str], str | None]:
        """Codes that `after` lists: all, or the next ones of the sweep; with the last of these, '' at the end."""
        if everything:
            return set(await after(chain, "", None)), None
        if not sweep:
            return set(), None
        page = await after(chain, await tx.jobs.place(what, chain), self._accounts_swept)
        return set(page), page[-1] if len(page) == self._accounts_swept else ""

    async def _opening(self, tx: Transaction, chain: str) -> BlockStamp | None:
        return next((journal.at for journal in await tx.ledger.journals("opening", [chain])), None)

    async def _doubted(self, tx: Transaction, at: BlockStamp, opening: int, since: int) -> list[Span]:
        """The blocks that breaks are about, among those that were looked at already."""
        doubted = await tx.audits.doubted(at.chain, DOUBTED_BLOCKS_MAX)
        within = [(max(after, opening), min(last, since)) for after, last in doubted]
        return merge_spans([span for span in within if span[0] < span[1]], NEAR_BLOCKS)

    async def _balances(self, tx: Transaction, books: Books, at: BlockStamp) -> Mapping[tuple[str, AssetId], Balance]:
        """Of the accounts that are compared with the chain, and of those that must be empty."""
        codes = sorted({mirror.code for mirror in books.watched.mirrors} | {SUSPENSE_IN, SUSPENSE_OUT})
        return {(b.code, b.asset): b for b in await tx.ledger.balances(at.chain, at.number, codes)}

    async def _events(
        self, tx: Transaction, books: Books, at: BlockStamp, spans: Sequence[Span], batches: Batches
    ) -> list[Check]:
        """Both directions; and the executed `batches` among the logs against those that were planned."""
        differences: list[Difference] = []
        logs_seen = journals_seen = 0
        for span in sorted(spans):
            logs, journals = await self._compare(tx, books, span, batches, differences)
            logs_seen, journals_seen = logs_seen + logs, journals_seen + journals
        events_check = Check(
            Level.EVENT, "logs", at, expected=journals_seen, actual=logs_seen, differences=bounded(differences)
        )
        batches.repeat(await tx.audits.settled_in(list(batches.executed)))
        return [events_check, batches.judge(at, await tx.audits.intended(list(batches.executed)))]

    async def _compare(
        self, tx: Transaction, books: Books, span: Span, batches: Batches, differences: list[Difference]
    ) -> tuple[int, int]:
        """The logs of `span`, and the journals that they should have; how many there are of each.

        Page by page: whether the books hold just what the logs say, which they nearly always do. Only where they do not
        is each journal looked up by itself, to say which one is off.
        """
        chain, source = books.chain.name, f"log:{books.chain.name}"
        reader = self._readers[chain]
        logs_seen = journals_seen = 0
        position, end = span
        while position < end:
            logs = await tx.bookings.logs(chain, position + 1, end, reader.coverage, self._logs_at_once)
            last = logs[-1].block.number if len(logs) >= self._logs_at_once else end
            events = [reader.read(log) for log in logs]
            expected = [book_event(event, books.watched) for event in events]
            if await tx.ledger.books_exactly(chain, source, position + 1, last, expected):
                journals_seen += len(expected)
            else:
                found, booked_count = await self._differences(tx, chain, (position, last), logs, expected)
                differences += found
                journals_seen += booked_count
            for executed in _executions(events, books.watched):
                batches.add(executed)
            logs_seen += len(logs)
            position = last
        return logs_seen, journals_seen

    async def _differences(
        self, tx: Transaction, chain: str, span: Span, logs: Sequence[Log], expected: Sequence[Journal]
    ) -> tuple[list[Difference], int]:
        """Both directions, journal by journal; and how many of those that are expected are booked."""
        refs = [journal.ref for journal in expected]
        booked = {journal.ref: journal for journal in await tx.ledger.journals(f"log:{chain}", refs)}
        found = [
            difference
            for journal, log in zip(expected, logs, strict=True)
            if (difference := _difference(journal, booked.get(journal.ref), log)) is not None
        ]
        # No journal is ever taken away: whether its reversal is booked, a person says.
        return [
            *found,
            *(
                Difference(BreakKind.ORPHANED_BY_REORG, f"log {ref}", {"journal": ref}, lasting=True, block=number)
                for number, ref in await tx.audits.journals_without_log(chain, span[0] + 1, span[1], DIFFERENCES_MAX)
            ),
        ], len(booked)

    async def _completeness(self, tx: Transaction, at: BlockStamp, spans: Sequence[Span]) -> list[Check]:
        gaps, links = [], []
        for after, last in sorted(spans):
            gaps += [
                Difference(
                    BreakKind.MISSING_IN_LEDGER,
                    f"blocks {first} to {end}",
                    {"first": first, "last": end},
                    block=end,
                    after=first - 1,
                )
                for first, end in await tx.audits.gaps(at.chain, after + 1, last)
            ]
            links += [
                Difference(
                    BreakKind.PROVIDER_DISAGREEMENT, f"parent of block {number}", {"block": number}, block=number
                )
                for number in await tx.audits.broken_links(at.chain, after, last, DIFFERENCES_MAX)
            ]
        return [
            Check(Level.COMPLETENESS, "finalized ranges", at, differences=bounded(gaps)),
            Check(Level.COMPLETENESS, "links", at, differences=bounded(links)),
        ]

    async def _seals(self, tx: Transaction, at: BlockStamp, full: bool) -> list[Check]:
        """Of all chains: they have one ledger. Told with the first of them. A full run reads everything that is sealed;
        in others the walks of the daemon say how it is."""
        if at.chain != self._books[0].chain.name:
            return []
        if full:
            fault = (await verify_in(tx)).fault
            faults: list[str] | None = [] if fault is None else [fault]
        else:
            faults = await standing_faults(tx)
        if faults is None:
            return []
        differences = (Difference(BreakKind.AMOUNT_MISMATCH, "seals", {"faults": faults}),) if faults else ()
        return [Check(Level.COMPLETENESS, "seals", at, differences=differences)]

    async def _rows(self, tx: Transaction, books: Books, at: BlockStamp, batches: Batches) -> list[Check]:
        torn = [
            Difference(BreakKind.AMOUNT_MISMATCH, f"journal {journal}", {"journal": journal})
            for journal in await tx.audits.torn_journals(at.chain, DIFFERENCES_MAX)
        ]
        false = await _false(tx, at.chain)
        return [
            Check(Level.COMPLETENESS, "journals and keys", at, differences=tuple(torn)),
            Check(Level.COMPLETENESS, "balances and transfers", at, differences=false),
            await check_records(tx, at),
            await check_facts(tx, at, books.watched.native.id, batches),
            await check_corrections(tx, at),
        ]

    async def _suspense(
        self, tx: Transaction, books: Books, at: BlockStamp, balances: Mapping[tuple[str, AssetId], Balance]
    ) -> list[Check]:
        checks = []
        for code in (SUSPENSE_IN, SUSPENSE_OUT):
            for token in books.watched.tokens:
                held = posted(balances, code, token.id)
                unmatched = await self._unmatched(tx, at, (code, token.id)) if held else []
                checks.append(judge_suspense(at, code, token.id, held, unmatched))
        return checks

    async def _unmatched(self, tx: Transaction, at: BlockStamp, account: tuple[str, AssetId]) -> list[str]:
        """What moved through a suspense account since it was empty and that nothing matches, oldest first."""
        empty = await tx.audits.empty_until(at.chain, *account)
        after = (
            -2 if empty is None or empty >= at.number else empty
        )  # emptied or filled since by a row that was changed
        found = await tx.audits.unmatched(at.chain, account, after, at.number, UNMATCHED_MAX)
        moves = [
            Moved(net, None if log is None else log.tx_hash, None if log is None else self._payer(at.chain, log), line)
            for net, line, log in found
            if net
        ]
        left = match(moves).left or moves  # what does not add up is shown whole
        return [move.line for move in left[:UNMATCHED_NAMED]]

    def _payer(self, chain: str, log: Log) -> bytes | None:
        """Whom the other side of a movement belongs to: who paid us, or whom we paid."""
        event, ours = self._readers[chain].read(log), {each.address for each in self._mirrors(chain)}
        named = [event.fields.get(field) for field in ("payer", "from", "to")]
        return next((each for each in named if isinstance(each, bytes) and each not in ours), None)

    def _mirrors(self, chain: str) -> Sequence[Mirror]:
        return next(each.watched.mirrors for each in self._books if each.chain.name == chain)

    async def _intents(self, tx: Transaction, at: BlockStamp) -> list[Check]:
        """What the books hold as pending is what batches that are in flight or held are to pay; none is overdue."""
        waiting = await tx.audits.waiting(at.chain)
        in_flight: defaultdict[AssetId, int] = defaultdict(int)
        held: defaultdict[AssetId, int] = defaultdict(int)
        for batch in waiting:
            (in_flight if batch.held is None else held)[batch.asset] += batch.amount
        pending = await tx.audits.pending(at)
        checks = [
            *judge_waiting(at, await tx.audits.time(at), waiting, self._deadline_s),
            judge_claims(at, *await tx.audits.overdrawn(at)),
        ]
        for asset in sorted(pending.keys() | in_flight.keys() | held.keys()):
            books, rows = pending.get(asset, 0), in_flight[asset] + held[asset]
            evidence = {"pending": str(books), "in_flight": str(in_flight[asset]), "held": str(held[asset])}
            wrong = (Difference(BreakKind.AMOUNT_MISMATCH, "pending payouts", evidence, asset, rows - books),)
            late = await tx.audits.unjudged(at.chain) if books != rows else 0
            skipped = f"{late} executed batches are not settled yet" if late else None
            checks.append(
                Check(
                    Level.PAYOUT,
                    "pending payouts",
                    at,
                    asset,
                    expected=books,
                    actual=rows,
                    differences=wrong if books != rows and not late else (),
                    skipped=skipped,
                )
            )
        return checks


async def _false(tx: Transaction, chain: str) -> tuple[Difference, ...]:
    """Balances that are not the sum of their transfers, some of them where there are very many."""
    found: list[Difference] = []
    async with aclosing(false_balances(tx, chain)) as wrong:
        async for each in wrong:
            figures = {name: [f"kept as {kept}", f"added up {up}"] for name, (kept, up) in each.figures.items()}
            evidence: Evidence = {"account": each.code, **figures}
            found.append(Difference(BreakKind.AMOUNT_MISMATCH, f"balance of {each.code}", evidence, each.asset))
            if len(found) == DIFFERENCES_MAX:
                break
    return tuple(found)


def _difference(expected: Journal, booked: Journal | None, log: Log) -> Difference | None:
    if booked == expected:
        return None
    evidence: Evidence = {"transaction": format_tx(log.tx_hash), "log_index": log.log_index, "kind": expected.kind}
    kind = BreakKind.MISSING_IN_LEDGER if booked is None else BreakKind.AMOUNT_MISMATCH
    return Difference(kind, f"log {expected.ref}", evidence, block=log.block.number)


def _executions(events: Sequence[Event], watched: Watched) -> Iterator[Executed]:
    """Executed batches, each with what its recipients got: what left the distributor in its transaction before it; and
    activated trees, from which nobody has got anything yet."""
    moved: defaultdict[tuple[bytes, AssetId | None], Counter[Address]] = defaultdict(Counter)
    credited: defaultdict[tuple[bytes, int], Counter[Address]] = defaultdict(Counter)
    left_out: defaultdict[tuple[bytes, int], set[Address]] = defaultdict(set)
    for event in events:
        fields, log = event.fields, event.log
        if event.source == TRANSFERRED and fields["from"] == watched.distributor and fields["value"]:
            moved[log.tx_hash, watched.token(log.address)][_address(fields["to"])] += _int(fields["value"])
        elif event.source == CREDITED:
            credited[batch_of(event)][_address(fields["to"])] += _int(fields["amount"])
        elif event.source == SKIPPED:
            left_out[batch_of(event)].add(_address(fields["to"]))
        elif event.source == EXECUTED:
            key, token = batch_of(event), watched.token(fields["token"])
            kept = credited.pop(key, Counter())
            yield Executed(
                *key,
                token=token,
                moved=_int(fields["paid"]) + _int(fields["credited"]),
                ref=log_ref(log),
                received=moved.pop((log.tx_hash, token), Counter()) + kept,
                log=log,
                credited=frozenset(kept),
                left_out=frozenset(left_out.pop(key, ())),
            )
        elif event.source == ACTIVATED:
            token, total = watched.token(fields["token"]), _int(fields["total"])
            yield Executed(*batch_of(event), token, total, log_ref(log), None, log, frozenset())


def _int(value: Value) -> int:
    assert isinstance(value, int)
    return value


def _address(value: Value) -> Address:
    assert isinstance(value, bytes)
    return Address(value)
