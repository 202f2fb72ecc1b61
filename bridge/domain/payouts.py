"""What is paid and how far it has come: distribution → batch → action → slot → attempt, and the arithmetic of sending.

    order ──pack──► batches ──plan──► actions ──reserve──► slot ──sign──► attempt, attempt (bump), …
    (decided)       ≤ n recipients    propose, execute…    one nonce      same nonce, same payload

A set that is too large to push is one batch, whose execution lets each account claim its part with a Merkle proof.

Everything here is pure: what the chain said and what the database holds come in as values.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from bridge.domain.states import ActionState, SlotState
from bridge.domain.units import Address, AssetId, BlockStamp, check_amount, format_address

BUMP_NUMERATOR, BUMP_DENOMINATOR = 1125, 1000
"""Nodes replace a pending transaction only by one that pays at least 12.5 % more in both fees (some ask 10 %)."""

DAY_S = 86_400


# ── What was decided ────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Payout:
    """What one recipient gets from one distribution."""

    recipient: Address
    amount: int  # atoms


@dataclass(frozen=True, slots=True)
class Order:
    """A decision to pay that has no distribution yet."""

    decision_id: bytes  # sha256 of the decision's artifact, 32 bytes
    chain: str
    rule: str
    asset: AssetId
    window_start: int  # seconds; half-open
    window_end: int
    total: int  # atoms
    payouts: tuple[Payout, ...]
    approval: str | None = None  # why a person must release it first


@dataclass(frozen=True, slots=True)
class Batch:
    """Recipients that one transaction pays, strictly ascending as bytes."""

    index: int
    payouts: tuple[Payout, ...]

    @property
    def total(self) -> int:
        return sum(payout.amount for payout in self.payouts)


def pack_batches(payouts: Sequence[Payout], recipients_max: int) -> tuple[Batch, ...]:
    """Ascending recipients in batches of at most `recipients_max`; every batch but the last is full.

    Raises ValueError where a recipient comes twice, an amount is not a positive uint256, or there is nothing to pay.
    """
    if recipients_max < 1:
        raise ValueError("a batch needs room for one recipient")
    ordered = sorted(payouts, key=lambda payout: payout.recipient)
    if not ordered:
        raise ValueError("a distribution needs a recipient")
    for before, after in itertools.pairwise(ordered):
        if before.recipient == after.recipient:
            raise ValueError(f"recipient {format_address(after.recipient)} comes twice")
    if any(check_amount(payout.amount) == 0 for payout in ordered):
        raise ValueError("an amount of zero cannot be paid")
    firsts = range(0, len(ordered), recipients_max)
    return tuple(Batch(index, tuple(ordered[at : at + recipients_max])) for index, at in enumerate(firsts))


LEFT_OUT_FROM, POSITIONS = 1_000_000, 1_024
"""Indexes of batches of those who were left out begin here; no batch has as many recipients as there are positions."""


def left_out_index(batch_index: int, position: int) -> int:
    """The batch that pays the recipient at `position` of a batch which was executed without it.

    Says nothing but what the chain knows, so that whoever lost the database gives it the same one.
    """
    assert batch_index < LEFT_OUT_FROM, "a recipient is left out of a planned batch, once"
    assert position < POSITIONS
    return LEFT_OUT_FROM + POSITIONS * batch_index + position


# ── What was planned ────────────────────────────────────────────────────────────────────────────────────────────────
class ActionKind(StrEnum):
    PROPOSE = "propose"  # binds content to the distribution's id on chain
    EXECUTE = "execute"  # pays one batch


class Leg(StrEnum):
    """How recipients come by their money."""

    PUSH = "push"  # each batch transfers to its recipients
    CLAIM = "claim"  # one tree; each account transfers to itself, when it likes, with its proof


@dataclass(frozen=True, slots=True)
class Distribution:
    """An order with its on-chain identity."""

    distribution_id: bytes  # 32 bytes; says what is paid, neither how much nor by which transaction
    order: Order
    content_hash: bytes  # 32 bytes; what the chain binds to the id
    batches: tuple[Batch, ...]
    leg: Leg = Leg.PUSH


def leg_of(order: Order, claims_above: Mapping[AssetId, int]) -> Leg:
    """By the size of the set: of an asset in `claims_above`, more recipients than that claim; any other is pushed."""
    limit = claims_above.get(order.asset)
    return Leg.PUSH if limit is None or len(order.payouts) <= limit else Leg.CLAIM


def cumulate(entitled: Mapping[Address, int], payouts: Sequence[Payout]) -> tuple[Payout, ...]:
    """What each account was given in all, once `payouts` are added to what it was `entitled` to before; ascending.

    Raises ValueError where a sum is no uint256.
    """
    sums = dict(entitled)
    for payout in payouts:
        sums[payout.recipient] = check_amount(sums.get(payout.recipient, 0) + payout.amount)
    return tuple(Payout(account, sums[account]) for account in sorted(sums))


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """One on-chain step before it has a row. Ordinal 0 proposes, ordinal n executes batch n − 1."""

    ordinal: int
    kind: ActionKind
    target: Address
    payload: bytes


@dataclass(frozen=True, slots=True)
class Action:
    """One on-chain step of a distribution."""

    action_id: int
    distribution_id: bytes
    chain: str
    ordinal: int
    kind: ActionKind
    state: ActionState
    reason: str | None  # held, quarantined: why; any other state: what it waits for
    target: Address
    payload: bytes
    content_hash: bytes  # of its distribution
    decided_at: int  # number of its decision's block; nothing of it can be on chain before
    leg: Leg = Leg.PUSH  # of its distribution

    @property
    def batch_index(self) -> int:
        """Which batch an EXECUTE pays."""
        assert self.kind is ActionKind.EXECUTE
        return self.ordinal - 1


# ── What was signed ─────────────────────────────────────────────────────────────────────────────────────────────────
class Purpose(StrEnum):
    PAY = "pay"
    CANCEL = "cancel"  # spends the nonce on nothing


@dataclass(frozen=True, slots=True)
class Inclusion:
    """A transaction's receipt, bound to the block that holds it."""

    block: BlockStamp
    succeeded: bool
    gas_used: int
    fee_paid: int  # atoms of the native coin: all that it cost; effective gas price × gas used, on a rollup often more
    l1_fee: int = 0  # of fee_paid: for its data on the chain below
    operator_fee: int = 0  # of fee_paid: to the operator of the chain, where there is such a fee
    deposits: int = 0  # beside fee_paid: left in accounts which it made, where keeping data costs that


