"""One endpoint's own account of what happened to what is watched, checked against itself.

    survey ─► it has the block that is final ─► what the token accounts hold ─► signatures of every account
    read ───► transactions and blocks of one range ─► logs
                 ├─ a listed transaction is not there, or history begins too late ─► ChainUnavailable: a gap
                 └─ what an account holds before is not what it held after the one before, or the last one does not
                    leave what the account holds ─► ChainDisagrees: something between is missing

Two witnesses must say the same before anything is handed on. Each of the checks above also catches a node that has
forgotten something where it is the only one.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from bridge.chains.jsonrpc import Endpoint, Throttled
from bridge.chains.solana import rpc
from bridge.chains.solana.accounts import read_account, read_holding
from bridge.chains.solana.blocks import Contents, read_contents, read_header
from bridge.chains.solana.logs import Watch, derive, pick
from bridge.chains.solana.rpc import FINALIZED, RpcRefused, SolanaRpc
from bridge.chains.solana.signatures import Hit, Listing, list_hits
from bridge.chains.solana.transactions import OPTIONS, Transaction, parse_transaction
from bridge.domain.errors import ChainDisagrees, ChainUnavailable
from bridge.domain.events import Block, Log, LogColumns, pack_logs
from bridge.domain.units import Address, BlockStamp
from bridge.ports.reading import LogFilter

ACCOUNTS_AT_ONCE = 100  # that getMultipleAccounts takes
CALLS_AT_ONCE = 16
CALLS_IN_ONE = 32
TRIES_MAX = 6
PAUSE_FIRST_MS = 200  # doubles with each try
_T = TypeVar("_T")


class Contradiction(ChainDisagrees):
    """The endpoint has another block where we have a final one."""


@dataclass(frozen=True, slots=True)
class Span:
    """Slots first … blocks[-1].number: the blocks that carry logs, and the last one."""

    first: int
    blocks: tuple[Block, ...]
    logs: LogColumns
    held: Mapping[Address, int] = field(compare=False)  # by token account that was seen: atoms at the end


@dataclass(frozen=True, slots=True)
class _Survey:
    """What one endpoint lists of slots after + 1 … head, and somewhat beyond."""

    after: int
    head: Block  # as the endpoint has it: the last one that is looked at
    listings: Mapping[Address, Listing]
    context: int  # a slot at or after `head`, as far as listings reach
    held: Mapping[Address, int]  # by token account: atoms at some slot from `head` to `context`

    @property
    def complete_through(self) -> int:
        return min([self.head.number, *(listing.complete_through for listing in self.listings.values())])

    def covers(self, first: int, stop: int) -> bool:
        return self.after < first and stop <= self.complete_through

    def hits(self, first: int, stop: int, most: int | None = None) -> dict[Address, Sequence[Hit]]:
        """Of each account the first `most` in slots first … stop, oldest first."""
        found: dict[Address, Sequence[Hit]] = {}
        for account, listing in self.listings.items():
            start = bisect_left(listing.hits, first, key=_slot)
            end = bisect_right(listing.hits, stop, lo=start, key=_slot)
            found[account] = listing.hits[start : end if most is None else min(end, start + most)]
        return found


def _slot(hit: Hit) -> int:
    return hit.slot


class Witness:
    """Stands for one endpoint through one walk. Remembers the newest signature of each account, to page no further."""

    def __init__(
        self, chain: str, on: SolanaRpc, endpoint: Endpoint, watch: Watch, filters: Sequence[LogFilter]
    ) -> None:
        self.endpoint = endpoint
        self._chain = chain
        self._rpc = on
        self._watch = watch
        self._filters = tuple(filters)
        self._survey: _Survey | None = None
        self._newest: dict[Address, Hit] = {}
        self._turns = asyncio.Semaphore(CALLS_AT_ONCE)
        self._takes_many = True  # calls in one request, as far as is known

    # ── What there is ────────────────────────────────────────────────────────────────────────────────────────────
    async def cut(self, first: int, last: Block | None, head: int, transactions_max: int) -> int:
        """The last slot of a range from `first`, at most `head`, with about so many transactions. Raises as `read`."""
        survey = self._survey
        if survey is None or survey.head.number != head or not survey.covers(first, first):
            survey = await self._look(first, last, head)
        end = survey.complete_through
        found = survey.hits(first, end, transactions_max).values()
        slots = [slot for slot, _ in sorted({(hit.slot, hit.signature) for hits in found for hit in hits})]
        if len(slots) >= transactions_max:
            return slots[transactions_max - 1]
        return head if end == head or not slots else slots[-1]

    async def _look(self, first: int, last: Block | None, head: int) -> _Survey:
        """List what there is in slots first … head, of which `head` has a block."""
        # That it has these blocks also says that it has written down everything up to there.
        newest = await read_header(self.ask, head)
        if last is not None:
            await self._confirm(last)
        context, held = await self._state(head)
        addresses = self._watch.addresses
        listings = await together(self._list(account, first - 1, context) for account in addresses)
        oldest = rpc.number(await self.ask("getFirstAvailableBlock", []))
        if oldest > first:  # asked last: history is cut off while it is read
            raise ChainUnavailable(
                f"{self.endpoint.name} has a gap: its history begins with block {oldest}, wanted from {first}"
            )
        self._survey = _Survey(first - 1, newest, dict(zip(addresses, listings, strict=True)), context, held)
        return self._survey

    async def _confirm(self, last: Block) -> None:
        told = await read_header(self.ask, last.number)
        if told != last:
            raise Contradiction(f"{self.endpoint.name} has another block {last.number} than the one that was final")

    async def _state(self, head: int) -> tuple[int, dict[Address, int]]:
        """(a slot from `head` on, atoms by token account somewhere between the two); what is not there holds nothing.

        Nothing is said of accounts where the state is newer than what the endpoint has written down of transactions.
        """
        accounts = sorted(self._watch.accounts)
        held: dict[Address, int] = {}
        context = head
        for start in range(0, len(accounts), ACCOUNTS_AT_ONCE):
            some = accounts[start : start + ACCOUNTS_AT_ONCE]
            options = {**FINALIZED, "encoding": "base64", "minContextSlot": head}
            slot, values = rpc.in_context(await self.ask("getMultipleAccounts", [[*map(rpc.text, some)], options]))
            if slot < head or not isinstance(values, list) or len(values) != len(some):
                raise ChainDisagrees(f"{self.endpoint.name} answered for other accounts, or of an older state")
            context = max(context, slot)
            for account, value in zip(some, values, strict=True):
                there = read_account(value)
                holding = None if there is None else read_holding(there)
                held[account] = 0 if holding is None else holding.amount
        if context > head:
            try:
                await read_header(self.ask, context)
            except (ChainUnavailable, RpcRefused):
                return head, {}
        return context, held

    async def _list(self, account: Address, after: int, through: int) -> Listing:
        newest = self._newest.get(account)
        until = newest.signature if newest is not None and newest.slot <= after else None
        return await list_hits(self.ask, account, after=after, through=through, until=until)

    # ── What it was ──────────────────────────────────────────────────────────────────────────────────────────────
    async def read(self, first: int, last: Block | None, stop: int, head: int, known: Mapping[Address, int]) -> Span:
        """The logs of slots first … stop.

        `last`: the final block before, where it is known. `head`: a block that is final, for what is listed at once.
        `known`: what token accounts held before `first`, as far as it is known.

        Raises ChainUnavailable, RpcRefused, Contradiction, ChainDisagrees.
        """
        survey = self._survey
        if survey is None or not survey.covers(first, stop):
            survey = await self._look(first, last, head)
            if not survey.covers(first, stop):
                raise ChainDisagrees(f"{self.endpoint.name} lists more transactions up to block {stop} than others")
        hits = survey.hits(first, stop)
        transactions, contents = await self._fetch(hits)
        held = self._linked(transactions, known, survey, stop)
        end = survey.head if stop == survey.head.number else await read_header(self.ask, stop)
        logs = self._logs(transactions, contents)
        carrying = {log.block.number: contents[log.block.number].block for log in logs}
        blocks = tuple(carrying[slot] for slot in sorted(carrying))
        if not blocks or blocks[-1].number != stop:
            blocks = (*blocks, end)
        if last is not None and blocks[0].number == last.number + 1 and blocks[0].parent_hash != last.hash:
            raise Contradiction(f"{self.endpoint.name} has a block {blocks[0].number} that does not follow ours")
        self._remember(hits)
        return Span(first, blocks, pack_logs(logs), held)

    async def _fetch(self, hits: Mapping[Address, Sequence[Hit]]) -> tuple[list[Transaction], dict[int, Contents]]:
        """The transactions behind hits in the order of the chain, and the blocks that they are in."""
        wanted: dict[bytes, tuple[Hit, set[Address]]] = {}
        for account, listed in hits.items():
            for hit in listed:
                # A failed one took its fee, and nothing else: from an account that signs, never from a token account.
                if not hit.failed or (self._watch.native and account in self._watch.owners):
                    wanted.setdefault(hit.signature, (hit, set()))[1].add(account)
        by_slot: defaultdict[int, list[bytes]] = defaultdict(list)
        for signature, (hit, _) in wanted.items():
            by_slot[hit.slot].append(signature)
        blocks = await together(read_contents(self.ask, slot, inside) for slot, inside in by_slot.items())
        answers = await self._ask_each("getTransaction", [[rpc.text(signature), OPTIONS] for signature in wanted])
        found = [
            self._transaction(answer, hit, accounts)
            for answer, (hit, accounts) in zip(answers, wanted.values(), strict=True)
        ]
        contents = dict(zip(by_slot, blocks, strict=True))
        return sorted(found, key=lambda each: (each.slot, contents[each.slot].places[each.signature])), contents

    def _transaction(self, answer: Any, hit: Hit, accounts: Iterable[Address]) -> Transaction:
        name = f"transaction {rpc.text(hit.signature)} of slot {hit.slot}"
        if answer is None:
            raise ChainUnavailable(f"{self.endpoint.name} has a gap: it lists {name}, and does not have it")
        found = parse_transaction(answer, hit.signature)
        if found.slot != hit.slot or found.succeeded == hit.failed or not found.names.issuperset(accounts):
            raise ChainDisagrees(f"{self.endpoint.name} lists {name} otherwise than it gives it")
        return found

    def _linked(
        self, transactions: Sequence[Transaction], known: Mapping[Address, int], survey: _Survey, stop: int
    ) -> dict[Address, int]:
        """What token accounts hold at the end, once what each transaction found is what the one before left."""
        held = dict(known)
        for transaction in transactions:
            for holding in transaction.holdings:
                account = holding.account
                if account in self._watch.accounts:
                    if held.get(account, holding.before) != holding.before:
                        raise self._missing(account, f"transaction {rpc.text(transaction.signature)}")
                    held[account] = holding.after
        if stop == survey.head.number:
            for account, amount in survey.held.items():
                # Only if nothing happened to it since: the state may be some slots younger.
                hits = survey.listings[account].hits
                is_same = not hits or hits[-1].slot <= stop
                if is_same and held.setdefault(account, amount) != amount:
                    raise self._missing(account, f"the end of slot {stop}")
        return held

    def _missing(self, account: Address, where: str) -> ChainDisagrees:
        return ChainDisagrees(
            f"{self.endpoint.name} has a gap: {rpc.text(account)} holds something else before {where} than after what "
            "it lists before"
        )

    def _logs(self, transactions: Sequence[Transaction], contents: Mapping[int, Contents]) -> list[Log]:
        logs: list[Log] = []
        for transaction in transactions:
            inside = contents[transaction.slot]
            at = BlockStamp(self._chain, transaction.slot, inside.block.hash)
            place = inside.places[transaction.signature]
            drafts = derive(transaction, self._watch)
            logs += pick(drafts, self._filters, at, inside.block.timestamp, (transaction.signature, place))
        return logs

    def _remember(self, hits: Mapping[Address, Sequence[Hit]]) -> None:
        for account, listed in hits.items():
            if listed:
                self._newest[account] = listed[-1]

    # ── Asking ───────────────────────────────────────────────────────────────────────────────────────────────────
    async def ask(self, method: str, params: list[Any]) -> Any:
        """One call; again, after a pause, while the endpoint is busy: a range may be more than it serves at once."""
        return await self._patiently(lambda: self._rpc.call_on(self.endpoint, method, params))

    async def _ask_each(self, method: str, each: Sequence[list[Any]]) -> list[Any]:
        """The same call with different parameters, many in one request where the endpoint takes such."""
        starts = range(0, len(each), CALLS_IN_ONE)
        parts = await together(self._ask_some(method, each[start : start + CALLS_IN_ONE]) for start in starts)
        return [answer for part in parts for answer in part]

    async def _ask_some(self, method: str, some: Sequence[list[Any]]) -> list[Any]:
        if self._takes_many and len(some) > 1:
            calls = [(method, params) for params in some]
            try:
                return await self._patiently(lambda: self._rpc.batch_on(self.endpoint, calls))
            except Throttled:
                raise
            except (ChainUnavailable, RpcRefused):
                self._takes_many = False  # for this walk; what else may be wrong will show
        return await together(self.ask(method, params) for params in some)

    async def _patiently(self, call: Callable[[], Awaitable[_T]]) -> _T:
        for attempt in range(TRIES_MAX):
            async with self._turns:
                try:
                    return await call()
                except RpcRefused as refused:
                    if not refused.busy or attempt == TRIES_MAX - 1:
                        raise
                except Throttled:
                    if attempt == TRIES_MAX - 1:
                        raise
                await asyncio.sleep(PAUSE_FIRST_MS / 1000 * 2**attempt)
        raise AssertionError("the last try returns or raises")


async def together(calls: Iterable[Coroutine[Any, Any, _T]]) -> list[_T]:
    """The results of all, in order; with the first error the others end too."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
