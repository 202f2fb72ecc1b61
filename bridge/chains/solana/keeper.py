"""Making, filling and giving up lookup tables: for a person, with a key that does nothing else.

list     configured tables, and those that the key has made ─► what they have, what they cost, whom they cover
extend   what recipients need and no table has ─► room in tables of the key, then new tables ─► final, read again
retire   deactivate ─► some 500 blocks later, close: all of the rent comes back

The chain is the journal. Each round begins with what is final, so a run that died is run again. A table that no file
names yet is found by the memo of the transaction that made it, which the key has signed; what is in it, by reading it.
Only bytes that were sent in the last minute of a run that died could still land: then a table has some entries twice.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import solders.system_program as system
from solders.compute_budget import set_compute_unit_price
from solders.hash import Hash
from solders.instruction import Instruction
from solders.message import MessageV0
from solders.pubkey import Pubkey

from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana import rpc as values
from bridge.chains.solana.accounts import ACCOUNTS_MAX, SOL, read_accounts, read_mint
from bridge.chains.solana.blocks import final_slot, read_at_or_before
from bridge.chains.solana.fees import FeeCeilings, offer, read_market
from bridge.chains.solana.lookups import ENTRIES_MAX, KEY_BYTES, Shelf, Table
from bridge.chains.solana.messages import TRANSACTION_BYTES_MAX, Coin, tx_id_of, unsigned
from bridge.chains.solana.programs import MEMO, NATIVE
from bridge.chains.solana.replies import read_answer
from bridge.chains.solana.rpc import FINALIZED, RpcRefused, SolanaRpc
from bridge.chains.solana.signatures import newest_hits
from bridge.chains.solana.tables import META_BYTES, read_tables
from bridge.chains.solana.witness import together
from bridge.domain.errors import ChainUnavailable, RefusedError, RetryableError
from bridge.domain.units import Address, format_address
from bridge.ports.paying import BroadcastOutcome, Signer

ENTRIES_AT_ONCE = 24
"""Of one transaction, so that it also has room for making the table and for its memo."""

ROUNDS_MAX = 6  # of reading what is final and sending what is missing
SENT_AT_ONCE = 8
PAGES_MAX = 20
COOLING_BLOCKS = 513
"""After the block that deactivated a table, until it can be closed."""

_MADE = re.compile(r"bridge:1:table:([1-9A-HJ-NP-Za-km-z]{32,44})")
_CONFIRMED: Mapping[str, Any] = {"commitment": "confirmed"}
_TAKEN = (BroadcastOutcome.ACCEPTED, BroadcastOutcome.KNOWN)
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Listed:
    """A table as a person sees it. `problem`: why no payout uses it."""

    address: Address
    configured: bool
    entries: int
    room: int  # for further entries
    deposit: int  # lamports
    authority: Address | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Covered:
    """Of the recipients of one mint: those whose every account is in a table that payouts use."""

    mint: Address
    recipients: int
    covered: int


class Keeper:
    """Whoever made `rpc` closes it."""

    def __init__(
        self,
        rpc: SolanaRpc,
        configured: Sequence[Address],
        vault: Address,
        mints: Sequence[Address],
        ceilings: FeeCeilings,
        *,
        poll_interval_ms: int = 1000,
    ) -> None:
        """`mints`: what is paid out of `vault`."""
        self._rpc = rpc
        self._configured = tuple(configured)
        self._vault = vault
        self._mints = tuple(mints)
        self._ceilings = ceilings
        self._poll_interval_ms = poll_interval_ms
        self._coins: dict[Address, Coin] = {NATIVE: SOL}

    # ── list ──
    async def tables(self, authority: Address | None = None) -> list[Listed]:
        """The configured ones, then what `authority` has made beside them and not closed."""
        return [_listed(address, table, self._configured) for address, table in (await self._read(authority)).items()]

    async def covered(self, recipients: Mapping[Address, Sequence[Address]]) -> list[Covered]:
        """By mint, in the tables that are configured."""
        shelf = Shelf(_usable(await self._read(None)))
        found = []
        for mint, people in recipients.items():
            coin = await self._coin(mint)
            covered = sum(all(one in shelf for one in _needs(coin, person)) for person in people)
            found.append(Covered(mint, len(people), covered))
        return found

    # ── extend ──
    async def extend(
        self, signer: Signer, recipients: Mapping[Address, Sequence[Address]], tell: Tell
    ) -> tuple[Address, ...]:
        """See to it that tables have what payouts of each mint to these recipients name; the tables, as they are to be
        configured. Raises RefusedError where the key has too little, RetryableError where what is sent does not land
        in any of some rounds: it is run again then."""
        groups = await self._groups(recipients, tell)
        why: str | None = None
        for _ in range(ROUNDS_MAX):
            tables = _usable(await self._read(signer.account))
            work = _place(groups, tables, signer.account)
            if not work:
                return tuple(table.address for table in tables)
            await self._check_money(signer.account, work)
            why = await self._carry_out(signer, work, tell)
        raise RetryableError(f"{why or 'nodes do not show what was sent'}; run it again")

    async def _groups(self, recipients: Mapping[Address, Sequence[Address]], tell: Tell) -> _Groups:
        """What is best found in one table: first what all payouts name, then each recipient with its accounts."""
        common: list[Address] = []
        for mint in self._mints:
            coin = await self._coin(mint)
            common += [] if coin.is_native else [coin.account_of(self._vault), mint]
        by_person: dict[Address, list[Address]] = {}
        for mint, people in recipients.items():
            coin = await self._coin(mint)
            there = await self._there(coin, people)
            if len(there) < len(people):
                missing = len(people) - len(there)
                tell(f"{missing} recipients of {format_address(mint)} have no account for it, and need no entry yet")
            for person in there:
                by_person.setdefault(person, []).extend(_needs(coin, person))
        # Neighbours are paid together, so they stand together: a payout then needs a table or two.
        return _Groups(tuple(common), tuple(tuple(dict.fromkeys(by_person[person])) for person in sorted(by_person)))

    async def _there(self, coin: Coin, people: Sequence[Address]) -> list[Address]:
        """Those who can be paid without an account being made: only these save anything."""
        if coin.is_native:
            return list(people)
        found: list[Address] = []
        for start in range(0, len(people), ACCOUNTS_MAX):
            some = people[start : start + ACCOUNTS_MAX]
            config = {**FINALIZED, "dataSlice": {"offset": 0, "length": 0}}
            accounts = await read_accounts(self._rpc, [coin.account_of(person) for person in some], config)
            found += [
                person
                for person, account in zip(some, accounts, strict=True)
                if account is not None and account.owner == coin.program
            ]
        return found

    async def _check_money(self, account: Address, work: Sequence[_Work]) -> None:
        entries = sum(len(one.entries) for one in work)
        new = sum(one.table is None for one in work)
        empty, entry = [
            values.number(await self._rpc.call("getMinimumBalanceForRentExemption", [size]))
            for size in (META_BYTES, META_BYTES + KEY_BYTES)
        ]
        need = new * empty + entries * (entry - empty) + await self._rent_of_nothing() + entries * 5_000
        _, held = values.in_context(await self._rpc.call("getBalance", [values.text(account), _CONFIRMED]))
        if values.number(held) < need:
            raise RefusedError(
                f"{format_address(account)} has {held} lamports, and needs about {need}: {entries} entries cost a "
                f"deposit of {entry - empty} each, a table {empty}; `retire` gives them back"
            )

    async def _rent_of_nothing(self) -> int:
        return values.number(await self._rpc.call("getMinimumBalanceForRentExemption", [0]))

    async def _carry_out(self, signer: Signer, work: Sequence[_Work], tell: Tell) -> str | None:
        """First every new table with its first entries, then the other entries of all, in any order. What is done is
        final afterwards, and what is not can land no more; why it did not."""
        slots = await self._recent_slots(sum(one.table is None for one in work))
        started: list[tuple[Address, Sequence[Address]]] = []
        making: list[tuple[Address, list[Instruction]]] = []
        for one in work:
            table, rest = one.table, one.entries
            if table is None:
                made, table = _create(signer.account, slots.pop())
                making.append((table, [*made, _extend(signer.account, table, rest[:ENTRIES_AT_ONCE])]))
                rest = rest[ENTRIES_AT_ONCE:]
            tell(f"table {format_address(table)}: {len(one.entries)} entries more")
            started += [(table, rest[at : at + ENTRIES_AT_ONCE]) for at in range(0, len(rest), ENTRIES_AT_ONCE)]
        why = await self._land_all(signer, [steps for _, steps in making])
        if why is None:
            why = await self._land_all(
                signer, [[_extend(signer.account, table, entries)] for table, entries in started]
            )
        await self._wait_final()
        return why

    async def _recent_slots(self, count: int) -> list[int]:
        """Slots with a block, a different one for each new table: its address is derived from it."""

        async def slot_of(endpoint: Endpoint) -> int:
            return await final_slot(self._rpc, endpoint)

        newest = await self._rpc.reached_by_two(slot_of)
        assert newest is not None
        found: list[int] = []
        while len(found) < count:
            block = await read_at_or_before(self._rpc.call, newest)
            found.append(block.number)
            newest = block.number - 1
        return found

    # ── retire ──
    async def retire(self, signer: Signer, tables: Sequence[Address], tell: Tell) -> bool:
        """Deactivate them, or close those that are through with that; whether all are closed. Raises RefusedError for
        one that is configured, or that the key may not close, RetryableError where what was sent did not land."""
        found = dict(zip(tables, await read_tables(self._rpc, tables), strict=True))
        for address, table in found.items():
            if address in self._configured:
                raise RefusedError(
                    f"{format_address(address)} is in lookup_tables: take it out, and restart the daemon"
                )
            if table is not None and table.authority != signer.account:
                raise RefusedError(f"{format_address(address)} is not {format_address(signer.account)}'s to close")
        head = values.number(await self._rpc.call("getSlot", [FINALIZED]))
        steps: list[list[Instruction]] = []
        waiting = False
        for address, table in found.items():
            key, owner = Pubkey(address), Pubkey(signer.account)
            if table is None:
                tell(f"{format_address(address)}: closed")
            elif table.ended_in is None:
                ending = system.DeactivateLookupTableParams(lookup_table_address=key, authority_address=owner)
                steps.append([system.deactivate_lookup_table(ending)])
                waiting = True
                tell(f"{format_address(address)}: deactivated; run it again in five minutes, to close it")
            elif head < table.ended_in + COOLING_BLOCKS:
                waiting = True
                left = table.ended_in + COOLING_BLOCKS - head
                tell(f"{format_address(address)}: deactivated, can be closed in {left} slots or somewhat more")
            else:
                closing = system.CloseLookupTableParams(
                    lookup_table_address=key, authority_address=owner, recipient_address=owner
                )
                steps.append([system.close_lookup_table(closing)])
                tell(f"{format_address(address)}: closed, {table.lamports} lamports come back")
        why = await self._land_all(signer, steps)
        await self._wait_final()
        if why is not None:
            raise RetryableError(f"{why}; run it again")
        return not waiting

    # ── the chain ──
    async def _read(self, authority: Address | None) -> dict[Address, Table | None]:
        made = [] if authority is None else await self._made_by(authority)
        addresses = list(dict.fromkeys([*self._configured, *made]))
        found = dict(zip(addresses, await read_tables(self._rpc, addresses), strict=True))
        return {
            address: table
            for address, table in found.items()
            if address in self._configured or (table is not None and table.authority == authority)
        }

    async def _made_by(self, authority: Address) -> list[Address]:
        """Oldest first. Anybody may write such a memo; whose a table is, it says itself."""
        hits = await newest_hits(self._rpc.call, authority, PAGES_MAX)
        memos = [_MADE.search(hit.memo) for hit in reversed(hits) if not hit.failed]
        return list(dict.fromkeys(values.address(memo[1]) for memo in memos if memo is not None))

    async def _coin(self, mint: Address) -> Coin:
        if mint not in self._coins:
            [account] = await read_accounts(self._rpc, [mint], FINALIZED)
            self._coins[mint] = read_mint(mint, account).coin
        return self._coins[mint]

    async def _land_all(self, signer: Signer, each: Sequence[Sequence[Instruction]]) -> str | None:
        """Why one of them did not land, None where all did."""
        failures: list[str | None] = []
        for start in range(0, len(each), SENT_AT_ONCE):
            failures += await together(self._land(signer, steps) for steps in each[start : start + SENT_AT_ONCE])
        return next((failure for failure in failures if failure is not None), None)

    async def _land(self, signer: Signer, steps: Sequence[Instruction]) -> str | None:
        """Send until it is confirmed, or can be no more: why it is not.

        A node may refuse what another takes: one that lags does not know the blockhash, or the table, yet. Refused by
        all of them at first it was never sent, and is made anew; later it is waited for until it expires.
        """
        price = offer(await read_market(self._rpc, [signer.account]), self._ceilings, None)
        all_steps = [*([set_compute_unit_price(price)] if price else []), *steps]
        _, value = values.in_context(await self._rpc.call("getLatestBlockhash", [_CONFIRMED]))
        fields = values.mapping(value)
        blockhash, last = values.address(fields.get("blockhash")), values.number(fields.get("lastValidBlockHeight"))
        message = MessageV0.try_compile(Pubkey(signer.account), all_steps, [], Hash(blockhash))
        _, raw = await signer.sign({"raw": unsigned(message)})
        assert len(raw) <= TRANSACTION_BYTES_MAX
        tx_id = tx_id_of(raw)
        if (refused := await self._send(raw)) is not None:
            return refused
        while True:
            _, [status] = values.in_context(await self._rpc.call("getSignatureStatuses", [[values.text(tx_id)]]))
            if status is not None and status.get("confirmationStatus") in ("confirmed", "finalized"):
                error = status.get("err")
                return None if error is None else f"transaction {values.text(tx_id)} failed: {error}"
            if values.number(await self._rpc.call("getBlockHeight", [_CONFIRMED])) > last:
                return f"transaction {values.text(tx_id)} is in no block"
            await asyncio.sleep(self._poll_interval_ms / 1000)
            await self._send(raw)

    async def _send(self, raw: bytes) -> str | None:
        """Why all endpoints refuse it after a rehearsal; None where one has it, or may. Raises ChainUnavailable where
        none can be asked."""
        config = {"encoding": "base64", "preflightCommitment": "confirmed"}
        answers = await self._rpc.call_on_each("sendTransaction", [base64.b64encode(raw).decode(), config])
        if any(read_answer(answer, tx_id_of(raw)).outcome in _TAKEN for answer in answers):
            return None
        errors = [answer.error for answer in answers]
        failed = [error for error in errors if isinstance(error, RpcRefused) and error.kind is values.Refusal.FAILED]
        if not failed:
            raise ChainUnavailable(f"no endpoint takes the transaction: {errors[0]}")
        return str(failed[0]) if len(failed) == len(errors) else None

    async def _wait_final(self) -> None:
        """Until what is confirmed now is final on every endpoint that answers."""
        slot = values.number(await self._rpc.call("getSlot", [_CONFIRMED]))

        async def slot_of(endpoint: Endpoint) -> int:
            return await final_slot(self._rpc, endpoint)

        while True:
            if all(found is None or found >= slot for found, _ in await self._rpc.each(slot_of)):
                return
            await asyncio.sleep(self._poll_interval_ms / 1000)


# ── What goes where ─────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class _Groups:
    common: tuple[Address, ...]  # begins every table
    people: tuple[tuple[Address, ...], ...]


@dataclass(frozen=True, slots=True)
class _Work:
    table: Address | None  # None: a new one
    entries: tuple[Address, ...]


def _place(groups: _Groups, tables: Sequence[Table], authority: Address) -> list[_Work]:
    """What is in none of `tables`, where there is room for it: first in those that `authority` may extend."""
    there = {entry for table in tables for entry in table.entries}
    missing = [tuple(entry for entry in group if entry not in there) for group in groups.people]
    if not any(missing):
        return []
    places: list[tuple[Address | None, int, list[Address]]] = [
        (table.address, ENTRIES_MAX - len(table.entries), [])
        for table in tables
        if table.authority == authority and len(table.entries) < ENTRIES_MAX
    ]
    at = 0
    for group in filter(None, missing):
        while at < len(places) and len(places[at][2]) + len(group) > places[at][1]:
            at += 1
        if at == len(places):
            places.append((None, ENTRIES_MAX, [*groups.common]))
        places[at][2].extend(group)
    return [_Work(table, tuple(entries)) for table, _, entries in places if entries]


def _needs(coin: Coin, person: Address) -> tuple[Address, ...]:
    """Its token account, and itself: so it is named where it is left out, or its account is to be made."""
    return tuple(dict.fromkeys((coin.account_of(person), person)))


def _usable(tables: Mapping[Address, Table | None]) -> list[Table]:
    return [table for table in tables.values() if table is not None and table.ended_in is None]


def _listed(address: Address, table: Table | None, configured: Sequence[Address]) -> Listed:
    is_configured = address in configured
    if table is None:
        return Listed(address, is_configured, 0, 0, 0, None, "is not there")
    problem = None if is_configured else "is not in lookup_tables"
    if table.ended_in is not None:
        problem = f"was deactivated in slot {table.ended_in}"
    entries = len(table.entries)
    return Listed(address, is_configured, entries, ENTRIES_MAX - entries, table.lamports, table.authority, problem)


def _create(account: Address, slot: int) -> tuple[list[Instruction], Address]:
    key = Pubkey(account)
    made, table = system.create_lookup_table(
        system.CreateLookupTableParams(authority_address=key, payer_address=key, recent_slot=slot)
    )
    return [made, Instruction(MEMO, f"bridge:1:table:{table}".encode(), [])], Address(bytes(table))


def _extend(account: Address, table: Address, entries: Sequence[Address]) -> Instruction:
    return system.extend_lookup_table(
        system.ExtendLookupTableParams(
            lookup_table_address=Pubkey(table),
            authority_address=Pubkey(account),
            payer_address=Pubkey(account),
            new_addresses=[Pubkey(entry) for entry in entries],
        )
    )
