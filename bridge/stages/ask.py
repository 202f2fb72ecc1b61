"""books at a block ─► nodes ─► checks: what the chain says of what the database said (reconcile.py).

Where nodes contradict each other, what they were asked is skipped, and that they do is a break of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from bridge.domain.breaks import BreakKind, Check, Difference, Evidence, Level, judge_balance, judge_nonce
from bridge.domain.errors import ChainDisagrees, StateUnavailable
from bridge.domain.events import Log, TimedLogs, unpack_logs
from bridge.domain.ledger import Mirror, gas_code, log_ref
from bridge.domain.units import Address, format_hash, format_tx, hash_of, parse_address
from bridge.ports.database import Database
from bridge.ports.reading import ClaimedAmounts, Executions, History
from bridge.stages.post import EventReader
from bridge.stages.view import Books, View, bounded, posted

MARKERS = "batches that are over"
OWED, CREDITED_ACCOUNTS = "owed(address,address)", "credited accounts"
CLAIMED_ACCOUNTS = "claimed accounts"
DISAGREE = "two nodes contradict each other"
T = TypeVar("T")


class Ask:
    """Asks the nodes of one chain after the other."""

    def __init__(self, database: Database, readers: Mapping[str, EventReader], logs_at_once: int) -> None:
        self._database = database
        self._readers = readers
        self._logs_at_once = logs_at_once

    async def checks(self, books: Books, view: View) -> list[Check]:
        """What nodes say. Where two contradict each other, the check is skipped, and that they do is a break of its
        own: it goes when they agree again."""
        doubts: list[Difference] = []
        heard = await self._heard("headers", doubts, lambda: self._headers(books, view))
        if heard is None or not heard[1]:
            cause = "the node does not have this block: nothing it says about balances can be compared"
            if heard is None:
                return [*self.skipped(books, view, DISAGREE), _nodes(view, doubts)]
            return [heard[0], *self.skipped(books, view, cause), _nodes(view, doubts)]
        code = gas_code(books.watched.operator)
        told = await self._heard(f"nonce of {code}", doubts, lambda: self._nonce(books, view))
        nonce = Check(Level.NONCE, code, view.at, skipped=DISAGREE) if told is None else told.check
        checks = [heard[0], *([] if nonce is None else [nonce])]
        checks += await self._heard(CREDITED_ACCOUNTS, doubts, lambda: self._ask_credited(books, view)) or []
        checks += await self._heard(CLAIMED_ACCOUNTS, doubts, lambda: self._ask_claimed(books, view)) or []
        if books.executions is not None:
            kept = await self._heard(MARKERS, doubts, partial(self._outcomes, books.executions, view))
            checks.append(kept or Check(Level.PAYOUT, MARKERS, view.at, skipped=DISAGREE))
        checks += await self._heard("logs of old blocks", doubts, lambda: self._ask_logs(books, view)) or []
        for mirror in books.watched.mirrors:
            held = await self._heard(
                f"balance of {mirror.code} in {mirror.asset.symbol}",
                doubts,
                partial(books.chain.balance, mirror.address, mirror.asset.id, view.at),
            )
            checks.append(self._judge(view, gas_code(books.watched.operator), mirror, held, nonce))
        return [*checks, _nodes(view, doubts)]

    def _judge(self, view: View, gas: str, mirror: Mirror, held: int | None, nonce: Check | None) -> Check:
        booked = posted(view.balances, mirror.code, mirror.asset.id)
        if nonce is not None:
            unsettled = nonce.skipped is not None and view.spent is not None
        else:
            unsettled = view.spent is not None and any(view.spent.live.values())
        late = view.unbooked or unsettled
        if held is None:
            skipped = DISAGREE
        elif mirror.code == gas and late and held != booked:
            skipped = "gas of included transactions is not booked yet"
        else:
            return judge_balance(view.at, mirror.code, mirror.asset.id, booked, held)
        asset = mirror.asset.id
        return Check(Level.BALANCE, mirror.code, view.at, asset, expected=booked, actual=held, skipped=skipped)

    async def _heard(self, what: str, doubts: list[Difference], ask: Callable[[], Awaitable[T]]) -> T | None:
        """The answer; None, and one more of `doubts`, where nodes contradict each other, asked again too."""
        try:
            return await ask()
        except StateUnavailable:
            raise
        except ChainDisagrees:
            pass
        try:
            return await ask()
        except StateUnavailable:
            raise
        except ChainDisagrees as error:
            said = {"said": str(error)}
            doubts.append(Difference(BreakKind.PROVIDER_DISAGREEMENT, f"{what} as nodes tell it", said))
            return None

    async def _ask_logs(self, books: Books, view: View) -> list[Check]:
        """The logs of old blocks as two nodes tell them now, beside those stored: an event that was hidden when
        its block was read, or one that never was."""
        if not view.again or books.history is None:
            return []
        differences: list[Difference] = []
        stored_count = told_count = 0
        for after, last in view.again:
            told = await self._told(books, books.history, after + 1, last)
            stored = await self._stored(books, after + 1, last)
            stored_count, told_count = stored_count + len(stored), told_count + len(told)
            for ref in sorted(ref for ref in told.keys() | stored.keys() if told.get(ref) != stored.get(ref)):
                log = told.get(ref) or stored[ref]
                kind = BreakKind.PROVIDER_DISAGREEMENT if ref in stored else BreakKind.MISSING_IN_LEDGER
                evidence: Evidence = {
                    "transaction": format_tx(log.tx_hash),
                    "block": log.block.number,
                    "node": "has it" if ref in told else "has it not",
                }
                # What is missed no run can book: it is below everything that was read. A person adjusts the books.
                block, subject = log.block.number, f"log {ref} of nodes"
                differences.append(Difference(kind, subject, evidence, lasting=True, block=block))
        return [
            Check(
                Level.COMPLETENESS,
                "logs of nodes",
                view.at,
                expected=stored_count,
                actual=told_count,
                differences=bounded(differences),
            )
        ]

    async def _told(self, books: Books, history: History, first: int, last: int) -> dict[str, Log]:
        found: dict[str, Log] = {}
        async with aclosing(history.ranges(first, last, self._readers[books.chain.name].filters)) as ranges:
            async for added in ranges:
                times = [0] * added.logs.count  # which no log has of itself
                found |= {log_ref(log): log for log in unpack_logs(books.chain.name, TimedLogs(added.logs, times))}
        return found

    async def _stored(self, books: Books, first: int, last: int) -> dict[str, Log]:
        found: dict[str, Log] = {}
        position, coverage = first, self._readers[books.chain.name].coverage
        while position <= last:
            async with self._database.snapshot() as tx:
                logs = await tx.bookings.logs(books.chain.name, position, last, coverage, self._logs_at_once)
            found |= {log_ref(log): replace(log, timestamp=0) for log in logs}
            position = logs[-1].block.number + 1 if len(logs) >= self._logs_at_once else last + 1
        return found

    async def _ask_credited(self, books: Books, view: View) -> list[Check]:
        """What the distributor says that it owes single accounts, of those that were chosen."""
        differences = []
        for (code, asset), owed in sorted(view.credited.items()):
            token = next((each.address for each in books.watched.tokens if each.id == asset), None)
            if token is None:
                continue  # of a token that is not configured any more, nobody asks
            account = parse_address(code.rpartition(":")[2])
            answer = await books.chain.read_call(books.watched.distributor, OWED, [token, account], view.at)
            told = 0 if answer is None else answer[0]
            if told != owed:
                evidence = {
                    "books": str(owed),
                    "chain": str(told),
                    "block_hash": format_hash(hash_of(view.at.hash, asset)),
                }
                differences.append(Difference(BreakKind.UNEXPLAINED_BALANCE, code, evidence, asset, told - owed))
        if not view.credited:
            return []
        asked = len(view.credited)
        return [
            Check(
                Level.PAYOUT,
                CREDITED_ACCOUNTS,
                view.at,
                expected=asked,
                actual=asked - len(differences),
                differences=bounded(differences),
            )
        ]

    async def _ask_claimed(self, books: Books, view: View) -> list[Check]:
        """What the contract says that single accounts have claimed, of those that were chosen."""
        tokens = {token.id: token.address for token in books.watched.tokens}
        asked = [
            (key, (token, parse_address(key[0].rpartition(":")[2])))
            for key in sorted(view.claimed)
            if (token := tokens.get(key[1])) is not None  # of a token that is not configured any more, nobody asks
        ]
        if books.claimed is None or not asked:
            return []
        told = await books.claimed.claimed([wanted for _, wanted in asked], view.at)
        odd = [(key, wanted, now) for (key, wanted), now in zip(asked, told, strict=True) if now != view.claimed[key]]
        before = await self._claimed_before(books.claimed, view, [wanted for _, wanted, _ in odd])
        differences = []
        for (key, _, now), then in zip(odd, before, strict=True):
            code, asset = key
            beyond = now - then - view.claimed[key]
            if beyond:
                evidence = {"books": str(view.claimed[key]), "chain": str(now), "before_the_books": str(then)}
                differences.append(Difference(BreakKind.UNEXPLAINED_BALANCE, code, evidence, asset, beyond))
        return [
            Check(
                Level.PAYOUT,
                CLAIMED_ACCOUNTS,
                view.at,
                expected=len(asked),
                actual=len(asked) - len(differences),
                differences=bounded(differences),
            )
        ]

    async def _claimed_before(
        self, claimed: ClaimedAmounts, view: View, wanted: Sequence[tuple[Address, Address]]
    ) -> list[int]:
        """What they had claimed before the books began, which only a contract that is older than those knows: asked
        where it may matter, for it takes a node with that block's state. Where there is none, nothing is assumed."""
        if wanted and view.opening is not None:
            try:
                return await claimed.claimed(wanted, view.opening)
            except StateUnavailable:
                pass
        return [0] * len(wanted)

    async def _headers(self, books: Books, view: View) -> tuple[Check, bool]:
        """Stored headers as a node tells them now; and whether it has the block that all is compared at."""

        def written(hash_: bytes) -> str:
            return format_hash(hash_of(hash_, books.chain.reference))

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
                    "stored": f"{written(hash_)} at {time}",
                    "node": f"{written(told[number].hash)} at {told[number].timestamp}" if number in told else "none",
                },
            )
            for number, (hash_, time) in sorted(stored.items())
            if number not in told or (told[number].hash, told[number].timestamp) != (hash_, time)
        )
        check = Check(
            Level.COMPLETENESS, "headers", view.at, expected=len(stored), actual=len(told), differences=differences
        )
        return check, view.at.number in told and told[view.at.number].hash == view.at.hash

    async def _outcomes(self, executions: Executions, view: View) -> Check:
        """Batches that are over, against what the chain keeps of them beside its events."""
        found = [await executions.executed(id_, index, view.at) for id_, index, _ in view.outcomes]
        differences = tuple(
            Difference(
                BreakKind.MISSING_ON_CHAIN if expected else BreakKind.UNEXPECTED_OUT,
                f"batch {index} of 0x{id_.hex()}",
                {"books": "executed" if expected else "given up", "chain": "executed" if told else "not executed"},
            )
            for (id_, index, expected), told in zip(view.outcomes, found, strict=True)
            if told != expected
        )
        executed = sum(expected for _, _, expected in view.outcomes)
        return Check(Level.PAYOUT, MARKERS, view.at, expected=executed, actual=sum(found), differences=differences)

    async def _nonce(self, books: Books, view: View) -> _Sequence:
        code = gas_code(books.watched.operator)
        sequence = await books.chain.sequence(books.watched.operator, view.at)
        if sequence is None:
            return _Sequence(None)  # what the operator sent and nobody here signed shows in its balance alone
        if view.spent is None:
            skipped = "the operator has not been used yet"
            return _Sequence(Check(Level.NONCE, code, view.at, actual=sequence, skipped=skipped))
        return _Sequence(judge_nonce(view.at, code, sequence, view.spent))

    def skipped(self, books: Books, view: View, cause: str) -> list[Check]:
        nonce = Check(Level.NONCE, gas_code(books.watched.operator), view.at, skipped=cause)
        return [
            nonce,
            *(
                Check(Level.BALANCE, mirror.code, view.at, mirror.asset.id, skipped=cause)
                for mirror in books.watched.mirrors
            ),
        ]


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What came of asking for the operator's nonce: no check where the chain's accounts have none."""

    check: Check | None


def _nodes(view: View, doubts: Sequence[Difference]) -> Check:
    return Check(Level.COMPLETENESS, "nodes", view.at, differences=bounded(doubts))
