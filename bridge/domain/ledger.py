"""The books: which journal each fact becomes, and what a journal is.

    finalized log ──────► book_event        decision ──────► book_decision
    first run ──────────► book_opening      distribution ──► book_intent    (pending)
    finalized attempt ──► book_gas          batch ─────────► book_settlement or book_void, once
    two people ─────────► an adjustment or a reversal (corrections.py)

A journal is a set of transfers; each moves one amount of one asset from its credit account to its debit account, so the
sum over all accounts is zero by construction. Accounts are codes:

    vault:0x…  distributor:0x…  claims:0x…           debits − credits = what the account holds on chain
    operator:gas:0x…  operator:0x…                   the same of the sending account: the native coin, and tokens
    surplus:opening  surplus:unallocated  surplus:carried  payable:0x…  owed_on_chain:0x…  claimable:0x…    whose it is
    expense:gas  expense:l1_fee  expense:operator_fee  expense:deposits    what transactions cost
    expense:…                                        what a person calls it
    external:…                                       the rest of the world, where a person names it
    external:operator                                what tokens moved between our contracts and the sending account
    suspense:in  suspense:out                        moved on chain and not (yet) explained; zero when all is explained

How an outflow is explained: the token's Transfer log books what left against suspense:out, whoever caused it. Only a
batch that we intended, and that the Distributor says it executed, books payable:0x… against suspense:out. So a theft
has nothing that takes it out of suspense. Inflows likewise: only FeePaid takes a Transfer out of suspense:in.

Tokens are no business of the sending account, so nothing ever explains what it gets or gives: that lies in suspense
until two people say what it was. For our contracts it is a stranger like any other, who may be paid or pay a fee.

A set that is claimed: when its tree is activated the money goes from vault to claims, both ours, and payable:0x… turns
into claimable:0x… for each account. What it then claims leaves as above, and Claimed books it against claimable:0x….
"""

from __future__ import annotations

import hashlib
import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from bridge.domain.events import Event, Log
from bridge.domain.payouts import Leg
from bridge.domain.units import UINT256_MAX, Address, AssetId, BlockStamp, format_address, format_tx

UNALLOCATED, CARRIED, OPENING = "surplus:unallocated", "surplus:carried", "surplus:opening"
BY_OPERATOR = "external:operator"
SUSPENSE_IN, SUSPENSE_OUT = "suspense:in", "suspense:out"
GAS, L1_FEE, OPERATOR_FEE, DEPOSITS = "expense:gas", "expense:l1_fee", "expense:operator_fee", "expense:deposits"
FEES = (GAS, L1_FEE, OPERATOR_FEE, DEPOSITS)
"""What transactions cost: gas, what a rollup takes for their data on the chain below and for its operator, and deposits
in accounts that had to be made for a payment."""

_ENCODING_VERSION = 1
"""Of the bytes under the payload hash; raised when a field is added to Journal or Transfer."""


class Phase(StrEnum):
    POSTED = "posted"  # booked at once
    PENDING = "pending"  # reserved: intended, not yet on chain
    POST = "post"  # releases a pending of the same accounts and amount, and books it
    VOID = "void"  # releases a pending of the same accounts and amount, and books nothing


@dataclass(frozen=True, slots=True)
class Asset:
    """An asset the books are kept in. `symbol` and `decimals` are for people; never part of arithmetic."""

    id: AssetId
    chain: str
    address: Address | None  # None for the native coin
    symbol: str
    decimals: int


@dataclass(frozen=True, slots=True)
class Transfer:
    """`amount` atoms of `asset` to the account `debit` from the account `credit`."""

    debit: str
    credit: str
    asset: AssetId
    amount: int
    phase: Phase = Phase.POSTED

    def __post_init__(self) -> None:
        if type(self.amount) is not int or not 0 < self.amount <= UINT256_MAX:
            raise ValueError(f"a transfer moves a positive uint256, not {self.amount!r}")
        if self.debit == self.credit:
            raise ValueError(f"a transfer needs two accounts, not {self.debit} twice")