@dataclass(frozen=True, slots=True)
class Signed:
    """A signed transaction that has no row yet."""

    tx_id: bytes
    raw: bytes
    gas_limit: int
    max_fee: int  # wei per gas
    priority_fee: int  # wei per gas; equals max_fee in a legacy transaction
    purpose: Purpose = Purpose.PAY
    valid_through: int | None = None  # by the chain's count of blocks, where the bytes expire; None where they never do


@dataclass(frozen=True, slots=True)
class Landed:
    """A transaction that is in a block, as the chain tells it, whoever signed it. `signed.raw` is empty."""

    account: Address
    nonce: int | None  # None where accounts of the chain have none
    signed: Signed
    inclusion: Inclusion


@dataclass(frozen=True, slots=True)
class Attempt:
    """A signed transaction that is saved. All attempts of a slot have its nonce and its action's payload."""

    attempt_id: int
    ordinal: int
    signed: Signed
    signed_head: int  # our head when it was signed, or given back by a reorg: fee bumps count blocks from here
    sent: bool  # a node took it
    inclusion: Inclusion | None


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A recipient that an executed batch did not pay, for its account could take nothing; and the step that will."""

    recipient: Address
    call: PlannedCall  # a batch of its own


@dataclass(frozen=True, slots=True)
class Slot:
    """One nonce of the sending account, bound to one action.

    Where the accounts of a chain have no nonces it is a number of ours, and holds the attempts together all the same.
    """

    slot_id: int
    account: Address
    nonce: int
    gas_limit: int  # from the pre-flight: signing again needs no node
    state: SlotState


@dataclass(frozen=True, slots=True)
class InFlight:
    """An action that owns a live slot, with every attempt to fill it, oldest first."""

    action: Action
    slot: Slot
    attempts: tuple[Attempt, ...]

    @property
    def latest(self) -> Attempt:
        return self.attempts[-1]


# ── Value ceilings ──────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Ceilings:
    """How much the sender may move, in atoms by asset; an asset that is not named has no ceiling of that kind."""

    per_transaction: Mapping[AssetId, int]
    per_day: Mapping[AssetId, int]  # over any 24 hours of chain time
    per_recipient: Mapping[AssetId, int]  # one payout


NO_CEILINGS = Ceilings({}, {}, {})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why something is not sent. Temporary ones end without a person: a later step asks again."""

    reason: str
    temporary: bool


def check_recipients(batches: Sequence[Batch], total: int, forbidden: Collection[Address]) -> Refusal | None:
    """Refuse what no rule can have meant: money to nobody or to our own contracts, or a total that is not the sum."""
    if sum(batch.total for batch in batches) != total:
        return Refusal("the total is not the sum of the payouts", temporary=False)
    for payout in _payouts(batches):
        if not any(payout.recipient) or payout.recipient in forbidden:
            return Refusal(f"{format_address(payout.recipient)} may not be a recipient", temporary=False)
    return None


