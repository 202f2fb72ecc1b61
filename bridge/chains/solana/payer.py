"""The sending side of Solana: transactions of built-in programs, markers instead of nonces, and bytes that expire.

order ─pack─► batches that fit a transaction ─plan─► proposal, batch 0, batch 1, …      nothing of it is signed yet
              (as the chain's proposal has them, where there is one: tables may have grown since, see packing)
preflight     accounts and a simulation, of what is confirmed: who can be paid, and what it costs
sign          a block's hash makes the bytes good for about 150 blocks; saved by the stage before they are sent
broadcast     to every endpoint, the same bytes again and again until they are in a block or have expired
may_replace   other bytes only where the last ones are dead: expired at a final block, known to nobody, marker absent

A transaction that pays creates its marker (see markers), so it lands once however often it is signed. A proposal binds
what is to be paid: a batch is sent only where the finalized chain has its distribution's proposal, with its content.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Collection, Sequence
from typing import Any

from bridge.chains.broadcasts import combine_replies
from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana import rpc as values
from bridge.chains.solana.accounts import SOL, read_account, read_mint
from bridge.chains.solana.blocks import OPTIONS as BLOCK_OPTIONS
from bridge.chains.solana.closed import Closed
from bridge.chains.solana.deeds import Deeds
from bridge.chains.solana.fees import FeeCeilings, offer, read_market
from bridge.chains.solana.logs import EXECUTED, PROPOSED, SKIPPED
from bridge.chains.solana.markers import Deed
from bridge.chains.solana.messages import (
    TRANSACTION_BYTES_MAX,
    Budget,
    Coin,
    Draft,
    Purse,
    is_signed,
    signed_part,
    tx_id_of,
    unsigned,
)
from bridge.chains.solana.packing import capacity, widest
from bridge.chains.solana.payloads import PayBatch, Proposal, alone, derive_id, mint_of, plan_push, read_payload
from bridge.chains.solana.programs import ASSOCIATED_TOKEN, MEMO, NATIVE, TOKEN_PROGRAMS
from bridge.chains.solana.receipts import budget_of, deposits_of
from bridge.chains.solana.replies import read_answer
from bridge.chains.solana.rpc import FINALIZED, SolanaRpc
from bridge.chains.solana.screening import Prepared, Screening
from bridge.chains.solana.tables import Tables
from bridge.chains.solana.transactions import OPTIONS, Transaction, parse_transaction
from bridge.domain.errors import ChainDisagrees, ChainUnavailable, HoldError, RetryableError
from bridge.domain.events import Block, Log
from bridge.domain.payouts import (
    Action,
    ActionKind,
    Attempt,
    Batch,
    Distribution,
    Inclusion,
    InFlight,
    Landed,
    LeftOut,
    Order,
    Payout,
    PlannedCall,
    Purpose,
    Refusal,
    Signed,
    Slot,
    pack_batches,
)
from bridge.domain.states import ActionState
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.paying import Broadcast, Ready, Settlement, Signer

_HEADER = {**BLOCK_OPTIONS, "transactionDetails": "none"}
_STAMPS_MAX = 64


class SolanaPayer:
    """Implements ports.Payer. There is no contract: what is paid is transferred by the vault's delegate or owner."""

    claims: Address | None = None

    def __init__(
        self,
        *,
        chain: str,
        reference: str,
        genesis: bytes,
        rpc: SolanaRpc,
        signer: Signer,
        vault: Address,
        ceilings: FeeCeilings,
        create_accounts: bool = False,
        vault_signer: Signer | None = None,
        former_operators: Collection[Address] = (),
        ours: Collection[Address] = (),
        lookup_tables: Sequence[Address] = (),
    ) -> None:
        """`vault_signer`: the vault's own key, without which it can pay no SOL. `former_operators`: accounts whose
        markers count too. `ours`: other accounts that are never recipients. `lookup_tables` make room for more
        recipients in a transaction."""
        assert vault_signer is None or vault_signer.account == vault
        self.account = signer.account
        self._chain = chain
        self._reference = reference
        self._genesis = genesis
        self._rpc = rpc
        self._signers = {signer.account: signer} | ({} if vault_signer is None else {vault: vault_signer})
        self._purse = Purse(signer.account, vault)
        self._ceilings = ceilings
        self._create_accounts = create_accounts
        self._ours = frozenset(ours)
        self._tables = Tables(rpc, lookup_tables)
        operators = [signer.account, *former_operators]
        self._screening = Screening(
            rpc,
            self._purse,
            ceilings,
            create_accounts=create_accounts,
            tables=self._tables,
            closed=Closed(rpc, operators),
        )
        self._deeds = Deeds(rpc, operators)
        self._coins: dict[Address, Coin] = {}
        self._heights: dict[BlockStamp, int] = {}

    # ── plan ──
    def forbidden_recipients(self, asset: AssetId) -> frozenset[Address]:
        mint = mint_of(asset, self._reference)
        programs = [Address(bytes(program)) for program in (*TOKEN_PROGRAMS, ASSOCIATED_TOKEN, MEMO)]
        own = [Coin(mint, program, 0).account_of(self._purse.vault) for program in TOKEN_PROGRAMS]
        # The operator's own SOL pays fees and deposits: nobody could tell a payout among them.
        payer = {self.account} if mint == NATIVE else set()
        return frozenset({*payer, self._purse.vault, mint, *own, *programs, *self._ours})

    async def pack(self, order: Order, recipients_max: int) -> tuple[Batch, ...]:
        """Lost database, and …

        the proposal is final       its batches again: as many recipients as it names, or as fit without tables
        it is in a younger block    RetryableError, until one of the two others is so
        it is nowhere               anything will do: what is planned now is proposed
        """
        mint = mint_of(order.asset, self._reference)
        coin = await self._coin(mint)
        plain = min(recipients_max, capacity(self._purse, coin, create_accounts=self._create_accounts))
        window = (order.window_start, order.window_end)
        distribution_id = derive_id(self._genesis, self._purse.vault, order.rule, window, mint)
        done = await self._deeds.find(distribution_id, None, await self._finalized())
        if done is not None:
            return pack_batches(order.payouts, done.deed.room or plain)
        shelf = await self._tables.shelf(fresh=True)
        if not shelf.tables:
            return pack_batches(order.payouts, plain)
        if await self._deeds.pending(distribution_id, None):
            raise ChainUnavailable(f"{self._chain}: a proposal of this distribution is not final yet")
        recipients = sorted(payout.recipient for payout in order.payouts)
        # In a thread: for many recipients it takes seconds, in which the lease must be renewed.
        room = await asyncio.to_thread(
            widest, self._purse, coin, recipients, shelf, create_accounts=self._create_accounts, most=recipients_max
        )
        return pack_batches(order.payouts, room)

    def plan(self, order: Order, batches: Sequence[Batch]) -> tuple[Distribution, tuple[PlannedCall, ...]]:
        mint = mint_of(order.asset, self._reference)
        room = self._room_of(batches, mint)
        return plan_push(order, batches, genesis=self._genesis, vault=self._purse.vault, mint=mint, room=room)

    def _room_of(self, batches: Sequence[Batch], mint: Address) -> int | None:
        """Recipients a batch, where they are more than fit without tables: only then must the chain remember it. None
        too for batches that `pack` did not make."""
        coin = SOL if mint == NATIVE else self._coins.get(mint)
        count = len(batches[0].payouts)
        if coin is None or count <= capacity(self._purse, coin, create_accounts=self._create_accounts):
            return None
        return count

    def plan_claims(self, order: Order, leaves: Sequence[Payout]) -> tuple[Distribution, tuple[PlannedCall, ...]]:
        raise HoldError(f"{self._chain} has no contract to claim from: remove claims.above")

    # ── simulate ──
    async def preflight(self, action: Action, at: BlockStamp, beside: Sequence[Action] = ()) -> Ready | Refusal:
        await self._height(at)  # the block that the caller means is the one that endpoints have
        if action.kind is ActionKind.EXECUTE:
            refusal = await self._gate(action, at)
            if refusal is not None:
                return refusal
        prepared = await self._prepare(action, Purpose.PAY, at.number, beside)
        return prepared if isinstance(prepared, Refusal) else Ready(prepared.compute_units)

    async def _gate(self, action: Action, at: BlockStamp) -> Refusal | None:
        """No program stands between a batch and its proposal, so this does: the content that the chain binds."""
        try:
            done = await self._deeds.find(action.distribution_id, action.batch_index, at)
            bound = await self.proposed(action, at)
        except ChainDisagrees as error:
            return Refusal(str(error), temporary=True)  # an endpoint without history; others are not held up by it
        if done is not None and done.deed.cancels:
            return Refusal(f"cancelled on chain in {values.text(done.tx_id)}", temporary=False)
        if bound is None:
            return Refusal("the proposal is not on chain in this block", temporary=True)
        if bound != action.content_hash:
            return Refusal("the proposal on chain binds other content", temporary=False)
        return None

    async def _prepare(
        self, action: Action, purpose: Purpose, at: int, beside: Sequence[Action] = ()
    ) -> Prepared | Refusal:
        plan = _plan_of(action)
        if purpose is Purpose.CANCEL or isinstance(plan, Proposal):
            return await self._screening.plain(_deed_of(plan, purpose), at)
        coin = await self._coin(plan.mint)
        for account in self._purse.signers(coin):
            if account not in self._signers:
                return Refusal("only the vault's own key can pay SOL: configure vault_key", temporary=True)
        others = [_plan_of(one) for one in beside]
        rivals = [one for one in others if isinstance(one, PayBatch) and one.mint == plan.mint]
        return await self._screening.batch(plan, coin, at, rivals)

    async def executed(self, action: Action, at: BlockStamp) -> bool:
        await self._height(at)
        done = await self._deeds.find(action.distribution_id, action.batch_index, at)
        return done is not None and not done.deed.cancels

    async def proposed(self, action: Action, at: BlockStamp) -> bytes | None:
        await self._height(at)
        done = await self._deeds.find(action.distribution_id, None, at)
        return None if done is None else done.deed.content_hash

    async def proposed_otherwise(self, proposal: Action, at: BlockStamp) -> bool:
        return False  # there is no other leg

    # ── sign and send ──
    async def sign(
        self, action: Action, slot: Slot, previous: Attempt | None, purpose: Purpose = Purpose.PAY
    ) -> Signed | Refusal:
        if previous is not None:
            refusal = await self._may_land(action, [previous])
            if refusal is not None:
                return refusal  # the stage has asked already; where it is about money, twice
        prepared = await self._prepare(action, purpose, 0)
        if isinstance(prepared, Refusal):
            return prepared
        market = await read_market(self._rpc, prepared.draft.written)
        price = offer(market, self._ceilings, None if previous is None else previous.signed)
        budget = Budget(max(prepared.compute_units, slot.gas_limit), price)
        blockhash, valid_through = await self._recent()
        raw = await self._signed(prepared.draft, blockhash, budget)
        return Signed(tx_id_of(raw), raw, budget.compute_units, price, price, purpose, valid_through)

    async def _signed(self, drafted: Draft, blockhash: bytes, budget: Budget) -> bytes:
        message = drafted.message(blockhash, budget)
        raw = wanted = unsigned(message)
        for account in (Address(bytes(key)) for key in message.account_keys[: message.header.num_required_signatures]):
            _, raw = await self._signers[account].sign({"raw": raw})
        assert signed_part(raw) == signed_part(wanted), "a signer changed what it signed"
        assert is_signed(raw), "a signer's signature is false"
        assert len(raw) <= TRANSACTION_BYTES_MAX, "a transaction that no node takes"
        return raw

    async def _recent(self) -> tuple[bytes, int]:
        """(a confirmed block's hash, the height of the last block that takes it). One endpoint's word: a hash that is
        none never lands, and where it expires later than it says, the marker stands in the way of a second one."""
        answer = await self._rpc.call("getLatestBlockhash", [{"commitment": "confirmed"}])
        _, value = values.in_context(answer)
        fields = values.mapping(value)
        return values.address(fields.get("blockhash")), values.number(fields.get("lastValidBlockHeight"))

    def due(self, in_flight: Sequence[InFlight], head: Block) -> frozenset[int]:
        """All that wait and could have expired: a height is never over its slot."""
        return frozenset(
            flight.action.action_id
            for flight in in_flight
            if flight.attempts and flight.action.state in (ActionState.SIGNED, ActionState.BROADCAST)
            if head.number > max(attempt.signed.valid_through or 0 for attempt in flight.attempts)
        )

    async def may_replace(self, flight: InFlight, finalized: BlockStamp) -> Refusal | None:
        try:
            height = await self._height(finalized)
        except RetryableError as error:
            return Refusal(f"cannot tell whether the last attempt has expired: {error}", temporary=True)
        return await self._may_land(flight.action, flight.attempts, height, finalized)

    async def _may_land(
        self,
        action: Action,
        attempts: Sequence[Attempt],
        height: int | None = None,
        finalized: BlockStamp | None = None,
    ) -> Refusal | None:
        """Why one of `attempts` may still land, or has; or why none that is signed could.

        height ≤ valid_through          it may land yet
        an endpoint knows a status      it has landed, or will tell how it failed
        an endpoint does not answer     it may be the one that knows
        the marker exists               somebody has done it
        """
        if finalized is None:
            finalized = await self._finalized()
        height = await self._height(finalized) if height is None else height
        last = max((attempt.signed.valid_through or 0 for attempt in attempts), default=0)
        if height <= last:
            return Refusal(f"the last attempt can land until block height {last}; final is {height}", temporary=True)
        if attempts and not await self._unknown([attempt.signed.tx_id for attempt in attempts]):
            return Refusal("an attempt has expired, but not every endpoint says that it never landed", temporary=True)
        index = action.batch_index if action.kind is ActionKind.EXECUTE else None
        try:
            done = await self._deeds.find(action.distribution_id, index, finalized)
        except RetryableError as error:
            return Refusal(f"cannot tell whether it was executed: {error}", temporary=True)
        if done is None:
            return None
        if done.deed.cancels:
            return Refusal(f"cancelled by another transaction: {values.text(done.tx_id)}", temporary=False)
        return Refusal(f"executed by another transaction: {values.text(done.tx_id)}", temporary=True)

    async def broadcast(self, raw: bytes) -> Broadcast:
        tx_id = tx_id_of(raw)
        config = {"encoding": "base64", "skipPreflight": True, "maxRetries": 0}
        answers = await self._rpc.call_on_each("sendTransaction", [base64.b64encode(raw).decode(), config])
        return combine_replies([read_answer(answer, tx_id) for answer in answers])

    # ── look up ──
    async def inclusions(self, tx_id: bytes) -> tuple[Inclusion, ...]:
        """Of finalized blocks only: the bridge follows no others, so no other inclusion could count."""
        words = await self._rpc.each(lambda endpoint: self._included(endpoint, tx_id))
        found = {inclusion.block: inclusion for inclusion, _ in words if inclusion is not None}
        errors = [error for _, error in words if error is not None]
        unreadable = next((error for error in errors if isinstance(error, ChainDisagrees)), None)
        if unreadable is not None and not found:
            raise unreadable
        if len(errors) == len(words):
            raise ChainUnavailable(f"no endpoint of {self._chain} answers for transactions: {errors[0]}")
        return tuple(found.values())

    async def settled(self, tx_id: bytes) -> Inclusion | None:
        return await self._rpc.agreed_by(lambda endpoint: self._included(endpoint, tx_id), "getTransaction")

    async def disowned(self, tx_ids: Sequence[bytes], at: BlockStamp) -> bool:
        headers = await self._rpc.each(lambda endpoint: self._header(endpoint, at.number))
        if any(header is None or header[0] != at.hash for header, _ in headers):
            return False  # an endpoint that lags or fails cannot deny anything
        return await self._unknown(tx_ids)

    async def _unknown(self, tx_ids: Sequence[bytes]) -> bool:
        """True only where every endpoint answers, and none knows any of them, in whatever state."""
        keys = [values.text(tx_id) for tx_id in tx_ids]
        answers = await self._rpc.call_on_each("getSignatureStatuses", [keys, {"searchTransactionHistory": True}])
        for answer in answers:
            if answer.error is not None:
                return False
            try:
                _, statuses = values.in_context(answer.result)
            except ChainDisagrees:
                return False
            if statuses != [None] * len(keys):
                return False
        return True

    async def landed(self, tx_id: bytes) -> Landed | None:
        async def ask(endpoint: Endpoint) -> tuple[Transaction, Inclusion] | None:
            return await self._found(endpoint, tx_id)

        found = await self._rpc.agreed_by(ask, "getTransaction")
        if found is None:
            return None
        transaction, inclusion = found
        budget = budget_of(transaction)
        signed = Signed(tx_id, b"", budget.compute_units, budget.unit_price, budget.unit_price)
        return Landed(transaction.keys[0], None, signed, inclusion)

    def settlement(self, action: Action, logs: Sequence[Log]) -> Settlement:
        own = [log for log in logs if log.address == action.target and log.topics[1:2] == (action.distribution_id,)]
        if action.kind is ActionKind.PROPOSE:
            bound = [log.data for log in own if log.topics[0] == PROPOSED]
            return Settlement(action.content_hash in bound, frozenset())
        index = action.batch_index.to_bytes(32)
        executed = any(log.topics[0] == EXECUTED and log.topics[2] == index for log in own)
        skipped = {log.topics[3] for log in own if log.topics[0] == SKIPPED and log.data == index}
        plan = _plan_of(action)
        assert isinstance(plan, PayBatch)
        left_out = tuple(
            _left_out(action, plan, position)
            for position, payout in enumerate(plan.payouts)
            if payout.recipient in skipped
        )
        return Settlement(executed, frozenset(), left_out if executed else ())

    # ── the node ──
    async def _included(self, endpoint: Endpoint, tx_id: bytes) -> Inclusion | None:
        found = await self._found(endpoint, tx_id)
        return None if found is None else found[1]

    async def _found(self, endpoint: Endpoint, tx_id: bytes) -> tuple[Transaction, Inclusion] | None:
        answer = await self._rpc.call_on(endpoint, "getTransaction", [values.text(tx_id), OPTIONS])
        if answer is None:
            return None
        transaction = parse_transaction(answer, tx_id)
        units = values.number(values.mapping(answer["meta"]).get("computeUnitsConsumed") or 0)
        block_hash, _ = await self._header(endpoint, transaction.slot)
        inclusion = Inclusion(
            BlockStamp(self._chain, transaction.slot, block_hash),
            transaction.succeeded,
            units,
            transaction.fee,
            deposits=deposits_of(transaction),
        )
        return transaction, inclusion

    async def _header(self, endpoint: Endpoint, slot: int) -> tuple[bytes, int]:
        """(hash, height) of the final block in `slot`."""
        answer = await self._rpc.call_on(endpoint, "getBlock", [slot, _HEADER])
        if answer is None:
            raise ChainUnavailable(f"{endpoint.name} does not give block {slot} yet")
        answer = values.mapping(answer)
        return values.address(answer.get("blockhash")), values.number(answer.get("blockHeight"))

    async def _height(self, at: BlockStamp) -> int:
        """The height of final block `at`. Raises ChainDisagrees where endpoints have another block there."""
        known = self._heights.get(at)
        if known is not None:
            return known
        block_hash, height = await self._rpc.agreed_by(lambda endpoint: self._header(endpoint, at.number), "getBlock")
        if block_hash != at.hash:
            raise ChainDisagrees(f"endpoints have another block than {at}")
        if len(self._heights) >= _STAMPS_MAX:
            self._heights.clear()
        self._heights[at] = height
        return height

    async def _finalized(self) -> BlockStamp:
        async def slot_of(endpoint: Endpoint) -> int:
            return values.number(await self._rpc.call_on(endpoint, "getSlot", [FINALIZED]))

        slot = await self._rpc.reached_by_two(slot_of)
        assert slot is not None
        block_hash, height = await self._rpc.agreed_by(lambda endpoint: self._header(endpoint, slot), "getBlock")
        stamp = BlockStamp(self._chain, slot, block_hash)
        self._heights[stamp] = height
        return stamp

    async def _coin(self, mint: Address) -> Coin:
        """What never changes of a mint, and batches are packed by. Raises ChainDisagrees where it is none."""
        if mint == NATIVE:
            return SOL
        coin = self._coins.get(mint)
        if coin is None:

            def read(answer: Any) -> Coin:
                return read_mint(mint, read_account(values.in_context(answer)[1])).coin

            config = {"encoding": "base64", **FINALIZED}
            coin = self._coins[mint] = await self._rpc.agreed("getAccountInfo", [values.text(mint), config], read)
        return coin


def _plan_of(action: Action) -> Proposal | PayBatch:
    """Raises HoldError for a payload that no plan of this adapter made."""
    try:
        return read_payload(action.payload)
    except ValueError as error:
        raise HoldError(f"the payload of action {action.action_id} is damaged: {error}") from None


def _deed_of(plan: Proposal | PayBatch, purpose: Purpose) -> Deed:
    if isinstance(plan, Proposal):
        deed = Deed(plan.distribution_id, None, plan.content_hash, room=plan.room)
    else:
        deed = Deed(plan.distribution_id, plan.index)
    return deed.cancelled if purpose is Purpose.CANCEL else deed


def _left_out(action: Action, plan: PayBatch, position: int) -> LeftOut:
    single = alone(plan, position)
    call = PlannedCall(single.index + 1, ActionKind.EXECUTE, action.target, single.encode())
    return LeftOut(plan.payouts[position].recipient, call)