@dataclass(frozen=True, slots=True)
class Journal:
    """One booked fact. (source, ref) is its identity: the same fact is booked once, however often it is seen."""

    kind: str
    reason: str
    source: str  # log:CHAIN, opening, decision, distribution, batch, attempt, adjustment, reversal
    ref: str  # what it books, unique within the source
    at: BlockStamp
    valid_at: int  # seconds: the time of block `at`
    transfers: tuple[Transfer, ...] = ()
    reverses: tuple[str, str] | None = None  # (source, ref) of the journal that this one undoes

    @property
    def payload_hash(self) -> bytes:
        """sha256 over every field, each with its length before it, so that no two journals share an encoding."""
        head = (self.kind, self.reason, self.source, self.ref, self.at.chain, str(self.at.number))
        rest = [str(self.valid_at), str(len(self.transfers))]
        for transfer in self.transfers:
            rest += (transfer.debit, transfer.credit, transfer.asset, str(transfer.amount), transfer.phase)
        if self.reverses is not None:  # what was hashed before journals could reverse keeps its hash
            rest += self.reverses
        block_hash = len(self.at.hash).to_bytes(4) + self.at.hash
        return hashlib.sha256(bytes([_ENCODING_VERSION]) + _packed(head) + block_hash + _packed(rest)).digest()


_LENGTHS = tuple(f"\0\0\0{chr(length)}" for length in range(128))
"""Four bytes that say how long a field is, as the characters that become them."""


def _packed(fields: Sequence[str]) -> bytes:
    """Each field with its length before it."""
    # Nearly all are short and ASCII, so that a character is a byte: then all of them are encoded in one go, which makes
    # a hash in a third of the time.
    if max(map(len, fields)) < len(_LENGTHS):
        text = "".join([_LENGTHS[len(field)] + field for field in fields])
        if text.isascii():
            return text.encode()
    return b"".join([len(raw).to_bytes(4) + raw for raw in map(str.encode, fields)])


# ── What the books watch ────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Mirror:
    """An account of the books that must equal an account of the chain, to the atom, at every finalized block."""

    code: str
    address: Address
    asset: Asset


