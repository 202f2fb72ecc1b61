"""The sending side of an EVM chain: call data of our contracts, nonces, fees, and what nodes answer.

order ─plan─► push:  propose(…), executeBatch(0), executeBatch(1), …      Distributor
              claim: proposeRoot(…), activate()                          Claims
preflight     eth_call and eth_estimateGas on top of a named block, from the operator's account
sign          EIP-1559 (legacy where the chain has no base fee), saved by the stage before it is sent
broadcast     to every endpoint; no answer proves that a transaction failed
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from bridge.chains.broadcasts import combine_replies
from bridge.chains.evm.abi import encode_call, selector
from bridge.chains.evm.charges import read_charges
from bridge.chains.evm.claim_plan import plan_tree
from bridge.chains.evm.culprits import Culprits
from bridge.chains.evm.data_fees import DataFees
from bridge.chains.evm.distributions import derive_id, token_of
from bridge.chains.evm.fees import FeeCeilings, estimate_gas, fee_fields, read_market
from bridge.chains.evm.replies import Reverts, read_answer
from bridge.chains.evm.rpc import EvmRpc, RpcRefused
from bridge.chains.evm.wire import call_object, data_of, pinned, quantity, revert_data
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
    Leg,
    Order,
    Payout,
    PlannedCall,
    Purpose,
    Refusal,
    Signed,
    Slot,
    bump_is_due,
    pack_batches,
)
from bridge.domain.units import Address, AssetId, BlockStamp, hexed
from bridge.ports.paying import Broadcast, Ready, Settlement, Signer

GAS_MARGIN_NUMERATOR, GAS_MARGIN_DENOMINATOR = 5, 4
"""Over the estimate: state may have changed when the transaction runs, and what is not used is not paid."""

TRANSACTION_GAS_MAX = 2**24
"""EIP-7825: no transaction may have more."""

CULPRITS_SHOWN = 10

PROPOSE = "propose(bytes32,uint64,uint64,address,uint256,uint32,bytes32[],bytes32,string)"
EXECUTE = "executeBatch(bytes32,uint32,address[],uint256[])"
EXECUTED = "executed(bytes32,uint32)"
PROPOSAL = "proposal(bytes32)"
ROOT_PROPOSAL = ("bytes32", "address", "uint256", "uint256", "bytes32", "uint32", "bool")
"""What `proposal` of Claims returns: content hash, token, total, cumulative total, root, accounts, activated."""

PROPOSED_TOPIC = keccak(b"Proposed(bytes32,bytes32,address,uint64,uint64,uint256,uint32,uint32,bytes32,bytes32,string)")
BATCH_EXECUTED_TOPIC = keccak(b"BatchExecuted(bytes32,uint32,address,uint256,uint256)")
CREDITED_TOPIC = keccak(b"Credited(bytes32,address,address,uint32,uint256)")
ROOT_PROPOSED_TOPIC = keccak(
    b"RootProposed(bytes32,bytes32,address,uint64,uint64,uint256,uint32,uint256,bytes32,bytes32,bytes32,string)"
)
ROOT_ACTIVATED_TOPIC = keccak(b"RootActivated(bytes32,address,bytes32,uint256,uint256,uint64)")


class EvmPayer:
    """Implements ports.Payer."""

    def __init__(
        self,
        *,
        chain: str,
        chain_id: int,
        rpc: EvmRpc,
        signer: Signer,
        vault: Address,
        distributor: Address,
        ceilings: FeeCeilings,
        bump_after_blocks: int = 5,
        claims: Address | None = None,
        claims_uri: str | None = None,
    ) -> None:
        """`claims_uri`: where claimants find the files of a distribution, each under its id; told on chain."""
        self.account = signer.account
        self.claims = claims
        self._chain = chain
        self._chain_id = chain_id
        self._rpc = rpc
        self._signer = signer
        self._vault = vault
        self._distributor = distributor
        self._ceilings = ceilings
        self._bump_after_blocks = bump_after_blocks
        self._claims_uri = claims_uri
        self._data_fees = DataFees(rpc)
        self._reverts = Reverts.of_our_contracts()

    # ── plan ──
    def forbidden_recipients(self, asset: AssetId) -> frozenset[Address]:
        ours = {self._vault, self._distributor} | ({self.claims} if self.claims is not None else set())
        return frozenset({*ours, token_of(asset)})

    async def pack(self, order: Order, recipients_max: int) -> tuple[Batch, ...]:
        return pack_batches(order.payouts, recipients_max)

    def plan(self, order: Order, batches: Sequence[Batch]) -> tuple[Distribution, tuple[PlannedCall, ...]]:
        token, rule_id = token_of(order.asset), keccak(order.rule.encode())
        window = (order.window_start, order.window_end)
        distribution_id = derive_id(self._chain_id, self._distributor, rule_id, window, token)
        payloads = [_batch_arguments(distribution_id, batch) for batch in batches]
        hashes = [keccak(payload) for payload in payloads]
        recipients = sum(len(batch.payouts) for batch in batches)
        content_hash = keccak(
            encode(["uint256", "uint32", "bytes32[]", "bytes32"], [order.total, recipients, hashes, order.decision_id])
        )
        uri = f"urn:sha256:{order.decision_id.hex()}"
        proposal = encode(
            _types(PROPOSE),
            [
                rule_id,
                order.window_start,
                order.window_end,
                token,
                order.total,
                recipients,
                hashes,
                order.decision_id,
                uri,
            ],
        )
        calls = [PlannedCall(0, ActionKind.PROPOSE, self._distributor, selector(PROPOSE) + proposal)]
        calls += [
            PlannedCall(batch.index + 1, ActionKind.EXECUTE, self._distributor, selector(EXECUTE) + payload)
            for batch, payload in zip(batches, payloads, strict=True)
        ]
        return Distribution(distribution_id, order, content_hash, tuple(batches)), tuple(calls)

    def plan_claims(self, order: Order, leaves: Sequence[Payout]) -> tuple[Distribution, tuple[PlannedCall, ...]]:
        if self.claims is None:
            raise HoldError(f"{self._chain} has no contract to claim from")
        return plan_tree(order, leaves, chain_id=self._chain_id, contract=self.claims, uri=self._claims_uri)

    # ── simulate ──
    async def preflight(self, action: Action, at: BlockStamp, beside: Sequence[Action] = ()) -> Ready | Refusal:
        market = await read_market(self._rpc, at)
        price = market.price_now(self._ceilings)
        if price > self._ceilings.max_fee:
            return Refusal(f"gas costs {price} wei, over max_fee_per_gas {self._ceilings.max_fee}", temporary=True)
        call = call_object(action.target, action.payload, self.account)
        try:
            await self._rpc.agreed("eth_call", [call, pinned(at)], data_of)
            estimate = await estimate_gas(self._rpc, [call, pinned(at)])
        except RpcRefused as refused:
            refusal = self._reverts.refusal(refused)
            if refusal.temporary or action.kind is not ActionKind.EXECUTE or action.leg is Leg.CLAIM:
                return refusal
            return Refusal(refusal.reason + await self._because_of(action, at, refused), temporary=False)
        gas_limit = estimate * GAS_MARGIN_NUMERATOR // GAS_MARGIN_DENOMINATOR
        if gas_limit > TRANSACTION_GAS_MAX:
            return Refusal(
                f"needs {gas_limit} gas, over {TRANSACTION_GAS_MAX}: lower batch_recipients", temporary=False
            )
        fees = market.offer(self._ceilings, None)
        assert fees is not None, "a first attempt always has fees"
        data_fee = await self._data_fees.estimate(action.payload, gas_limit, at)
        balance = await self._rpc.agreed("eth_getBalance", [hexed(self.account), pinned(at)], quantity)
        need = gas_limit * fees.max_fee + data_fee
        if balance < need:
            part = f", {data_fee} of it for what the chain takes beside gas" if data_fee else ""
            return Refusal(
                f"low gas balance: {hexed(self.account)} has {balance} wei, needs {need}{part}", temporary=True
            )
        return Ready(gas_limit)

    async def _because_of(self, action: Action, at: BlockStamp, refused: RpcRefused) -> str:
        """Whom the batch would revert for, where that is it; '' where it is not, or nobody can say.

        Only who reads the reason wants to know, so an endpoint that cannot simulate costs the names and nothing else.
        """
        selector = revert_data(refused.data)[:4]
        try:
            token = Address((await self._proposal(action, at))[44:64])
            _, _, recipients, amounts = decode(_types(EXECUTE), action.payload[4:])
            search = Culprits(
                self._rpc,
                self.plan,
                operator=self.account,
                distributor=self._distributor,
                asset=AssetId(f"eip155:{self._chain_id}/erc20:{hexed(token)}"),
                at=at,
            )
            payouts = tuple(
                Payout(Address(bytes.fromhex(recipient[2:])), amount)
                for recipient, amount in zip(recipients, amounts, strict=True)
            )
            found = await search.find(payouts, selector)
        except (RetryableError, DecodingError, ValueError, KeyError, TypeError):
            return ""
        if not found:
            return ""
        more = f" and {len(found) - CULPRITS_SHOWN} more" if len(found) > CULPRITS_SHOWN else ""
        return f"; for {', '.join(hexed(recipient) for recipient in found[:CULPRITS_SHOWN])}{more}"

    async def executed(self, action: Action, at: BlockStamp) -> bool:
        if action.leg is Leg.CLAIM:
            *_, activated = decode(ROOT_PROPOSAL, await self._proposal(action, at))
            return bool(activated)
        view = await self._view(action.target, EXECUTED, [action.distribution_id, action.batch_index], at)
        (answer,) = decode(["bool"], view)
        return bool(answer)

    async def proposed(self, action: Action, at: BlockStamp) -> bytes | None:
        content_hash = (await self._proposal(action, at))[:32]
        return content_hash if any(content_hash) else None

    async def proposed_otherwise(self, proposal: Action, at: BlockStamp) -> bool:
        other = self._distributor if proposal.leg is Leg.CLAIM else self.claims
        if other is None:
            return False
        # Both legs' proposals begin with what the id is derived from.
        rule_id, start, end, token = decode(_types(PROPOSE)[:4], proposal.payload[4:])
        identity = derive_id(self._chain_id, other, rule_id, (start, end), Address(bytes.fromhex(token[2:])))
        return any((await self._view(other, PROPOSAL, [identity], at))[:32])

    # ── sign and send ──
    async def sign(
        self, action: Action, slot: Slot, previous: Attempt | None, purpose: Purpose = Purpose.PAY
    ) -> Signed | None:
        # The newest header, whichever it is: fees are an offer, and nothing is decided by them.
        market = await read_market(self._rpc, None)
        fees = market.offer(self._ceilings, None if previous is None else previous.signed)
        if fees is None:
            return None
        # A cancel is nothing sent to oneself. It keeps the gas limit: chains that charge for data ask more than 21,000,
        # and what is not used is not paid.
        pays = purpose is Purpose.PAY
        transaction = {
            "chainId": self._chain_id,
            "nonce": slot.nonce,
            "to": to_checksum_address(action.target if pays else slot.account),
            "value": 0,
            "data": action.payload if pays else b"",
            "gas": slot.gas_limit,
            **fee_fields(fees, market),
        }
        tx_id, raw = await self._signer.sign(transaction)
        assert tx_id == keccak(raw), "the signer names another transaction than it signed"
        return Signed(tx_id, raw, slot.gas_limit, fees.max_fee, fees.priority_fee, purpose)

    def due(self, in_flight: Sequence[InFlight], head: Block) -> frozenset[int]:
        late = bump_is_due(in_flight, head.number, self._bump_after_blocks)
        return frozenset() if late is None else frozenset({late.action.action_id})

    async def may_replace(self, flight: InFlight, finalized: BlockStamp) -> Refusal | None:
        return None  # attempts of a slot share its nonce

    async def broadcast(self, raw: bytes) -> Broadcast:
        answers = await self._rpc.call_on_each("eth_sendRawTransaction", [hexed(raw)])
        return combine_replies([read_answer(answer, keccak(raw)) for answer in answers])

    # ── look up ──
    async def inclusions(self, tx_id: bytes) -> tuple[Inclusion, ...]:
        answers = await self._rpc.call_on_each("eth_getTransactionReceipt", [hexed(tx_id)])
        if all(answer.error is not None for answer in answers):
            raise ChainUnavailable(f"no endpoint of {self._chain} answers for receipts: {answers[0].error}")
        found: dict[BlockStamp, Inclusion] = {}
        unreadable: ChainDisagrees | None = None
        for answer in answers:
            try:
                inclusion = self._inclusion(answer.endpoint.name, answer.result)
            except ChainDisagrees as error:
                unreadable = error  # no evidence; what another endpoint knows counts all the same
                continue
            if inclusion is not None:
                found[inclusion.block] = inclusion
        if unreadable is not None and not found:
            raise unreadable
        return tuple(found.values())

    async def settled(self, tx_id: bytes) -> Inclusion | None:
        def read(receipt: Any) -> Inclusion | None:
            return self._inclusion("an endpoint", receipt)

        return await self._rpc.agreed("eth_getTransactionReceipt", [hexed(tx_id)], read)

    async def disowned(self, tx_ids: Sequence[bytes], at: BlockStamp) -> bool:
        headers = await self._rpc.call_on_each("eth_getBlockByHash", [hexed(at.hash), False])
        if any(header.error is not None or header.result is None for header in headers):
            return False  # an endpoint that lags or fails cannot deny anything
        for tx_id in tx_ids:
            answers = await self._rpc.call_on_each("eth_getTransactionReceipt", [hexed(tx_id)])
            if any(answer.error is not None or answer.result is not None for answer in answers):
                return False
        return True

    async def landed(self, tx_id: bytes) -> Landed | None:
        def read(found: Any) -> tuple[Address, int, Signed, bytes] | None:
            try:
                if found is None or found["blockHash"] is None:
                    return None
                price = found.get("maxFeePerGas") or found["gasPrice"]
                tip = found.get("maxPriorityFeePerGas") or price
                signed = Signed(tx_id, b"", quantity(found["gas"]), quantity(price), quantity(tip))
                account, block_hash = (bytes.fromhex(found[key][2:]) for key in ("from", "blockHash"))
                return Address(account), quantity(found["nonce"]), signed, block_hash
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ChainDisagrees(f"an endpoint gave something that is no transaction: {error!r}") from None

        found = await self._rpc.agreed("eth_getTransactionByHash", [hexed(tx_id)], read)
        inclusion = await self.settled(tx_id)
        if found is None or inclusion is None or inclusion.block.hash != found[3]:
            return None
        return Landed(found[0], found[1], found[2], inclusion)

    def settlement(self, action: Action, logs: Sequence[Log]) -> Settlement:
        own = [log for log in logs if log.address == action.target and log.topics[1:2] == (action.distribution_id,)]
        if action.kind is ActionKind.PROPOSE:
            # data: epochStart, epochEnd, total, recipientCount, batchCount, contentHash, …, 32 bytes each; of a root:
            # epochStart, epochEnd, total, accountCount, cumulativeTotal, contentHash, …
            bound = [log.data[160:192] for log in own if log.topics[0] in (PROPOSED_TOPIC, ROOT_PROPOSED_TOPIC)]
            return Settlement(action.content_hash in bound, frozenset())
        if action.leg is Leg.CLAIM:
            return Settlement(any(log.topics[0] == ROOT_ACTIVATED_TOPIC for log in own), frozenset())
        index = action.batch_index.to_bytes(32)
        executed = any(log.topics[0] == BATCH_EXECUTED_TOPIC and log.topics[2] == index for log in own)
        credited = [log.topics[3][12:] for log in own if log.topics[0] == CREDITED_TOPIC and log.data[:32] == index]
        return Settlement(executed, frozenset(Address(recipient) for recipient in credited))

    # ── the node ──
    async def _proposal(self, action: Action, at: BlockStamp) -> bytes:
        return await self._view(action.target, PROPOSAL, [action.distribution_id], at)

    async def _view(self, contract: Address, signature: str, arguments: Sequence[object], at: BlockStamp) -> bytes:
        """A view of one of our contracts at block `at`, agreed by two endpoints where there are two.

        Raises ChainDisagrees where they differ, or it does not stand there in that block.
        """
        call = call_object(contract, encode_call(signature, *arguments))
        answer = await self._rpc.agreed("eth_call", [call, pinned(at)], data_of)
        if len(answer) < 32:
            raise ChainDisagrees(f"no contract of ours at {hexed(contract)} in block {at}")
        return answer

    def _inclusion(self, endpoint: str, receipt: Any) -> Inclusion | None:
        """None without a receipt, or one without its block: that transaction still waits. Raises ChainDisagrees for
        what is no receipt."""
        try:
            if receipt is None or receipt["blockHash"] is None:
                return None
            block_hash = bytes.fromhex(receipt["blockHash"][2:])
            charges = read_charges(receipt)
            inclusion = Inclusion(
                BlockStamp(self._chain, quantity(receipt["blockNumber"]), block_hash),
                quantity(receipt["status"]) == 1,
                charges.gas_used,
                charges.total,
                l1_fee=charges.l1_fee,
                operator_fee=charges.operator_fee,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ChainDisagrees(f"{endpoint} gave something that is no receipt: {error!r}") from None
        if len(block_hash) != 32:
            raise ChainDisagrees(f"{endpoint} gave a receipt with a block hash of {len(block_hash)} bytes")
        return inclusion


def _batch_arguments(distribution_id: bytes, batch: Batch) -> bytes:
    """The arguments of executeBatch; their hash is what the proposal commits to."""
    recipients = [payout.recipient for payout in batch.payouts]
    amounts = [payout.amount for payout in batch.payouts]
    return encode(_types(EXECUTE), [distribution_id, batch.index, recipients, amounts])


def _types(signature: str) -> list[str]:
    return signature[signature.index("(") + 1 : -1].split(",")