def check_ceilings(
    ceilings: Ceilings, asset: AssetId, batches: Sequence[Batch], spent_in_day: int | None
) -> Refusal | None:
    """The first ceiling that a transaction for each of `batches` would pass.

    `spent_in_day` is what the last 24 hours moved already, or None for a step that moves nothing itself (a proposal,
    which is refused early for what its batches could never do).
    """
    highest_payout = max((payout.amount for payout in _payouts(batches)), default=0)
    highest_batch = max((batch.total for batch in batches), default=0)
    for name, amount, limits in (
        ("per recipient", highest_payout, ceilings.per_recipient),
        ("per transaction", highest_batch, ceilings.per_transaction),
        ("per day", highest_batch, ceilings.per_day),
    ):
        if asset in limits and amount > limits[asset]:
            return Refusal(f"{amount} atoms pass the ceiling {name}, {limits[asset]}", temporary=False)
    per_day = ceilings.per_day.get(asset)
    if spent_in_day is not None and per_day is not None and spent_in_day + highest_batch > per_day:
        return Refusal(
            f"{spent_in_day} atoms moved in 24 hours; {highest_batch} more pass the ceiling per day, {per_day}",
            temporary=True,
        )
    return None


def _payouts(batches: Sequence[Batch]) -> Iterator[Payout]:
    return (payout for batch in batches for payout in batch.payouts)


# ── Fees ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Fees:
    """Wei per gas. A legacy gas price is both at once."""

    max_fee: int
    priority_fee: int

    def __post_init__(self) -> None:
        assert 0 <= self.priority_fee <= self.max_fee


def first_fees(base_fee: int, priority_fee: int, max_fee_ceiling: int) -> Fees:
    """Twice the base fee plus the tip, so that six full blocks in a row cannot price it out; never over the ceiling."""
    max_fee = min(2 * base_fee + priority_fee, max_fee_ceiling)
    return Fees(max_fee, min(priority_fee, max_fee))


def bump_fees(previous: Fees, wanted: Fees, max_fee_ceiling: int) -> Fees | None:
    """Fees of a replacement: at least 12.5 % over `previous` in both, rounded up, and at least `wanted`.

    None where the ceiling leaves no room: the old attempt stays and is sent again.
    """
    max_fee = max(_bumped(previous.max_fee), wanted.max_fee)
    priority_fee = max(_bumped(previous.priority_fee), wanted.priority_fee)
    lowest = max(_bumped(previous.max_fee), _bumped(previous.priority_fee))
    if lowest > max_fee_ceiling:
        return None
    max_fee = min(max(max_fee, priority_fee), max_fee_ceiling)
    return Fees(max_fee, min(priority_fee, max_fee))


def _bumped(fee: int) -> int:
    return max(-(-fee * BUMP_NUMERATOR // BUMP_DENOMINATOR), fee + 1)


def bump_is_due(in_flight: Sequence[InFlight], head_number: int, bump_after_blocks: int) -> InFlight | None:
    """The one slot whose fee is raised now, if any.

    Only the lowest nonce that is not included yet: whatever stands behind it waits for it, not for its own fee.
    """
    waiting = [
        flight
        for flight in in_flight
        if flight.attempts and flight.action.state in (ActionState.SIGNED, ActionState.BROADCAST)
    ]
    if not waiting:
        return None
    first = min(waiting, key=lambda flight: flight.slot.nonce)
    waits_from = max(attempt.signed_head for attempt in first.attempts)
    return first if head_number - waits_from >= bump_after_blocks else None


@dataclass(frozen=True, slots=True)
class GasFloor:
    """What the sending account should hold of the coin that pays for gas; below it a person is warned.

    `least` is what a person asked for, or what gas can cost at most: then what chains take beside gas is added, as much
    as the latest transactions say.
    """

    asset: AssetId
    least: int  # atoms
    asked_for: bool = False


# ── Nonces ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Sender:
    """The sending account as the database knows it.

      first_nonce        spent by slots that are over      next_nonce
    ──────┬──────────────────────────┬──────────────────────────┬────────
          └─ settled or foreign ─────┴── live slots ────────────┘ free
    """

    account: Address
    first_nonce: int
    next_nonce: int
    over: int  # slots that are settled or foreign


def check_nonces(sender: Sender, finalized_sequence: int) -> str | None:
    """Why the chain's finalized nonce contradicts the books, or None.

    More spent than there are slots is no contradiction: a restored database is older than the chain, and what it forgot
    is found again (check_forgotten). Less spent is: final slots cannot become unspent.
    """
    if finalized_sequence < sender.first_nonce + sender.over:
        return (
            f"account {format_address(sender.account)} has {finalized_sequence} finalized transactions, but the "
            f"database holds {sender.first_nonce + sender.over} as final: the node is behind, or this is another chain"
        )
    return None


def check_forgotten(account: Address, nonces: Sequence[int]) -> Refusal | None:
    """Nothing new is sent while a nonce is spent and neither a slot, nor an event of ours, nor a person says for what.

    `nonces`: the first of those. A restored database finds its own again, from the chain's events, within some blocks.
    """
    if not nonces:
        return None
    named = ", ".join(map(str, nonces))
    return Refusal(
        f"nonce {named} of {format_address(account)} was spent by a transaction that this database does not know, and "
        "no event of a payout explains it yet; if this stays, take up its break (README: a database restored from a "
        "backup)",
        temporary=True,
    )