@dataclass(frozen=True, slots=True)
class Watched:
    """The contracts, tokens and the sending account of one chain that the books cover."""

    chain: str
    vault: Address
    distributor: Address  # the vault itself, where it pays without another contract between
    operator: Address
    tokens: tuple[Asset, ...]
    native: Asset
    claims: Address | None = None  # where sets are claimed
    # What is looked up for every log that is booked.
    _codes: Mapping[Address, str] = field(init=False, repr=False, compare=False)
    _tokens: Mapping[object, AssetId] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        codes = {ours: f"{name}:{format_address(ours)}" for name, ours in reversed(self.contracts.items())}
        tokens = {token.address: token.id for token in reversed(self.tokens)}
        object.__setattr__(self, "_codes", codes)
        object.__setattr__(self, "_tokens", tokens)

    @property
    def contracts(self) -> dict[str, Address]:
        """Those of ours that hold tokens, by name."""
        ours = {"vault": self.vault}
        if self.distributor != self.vault:
            ours["distributor"] = self.distributor
        return ours if self.claims is None else ours | {"claims": self.claims}

    @property
    def assets(self) -> tuple[Asset, ...]:
        paid_out = any(token.id == self.native.id for token in self.tokens)  # then it is one of them
        return self.tokens if paid_out else (*self.tokens, self.native)

    @property
    def mirrors(self) -> tuple[Mirror, ...]:
        """Every token in each contract of ours and in the operator's account, and the native coin there.

        No contract of ours takes native coin, and no log would say so: but what destroys itself, or makes a block, can
        leave it there. The native coin of an operator that is the vault too stands in one account only.
        """
        held = [
            Mirror(f"{name}:{format_address(address)}", address, asset)
            for name, address in self.holders.items()
            for asset in self.assets
            if (address, asset.id) != (self.operator, self.native.id)
        ]
        return (*held, Mirror(gas_code(self.operator), self.operator, self.native))

    @property
    def holders(self) -> dict[str, Address]:
        """Those of ours that may hold tokens, by name: the contracts, and the operator, where it is none of them."""
        contracts = self.contracts
        return contracts if self.operator in contracts.values() else contracts | {"operator": self.operator}

    def code_of(self, address: Address) -> str | None:
        """The account of the books for a contract that holds tokens, or None for what is no contract of ours."""
        return self._codes.get(address)

    def is_sender(self, address: Address, asset: AssetId | None) -> bool:
        """Whether it is the operator's account for tokens. What it holds of the native coin is told by fees alone."""
        return address == self.operator and asset != self.native.id and address not in self._codes

    def token(self, address: object) -> AssetId | None:
        """The asset of a token contract, or None for one that is not watched."""
        return self._tokens.get(address)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which logs the books cover: every log of `contracts`, and transfers of `tokens` from or to a holder."""

    contracts: tuple[Address, ...]
    tokens: tuple[Address, ...]
    transfer: bytes  # topic 0
    holders: tuple[bytes, ...]  # as topics 1 and 2 spell them


def gas_code(operator: Address) -> str:
    return f"operator:gas:{format_address(operator)}"


def sender_code(operator: Address) -> str:
    return f"operator:{format_address(operator)}"


def payable_code(recipient: Address) -> str:
    return f"payable:{format_address(recipient)}"


def owed_code(recipient: Address) -> str:
    return f"owed_on_chain:{format_address(recipient)}"


CLAIMABLE = "claimable:"


def claimable_code(account: Address) -> str:
    return f"{CLAIMABLE}{format_address(account)}"


# ── Opening ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def book_opening(watched: Watched, at: BlockStamp, valid_at: int, held: Mapping[Mirror, int]) -> Journal:
    """What the mirrored accounts held at the end of block `at`; the books cover what happens after it."""
    return Journal(
        kind="opening",
        reason=f"balances at the end of block {at.number}",
        source="opening",
        ref=watched.chain,
        at=at,
        valid_at=valid_at,
        transfers=tuple(
            Transfer(mirror.code, OPENING, mirror.asset.id, held[mirror]) for mirror in watched.mirrors if held[mirror]
        ),
    )


# ── Logs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def log_ref(log: Log) -> str:
    return f"{log.block.hash.hex()}:{log.log_index}"


def book_event(event: Event, watched: Watched) -> Journal:
    """Exactly one journal for a finalized log; without transfers where the log moves nothing by itself.

    Depends on nothing but the log and what is watched, so that anybody can make it again and compare.
    """
    log = event.log
    return Journal(
        kind=event.source,
        reason=f"log {log.log_index} of transaction {format_tx(log.tx_hash)}",
        source=f"log:{log.block.chain}",
        ref=log_ref(log),
        at=log.block,
        valid_at=log.timestamp,
        transfers=tuple([transfer for transfer in _movements(event, watched) if transfer is not None]),
    )


def _movements(event: Event, watched: Watched) -> tuple[Transfer | None, ...]:
    # token.Transfer         between ours and the world, or between two of ours
    # vault.FeePaid          explains the Transfer into the vault in the same transaction
    # distributor.Withdrawn  explains the Transfer out of the distributor in the same transaction
    # claims.Claimed         explains the Transfer out of the claims contract in the same transaction
    # everything else        moves nothing: what BatchExecuted, Credited and RootActivated explain is booked by the
    #                        batch's settlement, for only with our intent at hand do they explain anything
    fields = event.fields
    match event.source:
        case "token.Transfer":
            asset = watched.token(event.log.address)
            source, target = _address(fields["from"]), _address(fields["to"])
            debit, credit = watched.code_of(target), watched.code_of(source)
            moved = _move(debit or SUSPENSE_OUT, credit or SUSPENSE_IN, asset, fields["value"])
            return moved, _of_sender(source, target, asset, fields["value"], watched)
        case "vault.FeePaid":
            return (_move(SUSPENSE_IN, UNALLOCATED, watched.token(fields["token"]), fields["amount"]),)
        case "distributor.Withdrawn":
            owed = owed_code(_address(fields["account"]))
            return (_move(owed, SUSPENSE_OUT, watched.token(fields["token"]), fields["amount"]),)
        case "claims.Claimed":
            claimable = claimable_code(_address(fields["account"]))
            return (_move(claimable, SUSPENSE_OUT, watched.token(fields["token"]), fields["amount"]),)
        case _:
            return ()


def _of_sender(
    source: Address, target: Address, asset: AssetId | None, amount: object, watched: Watched
) -> Transfer | None:
    """What a transfer does to the operator's own account; beside what it does to a contract of ours.

        stranger ─► operator     from suspense:in           operator ─► stranger     to suspense:out
        contract ─► operator     from external:operator     operator ─► contract     to external:operator

    What a contract gave or got is explained, or not, at the contract: it must not be asked for twice.
    """
    if source == target:
        return None
    if watched.is_sender(target, asset):
        origin = SUSPENSE_IN if watched.code_of(source) is None else BY_OPERATOR
        return _move(sender_code(target), origin, asset, amount)
    if watched.is_sender(source, asset):
        use = SUSPENSE_OUT if watched.code_of(target) is None else BY_OPERATOR
        return _move(use, sender_code(source), asset, amount)
    return None


def _move(debit: str, credit: str, asset: AssetId | None, amount: object) -> Transfer | None:
    """None where nothing moves (zero, or to oneself), or where the asset or both ends are none of ours."""
    assert isinstance(amount, int)
    if asset is None or amount == 0 or debit == credit or (debit, credit) == (SUSPENSE_OUT, SUSPENSE_IN):
        return None
    return Transfer(debit, credit, asset, amount)


def _address(value: object) -> Address:
    assert isinstance(value, bytes)
    return Address(value)


# ── Decisions ───────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Share:
    """What one recipient was allocated, `carried_in` of it left by earlier windows. Atoms."""

    recipient: Address
    amount: int
    carried_in: int


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision, as far as the books care. Amounts in atoms."""

    decision_id: bytes
    rule: str
    verdict: str
    asset: AssetId
    at: BlockStamp  # every read of the decision was pinned to it
    valid_at: int
    carried_in: int  # all that earlier windows left
    carried_out: int  # all that is left to later windows
    shares: tuple[Share, ...]


