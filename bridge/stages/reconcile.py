"""books, chain ─► checks ─► breaks (opened, seen again, cleared) ─► verdict.

Everything is compared at one finalized block of each chain: the last one that the ledger has booked. Rows are read in
one snapshot; the chain is asked for the same block by its hash.

    event         each covered log ↔ exactly one journal, made again from the log and compared field by field
    balance       our contracts in every token and the native coin, the operator in the native coin: books = chain
    nonce         transactions the operator sent = slots that were spent
    completeness  finalized ranges without a gap, headers linked and as a node tells them, nothing waiting to be booked;
                  in a full run also journals with their keys, balances as the sum of transfers, and what remake.py does
    suspense      suspense:in and suspense:out are empty
    payout        executed batches = intended batches; what is pending = what is in flight; nothing waits for too long;
                  nobody has claimed more than it was given

There is no tolerance of amounts. What cannot be judged yet is skipped, with its cause.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bridge.domain.breaks import (
    Batches,
    BreakKind,
    Check,
    Difference,
    Evidence,
    Executed,
    Level,
    Reconciliation,
    Spent,
    judge_balance,
    judge_claims,
    judge_nonce,
    judge_suspense,
    judge_waiting,
)
from bridge.domain.errors import RetryableError
from bridge.domain.events import Block, Event, Log, Value
from bridge.domain.ledger import (
    CLAIMABLE,
    SUSPENSE_IN,
    SUSPENSE_OUT,
    Balance,
    Journal,
    Watched,
    book_event,
    gas_code,
    log_ref,
)
from bridge.domain.units import Address, AssetId, BlockStamp, format_tx
from bridge.ports import ChainReader, Clock, Database, Lease, Transaction
from bridge.stages.headers import Period, find_period
from bridge.stages.post import ACTIVATED, CREDITED, EXECUTED, SKIPPED, TRANSFERRED, EventReader, batch_of
from bridge.stages.remake import check_corrections, check_facts, check_ranges, check_records

INTERVAL_MS = 60_000
DEADLINE_S = 86_400
"""Chain time after the end of its window by which a batch should have been executed."""
ALLOWANCE_S = 600
"""Database time within which the confirm stage should have settled a transaction that was sent."""
LOGS_AT_ONCE = 5_000
HEADERS_MAX = 256
DIFFERENCES_MAX = 1_000
"""Of one check. A run that finds more has found one thing, many times."""


@dataclass(frozen=True, slots=True)
class Books:
    """One chain whose books are compared with it."""

    chain: ChainReader
    watched: Watched
    start_block: int


@dataclass(frozen=True, slots=True)
class _View:
    """What the database said, in one snapshot, about one chain at block `at`."""

    at: BlockStamp
    checks: tuple[Check, ...]  # those that need no node
    balances: Mapping[tuple[str, AssetId], Balance]
    spent: Spent | None
    unbooked: int
    headers: tuple[Block, ...]  # to be asked for again; the last one is `at`, where it is stored


class Reconcile:
    """Compares all chains in one run."""

    name = "reconcile"

    def __init__(
        self,
        *,
        database: Database,
        books: Sequence[Books],
        clock: Clock,
        lease: Lease | None = None,
        interval_ms: int = INTERVAL_MS,
        deadline_s: int = DEADLINE_S,
        allowance_s: int = ALLOWANCE_S,
        logs_at_once: int = LOGS_AT_ONCE,
    ) -> None:
        self._database = database
        self._books = tuple(books)
        self._readers = {each.chain.name: EventReader(each.chain, each.watched) for each in books}
        self._clock = clock
        self._lease = lease  # a run by hand needs none: checks and breaks are of whoever finds them
        self._interval_ms = interval_ms
        self._deadline_s = deadline_s
        self._allowance_s = allowance_s
        self._logs_at_once = logs_at_once
        self._last: tuple[int, dict[str, BlockStamp]] | None = (
            None  # when (monotonic ms), and how far, the last run was
        )

    async def step(self) -> bool:
        """A run over what is new, where the interval has passed and the ledger has moved on."""
        now = self._clock.monotonic_ms()
        if self._last is not None and now - self._last[0] < self._interval_ms:
            return False
        async with self._database.snapshot() as tx:
            cursors = await self._cursors(tx)
        if cursors and (self._last is None or self._last[1] != cursors):
            await self.run(full=False)
            self._last = (now, cursors)
        return False

    async def run(self, *, full: bool = True) -> Reconciliation:
        """Compare now. Not `full`: events and blocks only since the last run, if that was balanced.

        Raises RetryableError where nothing is booked yet or a node does not answer; then the run has no verdict.
        """
        async with self._database.snapshot() as tx:
            cursors = await self._cursors(tx)
            views = [
                (each, await self._view(tx, each, cursors[each.chain.name], full)) for each in self._books_in(cursors)
            ]
        if not views:
            raise RetryableError("nothing is booked yet: the ledger starts with the first finalized block")
        async with self._database.begin(self._lease) as tx:
            reconciliation_id = await tx.breaks.start()
        checks = [check for each, view in views for check in (*view.checks, *await self._ask(each, view))]
        async with self._database.begin(self._lease) as tx:
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

    async def _examine(self, books: Books, period: Period) -> list[Check]:
        at, since = period.last, period.first - 1
        async with self._database.snapshot() as tx:
            balances = {(b.code, b.asset): b for b in await tx.ledger.balances(at.chain, at.number)}
            view = _View(
                at=at,
                checks=(
                    *await self._events(tx, books, at, since, Batches()),
                    *await self._completeness(tx, books, at, since),
                    *await self._suspense(tx, books, at, balances),
                ),
                balances=balances,
                spent=await tx.audits.spent(at.chain, books.watched.operator, at.number, self._allowance_s),
                unbooked=await tx.bookings.unbooked_count(at.chain, at.number),
                headers=tuple(await tx.audits.sample(at.chain, since + 1, at.number, HEADERS_MAX)),
            )
        return [*view.checks, *await self._ask(books, view)]

    async def _cursors(self, tx: Transaction) -> dict[str, BlockStamp]:
        """How far each chain is booked; a chain whose ledger is not open yet is left out."""
        found = {each.chain.name: await tx.chains.cursor("post", each.chain.name) for each in self._books}
        return {chain: BlockStamp(chain, *cursor) for chain, cursor in found.items() if cursor is not None}

    def _books_in(self, cursors: Mapping[str, BlockStamp]) -> list[Books]:
        return [each for each in self._books if each.chain.name in cursors]

    # ── What the database says ─────────────────────────────────────────────────────────────────────────────────────
    async def _view(self, tx: Transaction, books: Books, at: BlockStamp, full: bool) -> _View:
        opening = max(books.start_block - 1, 0)
        since = opening if full else (await tx.audits.last_balanced(at.chain) or opening)
        balances = {(b.code, b.asset): b for b in await tx.ledger.balances(at.chain, at.number)}
        unbooked = await tx.bookings.unbooked_count(at.chain, at.number)
        batches = Batches()
        checks = [
            *await self._events(tx, books, at, since, batches),
            *await self._completeness(tx, books, at, since),
            Check(
                Level.COMPLETENESS,
                "unbooked facts",
                at,
                actual=unbooked,
                skipped=f"{unbooked} decisions, distributions or attempts wait to be booked" if unbooked else None,
            ),
            *(await self._rows(tx, books, at, batches) if full else ()),
            *await self._suspense(tx, books, at, balances),
            *await self._intents(tx, at, balances),
        ]
        return _View(
            at=at,
            checks=tuple(checks),
            balances=balances,
            spent=await tx.audits.spent(at.chain, books.watched.operator, at.number, self._allowance_s),
            unbooked=unbooked,
            headers=tuple(await tx.audits.sample(at.chain, since + 1, at.number, HEADERS_MAX)),
        )

    async def _events(self, tx: Transaction, books: Books, at: BlockStamp, since: int, batches: Batches) -> list[Check]:
        """Both directions; and the executed `batches` among the logs against those that were planned."""
        reader = self._readers[at.chain]
        differences: list[Difference] = []
        logs_seen = journals_seen = 0
        position = since
        while position < at.number:
            logs = await tx.bookings.logs(at.chain, position + 1, at.number, reader.coverage, self._logs_at_once)
            events = [reader.read(log) for log in logs]
            expected = [book_event(event, books.watched) for event in events]
            refs = [journal.ref for journal in expected]
            booked = {journal.ref: journal for journal in await tx.ledger.journals(f"log:{at.chain}", refs)}
            differences += [
                found
                for journal, log in zip(expected, logs, strict=True)
                if (found := _difference(journal, booked.get(journal.ref), log)) is not None
            ]
            for executed in _executions(events, books.watched):
                batches.add(executed)
            logs_seen += len(logs)
            journals_seen += len(booked)
            position = logs[-1].block.number if len(logs) >= self._logs_at_once else at.number
        differences += [
            # No journal is ever taken away: whether its reversal is booked, a person says.
            Difference(BreakKind.ORPHANED_BY_REORG, f"log {ref}", {"journal": ref}, lasting=True)
            for ref in await tx.audits.journals_without_log(at.chain, since + 1, at.number, DIFFERENCES_MAX)
        ]
        events_check = Check(
            Level.EVENT, "logs", at, expected=journals_seen, actual=logs_seen, differences=_bounded(differences)
        )
        return [events_check, batches.judge(at, await tx.audits.intended(list(batches.executed)))]

    async def _completeness(self, tx: Transaction, books: Books, at: BlockStamp, since: int) -> list[Check]:
        gaps = [
            Difference(BreakKind.MISSING_IN_LEDGER, f"blocks {first} to {last}", {"first": first, "last": last})
            for first, last in await tx.audits.gaps(at.chain, books.start_block, at.number)
        ]
        links = [
            Difference(BreakKind.PROVIDER_DISAGREEMENT, f"parent of block {number}", {"block": number})
            for number in await tx.audits.broken_links(at.chain, since, at.number, DIFFERENCES_MAX)
        ]
        return [
            Check(Level.COMPLETENESS, "finalized ranges", at, differences=_bounded(gaps)),
            Check(Level.COMPLETENESS, "links", at, differences=_bounded(links)),
        ]

    async def _rows(self, tx: Transaction, books: Books, at: BlockStamp, batches: Batches) -> list[Check]:
        torn = [
            Difference(BreakKind.AMOUNT_MISMATCH, f"journal {journal}", {"journal": journal})
            for journal in await tx.audits.torn_journals(at.chain, DIFFERENCES_MAX)
        ]
        false = [
            Difference(BreakKind.AMOUNT_MISMATCH, f"balance of {code}", {"account": code}, asset)
            for code, asset in await tx.audits.false_balances(at.chain, DIFFERENCES_MAX)
        ]
        return [
            Check(Level.COMPLETENESS, "journals and keys", at, differences=tuple(torn)),
            Check(Level.COMPLETENESS, "balances and transfers", at, differences=tuple(false)),
            await check_ranges(tx, at),
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
                held = _posted(balances, code, token.id)
                unmatched = await tx.audits.unmatched(at.chain, code, token.id, at.number, 50) if held else []
                checks.append(judge_suspense(at, code, token.id, held, unmatched))
        return checks

    async def _intents(
        self, tx: Transaction, at: BlockStamp, balances: Mapping[tuple[str, AssetId], Balance]
    ) -> list[Check]:
        """What the books hold as pending is what batches in flight are to pay; and these are not overdue."""
        waiting = await tx.audits.waiting(at.chain)
        in_flight: defaultdict[AssetId, int] = defaultdict(int)
        for batch in waiting:
            in_flight[batch.asset] += batch.amount
        pending: defaultdict[AssetId, int] = defaultdict(int)
        for (code, asset), balance in balances.items():
            if code == SUSPENSE_OUT or code.startswith(CLAIMABLE):
                pending[asset] += balance.credits_pending
        claimable = {key: balance.posted for key, balance in balances.items() if key[0].startswith(CLAIMABLE)}
        checks = [
            judge_waiting(at, await tx.audits.time(at), waiting, self._deadline_s),
            judge_claims(at, claimable),
        ]
        for asset in sorted(pending.keys() | in_flight.keys()):
            books, rows = pending[asset], in_flight[asset]
            evidence = {"pending": str(books), "in_flight": str(rows)}
            wrong = (Difference(BreakKind.AMOUNT_MISMATCH, "pending payouts", evidence, asset, rows - books),)
            checks.append(
                Check(
                    Level.PAYOUT,
                    "pending payouts",
                    at,
                    asset,
                    expected=books,
                    actual=rows,
                    differences=wrong if books != rows else (),
                )
            )
        return checks

    # ── What the chain says ────────────────────────────────────────────────────────────────────────────────────────
    async def _ask(self, books: Books, view: _View) -> list[Check]:
        headers, known = await self._headers(books, view)
        if not known:
            cause = "the node does not have this block: nothing it says about balances can be compared"
            return [headers, *self._skipped(books, view, cause)]
        nonce = await self._nonce(books, view)
        checks = [headers, nonce]
        for mirror in books.watched.mirrors:
            held = await books.chain.balance(mirror.address, mirror.asset.id, view.at)
            booked = _posted(view.balances, mirror.code, mirror.asset.id)
            late = view.unbooked or (nonce.skipped is not None and view.spent is not None)
            if mirror.address == books.watched.operator and late and held != booked:
                checks.append(
                    Check(
                        Level.BALANCE,
                        mirror.code,
                        view.at,
                        mirror.asset.id,
                        expected=booked,
                        actual=held,
                        skipped="gas of included transactions is not booked yet",
                    )
                )
            else:
                checks.append(judge_balance(view.at, mirror.code, mirror.asset.id, booked, held))
        return checks

    async def _headers(self, books: Books, view: _View) -> tuple[Check, bool]:
        """Stored headers as a node tells them now; and whether it has the block that all is compared at."""
        numbers = sorted({view.at.number, *(block.number for block in view.headers)})
        told = {block.number: block for block in await books.chain.blocks(numbers)}
        stored = {block.number: (block.hash, block.timestamp) for block in view.headers}
        if view.at.number not in stored:  # a backfill may not have kept it: then its time is not known
            node = told.get(view.at.number)
            stored[view.at.number] = (view.at.hash, node.timestamp if node else 0)
        differences = tuple(
            Difference(
                BreakKind.PROVIDER_DISAGREEMENT,
                f"block {number}",
                {
                    "stored": f"0x{hash_.hex()} at {time}",
                    "node": f"0x{told[number].hash.hex()} at {told[number].timestamp}" if number in told else "none",
                },
            )
            for number, (hash_, time) in sorted(stored.items())
            if number not in told or (told[number].hash, told[number].timestamp) != (hash_, time)
        )
        check = Check(
            Level.COMPLETENESS, "headers", view.at, expected=len(stored), actual=len(told), differences=differences
        )
        return check, view.at.number in told and told[view.at.number].hash == view.at.hash

    async def _nonce(self, books: Books, view: _View) -> Check:
        code = gas_code(books.watched.operator)
        sequence = await books.chain.sequence(books.watched.operator, view.at)
        if sequence is None:
            return Check(Level.NONCE, code, view.at, skipped="accounts of this chain have no nonces")
        if view.spent is None:
            return Check(Level.NONCE, code, view.at, actual=sequence, skipped="the operator has not been used yet")
        return judge_nonce(view.at, code, sequence, view.spent)

    def _skipped(self, books: Books, view: _View, cause: str) -> list[Check]:
        nonce = Check(Level.NONCE, gas_code(books.watched.operator), view.at, skipped=cause)
        return [
            nonce,
            *(
                Check(Level.BALANCE, mirror.code, view.at, mirror.asset.id, skipped=cause)
                for mirror in books.watched.mirrors
            ),
        ]


def _difference(expected: Journal, booked: Journal | None, log: Log) -> Difference | None:
    if booked == expected:
        return None
    evidence: Evidence = {"transaction": format_tx(log.tx_hash), "log_index": log.log_index, "kind": expected.kind}
    kind = BreakKind.MISSING_IN_LEDGER if booked is None else BreakKind.AMOUNT_MISMATCH
    return Difference(kind, f"log {expected.ref}", evidence)


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


def _posted(balances: Mapping[tuple[str, AssetId], Balance], code: str, asset: AssetId) -> int:
    balance = balances.get((code, asset))
    return 0 if balance is None else balance.posted


def _bounded(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    return tuple(differences[:DIFFERENCES_MAX])