def book_decision(decided: Decided) -> Journal:
    """Surplus becomes payable to its recipients, and what is left over is carried.

    surplus:carried changes from carried_in to carried_out: down by what recipients get of it, up by what is newly
    carried, both against surplus:unallocated or the recipient.
    """
    transfers: list[Transfer] = []
    for share in decided.shares:
        payable = payable_code(share.recipient)
        transfers += _transfers(UNALLOCATED, payable, decided.asset, share.amount - share.carried_in)
        transfers += _transfers(CARRIED, payable, decided.asset, share.carried_in)
    newly_carried = decided.carried_out - decided.carried_in + sum(share.carried_in for share in decided.shares)
    if newly_carried > 0:
        transfers += _transfers(UNALLOCATED, CARRIED, decided.asset, newly_carried)
    else:
        transfers += _transfers(CARRIED, UNALLOCATED, decided.asset, -newly_carried)
    return Journal(
        kind=f"decision.{decided.verdict}",
        reason=f"rule {decided.rule}",
        source="decision",
        ref=decided.decision_id.hex(),
        at=decided.at,
        valid_at=decided.valid_at,
        transfers=tuple(transfers),
    )


def _transfers(debit: str, credit: str, asset: AssetId, amount: int) -> list[Transfer]:
    return [Transfer(debit, credit, asset, amount)] if amount else []


# ── Payouts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Due:
    """What one recipient is to get from one batch. Atoms."""

    batch_index: int
    recipient: Address
    amount: int


@dataclass(frozen=True, slots=True)
class Intent:
    """A distribution we mean to make. `at` is its decision's block."""

    distribution_id: bytes
    rule: str
    asset: AssetId
    at: BlockStamp
    valid_at: int
    dues: tuple[Due, ...]
    leg: Leg = Leg.PUSH


@dataclass(frozen=True, slots=True)
class IntendedBatch:
    """One batch of an intent."""

    distribution_id: bytes
    index: int
    asset: AssetId
    dues: tuple[Due, ...]
    leg: Leg = Leg.PUSH


def batch_ref(distribution_id: bytes, index: int) -> str:
    return f"{distribution_id.hex()}:{index}"


def book_intent(intent: Intent) -> Journal:
    """Each payout is pending from the moment it is planned until its batch is settled or void."""
    return Journal(
        kind="intent",
        reason=f"rule {intent.rule}",
        source="distribution",
        ref=intent.distribution_id.hex(),
        at=intent.at,
        valid_at=intent.valid_at,
        transfers=tuple(_due(due, intent, Phase.PENDING) for due in intent.dues),
    )


def book_settlement(
    batch: IntendedBatch, executed: Log, credited: Collection[Address], left_out: Collection[Address] = ()
) -> Journal:
    """The batch as the finalized log `executed` says it happened.

    A paid recipient's pending is posted, and so is that of one who may claim from now on; that of a `credited` one is
    voided, for the Distributor kept the amount and now owes it on chain. That of one who was `left_out` stays pending:
    a batch of its own will close it.
    """
    transfers: list[Transfer] = []
    for due in batch.dues:
        if due.recipient in left_out:
            continue
        if due.recipient in credited:
            payable, owed = payable_code(due.recipient), owed_code(due.recipient)
            transfers += [_due(due, batch, Phase.VOID), Transfer(payable, owed, batch.asset, due.amount)]
        else:
            transfers.append(_due(due, batch, Phase.POST))
    reason = f"executed by log {executed.log_index} of transaction {format_tx(executed.tx_hash)}"
    ref = batch_ref(batch.distribution_id, batch.index)
    return Journal("settlement", reason, "batch", ref, executed.block, executed.timestamp, tuple(transfers))


def book_void(batch: IntendedBatch, at: BlockStamp, valid_at: int) -> Journal:
    """The batch was given up: nothing is pending any more, and the recipients are still owed.

    Shares source and ref with the settlement: a batch can be closed once.
    """
    transfers = tuple(_due(due, batch, Phase.VOID) for due in batch.dues)
    ref = batch_ref(batch.distribution_id, batch.index)
    return Journal("void", "given up", "batch", ref, at, valid_at, transfers)


def _due(due: Due, of: Intent | IntendedBatch, phase: Phase) -> Transfer:
    """What is pushed leaves; what is claimed stays with us, and is the account's to take."""
    to = claimable_code(due.recipient) if of.leg is Leg.CLAIM else SUSPENSE_OUT
    return Transfer(payable_code(due.recipient), to, of.asset, due.amount, phase)


# ── Gas ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class GasPaid:
    """A transaction of ours in a finalized block, whether it succeeded or not: both burn gas."""

    tx_id: bytes
    operator: Address
    fee: int  # wei, all that was taken
    succeeded: bool
    at: BlockStamp
    valid_at: int
    l1_fee: int = 0  # of `fee`
    operator_fee: int = 0  # of `fee`; the chain's operator gets it
    deposits: int = 0  # beside `fee`: wei left in accounts that the transaction made


def book_gas(paid: GasPaid, native: AssetId) -> Journal:
    gas = paid.fee - paid.l1_fee - paid.operator_fee
    parts = ((GAS, gas), (L1_FEE, paid.l1_fee), (OPERATOR_FEE, paid.operator_fee), (DEPOSITS, paid.deposits))
    payer = gas_code(paid.operator)
    return Journal(
        kind="gas" if paid.succeeded else "gas.reverted",
        reason=f"transaction {format_tx(paid.tx_id)}",
        source="attempt",
        ref=paid.tx_id.hex(),
        at=paid.at,
        valid_at=paid.valid_at,
        transfers=tuple(each for expense, amount in parts for each in _transfers(expense, payer, native, amount)),
    )


@dataclass(frozen=True, slots=True)
class Unbooked:
    """What other stages committed and the books do not have yet; `entries` are forgotten once the rest is booked."""

    entries: tuple[int, ...]
    decisions: tuple[Decided, ...]
    intents: tuple[Intent, ...]
    gas: tuple[GasPaid, ...]
    voids: tuple[tuple[bytes, int], ...]  # (distribution_id, batch index)


# ── Statements ──────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Balance:
    """Sums of one account over all its transfers. Atoms."""

    code: str
    asset: AssetId
    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int

    @property
    def posted(self) -> int:
        """Debits minus credits: what a mirrored account holds; negative for whose it is."""
        return self.debits_posted - self.credits_posted


class Sums(NamedTuple):
    """Of one account. Atoms."""

    debits_posted: int
    credits_posted: int
    debits_pending: int
    credits_pending: int


def add_sums(one: Sums, other: Sums) -> Sums:
    return Sums(*map(operator.add, one, other))


@dataclass(frozen=True, slots=True)
class KeptBalance:
    """What is kept of an account beside its transfers; None where nothing is."""

    account_id: int
    code: str
    asset: AssetId
    sums: Sums | None


@dataclass(frozen=True, slots=True)
class FalseBalance:
    """An account whose balance is not what its transfers add up to."""

    code: str
    asset: AssetId
    figures: Mapping[str, tuple[int | None, int]]  # those that differ, by name: as kept, as added up

    def __str__(self) -> str:
        told = [
            f"{name.replace('_', ' ')} are kept as {'nothing' if kept is None else kept}, transfers add up to {added}"
            for name, (kept, added) in self.figures.items()
        ]
        return f"balance of {self.code} in {self.asset}: {'; '.join(told)}"


def compare_sums(kept: Sums | None, added: Sums) -> dict[str, tuple[int | None, int]]:
    """Figures that differ, by name. An account without a balance has none that would be right, not even zero."""
    if kept == added:
        return {}
    if kept is None:
        return {name: (None, figure) for name, figure in added._asdict().items()}
    pairs = zip(Sums._fields, kept, added, strict=True)
    return {name: (before, after) for name, before, after in pairs if before != after}


@dataclass(frozen=True, slots=True)
class Statement:
    """One account between two blocks, both inclusive: opening + debits − credits = closing. Atoms, debit-positive."""

    code: str
    asset: AssetId
    opening: int
    debits: int
    credits: int
    closing: int

    def __post_init__(self) -> None:
        assert self.opening + self.debits - self.credits == self.closing, f"{self.code} does not roll forward"
