"""What the stages need from the world, as Protocols.

Adapters live in `chains/` and `store/`; stages know only what is written here. Reads that could depend on time take a
`BlockStamp`: nothing here answers for "latest" by accident.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from bridge.domain.accumulators import Key, Source, State
from bridge.domain.breaks import AccountMove, Break, Check, Range, Reconciliation, Spent, Waiting
from bridge.domain.calls import Argument
from bridge.domain.confirmations import Confirmation, Transition
from bridge.domain.corrections import Approved, JournalKey
from bridge.domain.decisions import Decision
from bridge.domain.events import (
    Block,
    BlockAdded,
    ChainCursor,
    ChainEvent,
    EventColumns,
    Finalized,
    Log,
    LogColumns,
    TimedLogs,
    Value,
)
from bridge.domain.interventions import Intervention, InterventionKind
from bridge.domain.jobs import Schedule
from bridge.domain.ledger import (
    Asset,
    Balance,
    Coverage,
    Decided,
    GasPaid,
    IntendedBatch,
    Intent,
    Journal,
    KeptBalance,
    Sums,
    Transfer,
    Unbooked,
)
from bridge.domain.payouts import (
    Action,
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
    Sender,
    Signed,
    Slot,
)
from bridge.domain.prices import FeedAnswer, MarketAnswer
from bridge.domain.records import RuleText, Stored
from bridge.domain.reports.facts import Facts
from bridge.domain.rules import Rule, RuleStart
from bridge.domain.seals import Sealed, Tip, Walk, Walked
from bridge.domain.states import ActionState
from bridge.domain.stories import JournalFact, Match, SignedAttempt, StoryFacts
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.domain.windows import Window


# ── Time ────────────────────────────────────────────────────────────────────────────────────────────────────────────
class Clock(Protocol):
    """Time, injected so that tests own it."""

    def now(self) -> int:
        """Seconds since 1970, for people and reports; never decides what the chain can decide."""

    def monotonic_ms(self) -> int:
        """Milliseconds of a clock that never goes back, for lags and time-outs."""

    async def sleep_ms(self, duration_ms: int) -> None: ...


# ── Chains: reading ─────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class LogFilter:
    """Which logs are watched: from any of `addresses` (all where empty) and matching `topics` by position.

    A position is None (anything) or a set of alternatives. Several filters are a union; a log that two of them match
    counts once.
    """

    addresses: tuple[Address, ...]
    topics: tuple[tuple[bytes, ...] | None, ...] = ()


class EventDecoder(Protocol):
    """A plan compiled once from an event declaration, for example `Paid(address indexed to, uint256 amount)`."""

    @property
    def name(self) -> str: ...
    @property
    def topic0(self) -> bytes: ...
    @property
    def fields(self) -> Mapping[str, str]:
        """Field name → ABI type, in the order of the declaration."""

    def decode(self, log: Log) -> Mapping[str, Value]:
        """The fields of `log` by name. Raises ValueError where the log does not have the declared shape."""

    def decode_columns(self, logs: LogColumns, addresses: Collection[Address]) -> EventColumns:
        """All logs of this event from one of `addresses`, each as `decode` has it. Raises ValueError as it does."""


class ChainReader(Protocol):
    """One chain, read. Implementations: chains.evm, chains.fake; one contract-test suite holds for all."""

    name: str
    reference: str  # CAIP-2

    async def check(self) -> None:
        """Raise ConfigError unless the endpoints serve the configured chain and its finality policy works."""

    async def genesis_hash(self) -> bytes: ...

    def follow(self, cursor: ChainCursor, filters: Sequence[LogFilter]) -> AsyncGenerator[ChainEvent, None]:
        """Everything that happens to the chain after `cursor`, for ever, in order.

        The consumer commits an event before it asks for the next, and closes the walk that it gives up. Raises
        ChainUnavailable when no endpoint answers (the caller starts again from its committed cursor), DeepReorg when a
        finalized block was replaced.
        """

    async def node_head(self) -> int:
        """The highest block any endpoint claims; a claim, for the lag metric only."""

    def decoder(self, declaration: str) -> EventDecoder:
        """Raises ConfigError where the declaration is not an event of this chain's interface language."""

    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        """Atoms of `asset` that `account` holds at the end of `at`. Raises ChainDisagrees where `at` is unknown."""

    async def read_call(
        self,
        contract: Address,
        signature: str,
        arguments: Sequence[Argument],
        at: BlockStamp,
        *,
        returns: Sequence[str] = ("uint256",),
    ) -> tuple[int, ...] | None:
        """What the view function `name(type,…)` returns at the end of block `at`: one number for each type in `returns`
        (see domain.calls).

        None where the contract does not answer so: it reverts, is not there, or returns something else. Raises
        ValueError for arguments that the signature does not take.
        """

    async def sequence(self, account: Address, at: BlockStamp) -> int | None:
        """How many transactions `account` had sent by the end of block `at` (the nonce); None where the accounts of
        this chain have no such count, and nothing but an expiry keeps a transaction from landing later."""

    async def blocks(self, numbers: Sequence[int]) -> list[Block]:
        """Headers by number, as the node has them now; where the chain skipped a number, the block before it."""


class History(Protocol):
    """The finalized past of one chain, read in ranges: for whoever follows nothing."""

    async def finalized(self) -> Block | None:
        """The newest finalized block; None before the first, and where nodes do not know which blocks are final."""

    def ranges(self, first: int, last: int, filters: Sequence[LogFilter]) -> AsyncGenerator[BlockAdded, None]:
        """Blocks first … last, all of them final, in order and without a gap; each range with the logs that match.

        Raises ChainUnavailable, ChainDisagrees.
        """


class Executions(Protocol):
    """What a chain itself keeps of each batch that it executed, beside its events, and for ever."""

    async def executed(self, distribution_id: bytes, index: int, at: BlockStamp) -> bool:
        """Whether the batch was executed by the end of final block `at`; not where it was cancelled there. Raises
        RetryableError where that cannot be told."""


class ClaimedAmounts(Protocol):
    """What the contract that sets are claimed from keeps of each account. Implementation: chains.evm.claimed."""

    async def claimed(self, wanted: Sequence[tuple[Address, Address]], at: BlockStamp) -> list[int]:
        """Of each (token, account) what it has claimed in all by the end of final block `at`, in atoms; 0 where there
        was no contract yet.

        Raises ChainUnavailable, ChainDisagrees, and StateUnavailable where no node has that block's state.
        """


class PriceFeeds(Protocol):
    """The price feeds of one chain, pinned to a block. Implementation: chains.evm.aggregator."""

    async def rounds(self, feed: Address, at: Block, since: int | None) -> FeedAnswer:
        """What `feed` holds at the end of block `at`: its newest round, and with `since`, seconds, the rounds back to
        the one that was in force then, as far as they answer and at most prices.ROUNDS_MAX."""


class Market(Protocol):
    """A price that is asked for off the chain. Implementation: prices.http."""

    async def quote(self, at: Block) -> MarketAnswer:
        """The price at the time of block `at`, as near to it as the source can say. Raises SourceUnavailable where it
        does not answer, which may change; what is no price is an answer with a problem."""


# ── Chains: sending ─────────────────────────────────────────────────────────────────────────────────────────────────
class BroadcastOutcome(StrEnum):
    ACCEPTED = "accepted"  # an endpoint took the bytes
    KNOWN = "known"  # an endpoint had them already
    REJECTED = "rejected"  # every endpoint that answered said no; earlier attempts may still land
    UNKNOWN = "unknown"  # no usable answer: it may have arrived


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What all endpoints together said to the bytes. None of it proves that a transaction failed."""

    outcome: BroadcastOutcome
    reason: str | None = None  # what was said, where it was not taken


@dataclass(frozen=True, slots=True)
class Ready:
    """The pre-flight passed."""

    gas_limit: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an action's own events say: whether it took effect, and who was credited instead of paid."""

    executed: bool
    credited: frozenset[Address]
    left_out: tuple[LeftOut, ...] = ()  # neither paid nor credited


class Payer(Protocol):
    """One chain's sending side; contracts, call data, nonce rules and fees stay behind it.

    Implementations: chains.evm, chains.fake; one contract-test suite holds for both.
    """

    account: Address  # the sending account
    claims: Address | None  # the contract that accounts claim from; None where everything is pushed

    def forbidden_recipients(self, asset: AssetId) -> frozenset[Address]:
        """Our own contracts and the asset's: what is paid to them is lost or comes back as a surplus."""

    async def pack(self, order: Order, recipients_max: int) -> tuple[Batch, ...]:
        """The order in batches that one transaction each can pay, of `recipients_max` at most. Whoever lost the
        database must pack alike: of nothing that may change, on the chain neither, but for what a proposal that is on
        chain already says. Raises ValueError as pack_batches does, RetryableError where the chain must be asked and
        does not answer."""

    def plan(self, order: Order, batches: Sequence[Batch]) -> tuple[Distribution, tuple[PlannedCall, ...]]:
        """The distribution's identity and its steps in order. Pure: the same order gives the same bytes."""

    def plan_claims(self, order: Order, leaves: Sequence[Payout]) -> tuple[Distribution, tuple[PlannedCall, ...]]:
        """The same for a set that is claimed: its proposal, and the step that lets `leaves` be claimed.

        `leaves`: what each account was given in all, this order included. May take seconds of one processor. Raises
        HoldError where such a tree cannot be made.
        """

    async def preflight(self, action: Action, at: BlockStamp, beside: Sequence[Action] = ()) -> Ready | Refusal:
        """Simulate the action from the sending account on top of block `at`. What `beside` will take (actions that own
        a slot) is not there for it, where the chain itself does not yet show that it is gone."""

    async def sign(
        self, action: Action, slot: Slot, previous: Attempt | None, purpose: Purpose = Purpose.PAY
    ) -> Signed | Refusal | None:
        """A signed transaction for the slot; a replacement with higher fees where there is a `previous` one. To cancel
        is to spend the nonce on nothing.

        None where the fee ceiling leaves no room for a replacement. A refusal where what is signed depends on the chain
        as it is now, and it would fail: asked again later, whatever the refusal says of time.
        """

    def due(self, in_flight: Sequence[InFlight], head: Block) -> frozenset[int]:
        """Ids of the actions that wait for long enough to try another attempt, seen from `head`."""

    async def may_replace(self, flight: InFlight, finalized: BlockStamp) -> Refusal | None:
        """Why no other attempt may be signed beside the latest one yet: where no nonce keeps two of them from landing,
        the first must have expired. None where it may; a refusal for good where none ever may, which can be known
        before there is any attempt."""

    async def broadcast(self, raw: bytes) -> Broadcast:
        """Send to every endpoint. Never raises for what an endpoint answers or fails to answer."""

    async def inclusions(self, tx_id: bytes) -> tuple[Inclusion, ...]:
        """The receipts that endpoints have; they may name different blocks. Empty says nothing about the future.

        Raises ChainUnavailable when no endpoint answered.
        """

    async def settled(self, tx_id: bytes) -> Inclusion | None:
        """The receipt, or that there is none, as two endpoints say alike where two are configured: the last word on a
        transaction whose block is final. Raises RetryableError where they do not."""

    async def disowned(self, tx_ids: Sequence[bytes], at: BlockStamp) -> bool:
        """True only where every endpoint knows block `at` and answers that it has no receipt for any of `tx_ids`."""

    async def landed(self, tx_id: bytes) -> Landed | None:
        """The transaction and where it was included; None where the endpoints do not know it, or not yet."""

    async def executed(self, action: Action, at: BlockStamp) -> bool:
        """Whether the chain has executed what `action` executes."""

    async def proposed(self, action: Action, at: BlockStamp) -> bytes | None:
        """The content hash that the chain has bound to the distribution's id, or None before the proposal; CANCELLED
        where that was given up on chain."""

    async def proposed_otherwise(self, proposal: Action, at: BlockStamp) -> bool:
        """Whether what `proposal` would pay by one leg is already bound to the other leg's contract."""

    def settlement(self, action: Action, logs: Sequence[Log]) -> Settlement:
        """Read the action's own events out of `logs`; those of other actions do not count."""


class ClaimFiles(Protocol):
    """Where claimants, and whoever checks, find the proofs of one chain: files, by the id of the distribution."""

    def publish(self, distribution: Distribution, leaves: Sequence[Payout]) -> None:
        """Write the tree of `leaves` down, whole or not at all; nothing happens where it is there. Takes as long as
        `plan_claims`, and the disk.

        Raises HoldError where the tree is not the one that `distribution` was planned with, RetryableError where its
        place is taken or cannot be written.
        """

    def is_published(self, distribution_id: bytes) -> bool: ...

    def find(self, distribution_id: bytes) -> Path | None:
        """The folder with the files of a published distribution."""

    def claim(self, distribution_id: bytes, account: str) -> Mapping[str, object]:
        """What `account` needs to claim, as JSON values. Raises RefusedError for what is no account or has nothing to
        claim, ConfigError where the files are missing or damaged."""


class Signer(Protocol):
    """Holds the key of one account. What it signs is the adapter's own format."""

    account: Address

    async def sign(self, transaction: Mapping[str, object]) -> tuple[bytes, bytes]:
        """(transaction id, raw signed bytes). Deterministic: the same transaction gives the same bytes."""


# ── Leases ──────────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write for one (stage, chain). Every transaction that names it checks the epoch."""

    name: str
    epoch: int
    holder: str


class LeaseStore(Protocol):
    async def acquire(self, name: str, holder: str, duration_ms: int) -> Lease | None:
        """The lease with a new epoch, or None while another instance holds it."""

    async def renew(self, lease: Lease, duration_ms: int) -> bool:
        """False when another instance has taken it."""

    async def release(self, lease: Lease) -> None: ...


# ── Stores ──────────────────────────────────────────────────────────────────────────────────────────────────────────
# One Protocol a noun. Each lists exactly what stages call; all work inside the transaction that they come from.
class ChainStore(Protocol):
    async def register(self, chain: str, kind: str, reference: str, genesis_hash: bytes, start_block: int) -> None: ...
    async def ensure_partitions(self, chain: str, through_block: int) -> None: ...
    async def cursor(self, stage: str, scope: str) -> tuple[int, bytes] | None: ...
    async def move_cursor(self, stage: str, scope: str, stamp: BlockStamp) -> None: ...


class EventStore(Protocol):
    """Blocks, raw logs, heads."""

    async def cursor(self, chain: str) -> ChainCursor:
        """Where ingest goes on: from committed rows."""

    async def add(self, chain: str, event: BlockAdded, node_head: int) -> None: ...

    async def orphan_above(self, chain: str, ancestor: Block) -> int:
        """Mark every canonical block above `ancestor` orphaned; returns how many. Never touches finalized blocks."""

    async def finalize(self, chain: str, event: Finalized) -> None: ...

    async def finalized(self, chain: str) -> Block | None:
        """The highest finalized block, or None before the first."""

    async def finalized_before(self, chain: str, timestamp: int) -> Block | None:
        """The last finalized block with block.timestamp < `timestamp`."""

    async def head(self, chain: str) -> Block | None:
        """The highest canonical block that is stored, or None before the first."""

    async def block(self, chain: str, number: int) -> Block | None:
        """The canonical (or finalized) block of that number that is stored."""

    async def is_canonical(self, stamp: BlockStamp) -> bool: ...

    async def logs(
        self,
        chain: str,
        first: int,
        last: int,
        *,
        addresses: Sequence[Address] = (),
        topic0s: Sequence[bytes] = (),
        limit: int | None = None,
    ) -> list[Log]:
        """Finalized logs of blocks first…last in (block, index) order; empty sequences do not restrict.

        With `limit`, whole blocks are returned until at least `limit` logs are there.
        """

    async def log_columns(
        self,
        chain: str,
        first: int,
        last: int,
        *,
        addresses: Sequence[Address] = (),
        topic0s: Sequence[bytes] = (),
        limit: int | None = None,
    ) -> TimedLogs:
        """What `logs` returns, as packed columns: for many logs at once."""

    async def logs_about(self, chain: str, address: Address, subjects: Mapping[bytes, int], last: int) -> list[Log]:
        """Finalized logs of `address` whose first indexed value is one of `subjects`, each from after the block that
        it names through block `last`, in (block, index) order."""


class DecisionStore(Protocol):
    """Rules, what they remember, and what they decided."""

    async def newest_rule(self, chain: str, rule: str) -> tuple[int, str] | None:
        """Version and text of the newest version that is saved for the chain: on another it may have another text."""

    async def save_rule(self, chain: str, rule: Rule) -> None:
        """Raises ConfigError where this version has another text already, or a newer version is known."""

    async def paused(self, chain: str) -> set[str]:
        """The rules that decide nothing for now."""

    async def pause(self, chain: str, rule: str, told: str) -> None:
        """`told`: by whom and why. Raises RefusedError where it is paused already."""

    async def resume(self, chain: str, rule: str, told: str) -> None:
        """Raises RefusedError where it is not paused."""

    async def starts(self, chain: str) -> dict[str, RuleStart]:
        """By rule; under '' that of the chain."""

    async def save_start(self, chain: str, rule: str, start: RuleStart) -> None:
        """Where a rule began stays as it is; what its contracts are may change with a newer version."""

    async def stop(self, chain: str, rule: str, block_number: int) -> None:
        """The rule is not configured any more: after this block its events may not be read."""

    async def last(self, chain: str, rule: str) -> tuple[Window, int] | None:
        """The last decided window and its block number."""

    async def counted_from(self, chain: str, rule: str) -> int | None:
        """The second from which the rule's events are not decided about: later than the last window's end never, and
        earlier where its surplus could not be determined. None before the first decision."""

    async def paid(self, chain: str, rule: str) -> int:
        """All that the rule ever decided to pay. Atoms."""

    async def last_paid_end(self, chain: str, rule: str) -> int | None: ...
    async def owed(self, chain: str, asset: AssetId) -> int:
        """All that was ever decided to be paid in the asset, and all that is carried, by whatever rule."""

    async def carries(self, chain: str, rule: str, asset: AssetId) -> dict[Address, int]: ...
    async def accumulators(self, chain: str, rule: str, keys: Collection[Key] | None = None) -> dict[Key, State]:
        """Those of `keys` that are known; all of them where None."""

    async def save_accumulators(self, chain: str, rule: str, states: Mapping[Key, State]) -> None: ...
    async def sources(self, chain: str, rule: str, window: Window) -> dict[str, Source]: ...
    async def save_sources(self, chain: str, rule: str, window: Window, sources: Mapping[str, Source]) -> None: ...
    async def texts(self, chain: str, asset: AssetId, until: int) -> list[RuleText]:
        """Each version of each rule that decided about `asset` a window that ended by second `until`."""

    async def were_paused(self, chain: str) -> set[str]:
        """The rules that were ever paused: their windows were decided later than in the order of time."""

    async def artifact(self, chain: str, rule: str, window_start: int) -> bytes | None:
        """The record of the decision about that window."""

    async def add(self, chain: str, decision: Decision) -> None:
        """The decision, its allocations, and the carries as they are after it."""


class PayoutStore(Protocol):
    """Distributions, actions, slots, attempts. Every change of state names the state it expects to find; a method that
    returns bool returns False, and has changed nothing, where another transaction was faster."""

    async def next_order(self, chain: str, claims_above: Mapping[AssetId, int]) -> Order | None:
        """The oldest decision to pay that has no distribution and may have one: a set of more recipients than
        `claims_above` says of its asset waits until the claim distribution before, of the same asset, is over."""

    async def plan(self, distribution: Distribution, calls: Sequence[PlannedCall]) -> None: ...
    async def planned(self, chain: str, limit: int) -> list[Action]:
        """Planned actions whose turn it is, oldest first: proposals, and batches of proposals that are on chain."""

    async def quarantined(self, chain: str) -> list[Action]: ...
    async def reverted(self, chain: str, slots_max: int) -> list[Action]:
        """Held actions whose newest nonce went to a final revert, of fewer than `slots_max` nonces in all."""

    async def in_flight(self, chain: str) -> list[InFlight]:
        """Every live slot with its action and attempts, in order of nonce."""

    async def distribution(self, distribution_id: bytes, batch_index: int | None = None) -> Distribution:
        """With all batches, or with the one that is named."""

    async def spent_since(self, chain: str, asset: AssetId, since: int) -> int:
        """Atoms in batches that got a slot at chain time `since` or later."""

    async def open_sender(self, chain: str, account: Address, finalized_sequence: int) -> Sender:
        """The account's row, made at its first use."""

    async def beside_gas(self, chain: str, account: Address) -> int:
        """The most, in atoms, that any of the account's latest transactions took beside its gas, deposits apart."""

    async def note_gas(self, chain: str, account: Address, balance: int, wanted: int) -> None:
        """What the account holds for gas, and what it should at least."""

    async def forgotten(self, chain: str, account: Address, since: int, sequence: int) -> list[tuple[int, bool]]:
        """Nonces from `since` to below `sequence` that no slot accounts for, and whether a person took up the break."""

    async def settled_by_word(self, chain: str) -> list[Action]:
        """Actions that the chain's word made final, and whose transaction is not known."""

    async def adopt(self, action: Action, landed: Landed, chain_time: int) -> bool:
        """Give a final transaction of ours that no row remembers its slot and attempt, so that nonce and gas are
        accounted for. False where its nonce is still live for another action: ask again when that has let go of it."""

    async def reserve(
        self,
        action: Action,
        account: Address,
        gas_limit: int,
        finalized_sequence: int,
        chain_time: int,
        *,
        foreign: Sequence[int] = (),
    ) -> bool:
        """planned → reserved with the account's next nonce, in one transaction; `foreign` nonces, spent by others, get
        slots too, so that every nonce of the account has a row."""

    async def wait(self, action: Action, reason: str | None) -> None:
        """Note what an action waits for; its state stays."""

    async def move(self, action: Action, to: ActionState, reason: str | None = None) -> bool: ...
    async def save_attempt(self, flight: InFlight, signed: Signed, head_number: int) -> bool:
        """The first attempt moves reserved → signed; a replacement leaves the state."""

    async def mark_sent(self, flight: InFlight) -> bool:
        """The latest attempt was taken by a node; the first time, signed → broadcast."""

    async def apply(self, flight: InFlight, transition: Transition) -> bool:
        """Commit one arrow with its inclusion and its slot."""

    async def leave_out(self, action: Action, left_out: Sequence[LeftOut]) -> None:
        """Give each recipient that the batch of `action` did not pay a planned batch of its own. Safe to repeat."""

    async def settle_batch(self, distribution_id: bytes, batch_index: int, credited: frozenset[Address]) -> None:
        """Set the outcome of every payout of a batch."""

    async def action(self, action_id: int) -> Action: ...
    async def steps(self, low: bytes, high: bytes) -> list[Action]:
        """Actions of distributions whose id is in low … high, both included, in order."""

    async def given_up(self, distribution_id: bytes, ordinal: int) -> bool:
        """Whether that step of the distribution was given up. Without its proposal (0) no batch can be executed."""

    async def void_planned(self, distribution_id: bytes, reason: str) -> None:
        """Give up what is still planned of a distribution whose proposal was given up."""


class ClaimStore(Protocol):
    """Distributions that are claimed, and what their accounts were given in all."""

    async def entitled(self, chain: str, contract: Address, asset: AssetId) -> dict[Address, int]:
        """What the activated trees of `contract` give each account. Atoms."""

    async def unpublished(self, chain: str) -> bytes | None:
        """The oldest claim distribution whose proofs are not published and that is not given up."""

    async def newest(self, chain: str) -> list[bytes]:
        """Of each asset, the newest claim distribution that is published and not given up."""

    async def leaves(self, distribution_id: bytes) -> tuple[Payout, ...]:
        """Ascending leaves of its tree. Raises RefusedError unless it is the newest of its asset: an older tree is only
        in its files."""

    async def mark_published(self, distribution_id: bytes) -> None: ...
    async def activated(self, action: Action) -> None:
        """The tree that `action` activates counts from now on. Safe to repeat."""


class InterventionStore(Protocol):
    """What people ordered."""

    async def open(self, chain: str) -> list[Intervention]:
        """Orders that no stage has answered, oldest first."""

    async def order(self, action: Action, kind: InterventionKind, reason: str, by: str) -> str | None:
        """Write the order down, and do it where that needs no stage; why it cannot be, where it cannot."""

    async def cancelled(self, action_id: int) -> str | None:
        """By whom and why the action was cancelled; None where nobody did, or released it later."""

    async def done(self, intervention: Intervention) -> None: ...
    async def refuse(self, intervention: Intervention, reason: str) -> None: ...


class ConfirmationStore(Protocol):
    async def adopt(self) -> bool:
        """Make the rows of a database that was restored into another Postgres cluster readable there; returns whether
        they needed it. To be called before any stage writes. Subscribers may be told again of what they were told."""

    async def untold(self, subscriber: str, limit: int) -> list[Confirmation]:
        """What `subscriber` has not been told, in order for each action; nothing is ever left out."""

    async def told(self, subscriber: str, confirmations: Sequence[Confirmation]) -> None:
        """Move the subscriber on over `confirmations`, a beginning of what `untold` returned."""


class BookingStore(Protocol):
    """What is to be booked: finalized logs, and rows of other stages."""

    async def next_stop(self, chain: str, after: int, span: int) -> Block | None:
        """The last stored finalized block of the `span` after `after`, or the first beyond; None at the end."""

    async def logs(self, chain: str, first: int, last: int, covered: Coverage, limit: int) -> list[Log]:
        """Finalized logs of blocks first…last that the books cover, in (block, index) order.

        Whole blocks, so there may be more than `limit`; fewer than `limit` means that there are no others.
        """

    async def unbooked(self, chain: str, through: int, limit: int) -> Unbooked:
        """At most `limit` facts of blocks up to `through`, those of the oldest blocks first."""

    async def bookable(self, chain: str, through: int, source: str, after: bytes, limit: int) -> list[bytes]:
        """Refs of what must be booked of `source` (decision, distribution, attempt), in order, after `after`."""

    async def facts(
        self, chain: str, source: str, refs: Sequence[bytes]
    ) -> Sequence[Decided] | Sequence[Intent] | Sequence[GasPaid]:
        """What journals of `source` are made from."""

    async def unbooked_count(self, chain: str, through: int) -> int: ...
    async def forget(self, entries: Sequence[int]) -> None:
        """They are booked, in this transaction."""

    async def open_batches(self, batches: Sequence[tuple[bytes, int]]) -> list[IntendedBatch]:
        """Those of `batches` (distribution id, index) whose intent is booked and that nothing has closed."""


class LedgerStore(Protocol):
    async def register_assets(self, assets: Sequence[Asset]) -> None:
        """Note assets at their first use; an account needs one. What is known already stays as it is."""

    async def post(self, journals: Sequence[Journal]) -> list[bool]:
        """Book `journals` in order; for each, False where it was booked before.

        Raises JournalConflict where (source, ref) was booked with another payload, RefusedError where a post or void
        releases more than is pending, an asset is not registered or what is reversed is not booked.
        """

    async def balances(self, chain: str, block_number: int, codes: Sequence[str] | None = None) -> list[Balance]:
        """Accounts through `block_number`, by code and asset; all of the chain's assets where `codes` is None."""

    async def balance_at(self, chain: str, code: str, asset: AssetId, block_number: int) -> int:
        """Debits minus credits posted through `block_number`; 0 for an account that was never used."""

    async def journals(self, source: str, refs: Sequence[str]) -> list[Journal]:
        """Those of `refs` that are booked, read back from their rows."""

    async def books_exactly(self, chain: str, source: str, first: int, last: int, expected: Sequence[Journal]) -> bool:
        """Whether `expected` are booked, in this order, as they are to the last field and under their own keys, and no
        other journals of `source` in blocks first … last. None of them reverses another."""


class CorrectionStore(Protocol):
    """What people asked to be put right in the books, and who answered."""

    async def ask(
        self,
        chain: str,
        reason: str,
        by: str,
        *,
        reverses: JournalKey | None = None,
        transfer: Transfer | None = None,
        break_id: int | None = None,
    ) -> int:
        """Write down what waits for another person; its number."""

    async def approve(self, correction_id: int, by: str) -> Approved:
        """Raises RefusedError where there is none, it is answered, or the one who asked is the one who approves."""

    async def refuse(self, correction_id: int, reason: str, by: str) -> None:
        """Raises RefusedError where there is none, or it is answered."""

    async def approved(self, chain: str) -> list[Approved]:
        """All that became journals, oldest first."""

    async def waiting_reversal(self, reverses: JournalKey) -> int | None:
        """The correction that asks for this reversal already."""

    async def waiting_about(self, break_id: int) -> int | None:
        """A correction that was asked for to explain this break, and waits."""

    async def journal_key(self, asked: str) -> tuple[JournalKey, str] | None:
        """(source, ref) and chain of the journal with this number, or called `SOURCE REF`."""

    async def assets_named(self, name: str) -> list[Asset]:
        """Those with this id or symbol."""

    async def break_chain(self, break_id: int) -> str | None:
        """The chain that a break is on; None where there is no such break."""


class SealStore(Protocol):
    """The hash chain over the journals."""

    async def seal(self, limit: int) -> tuple[int, Tip]:
        """Link the next journals, `limit` at most; how many these were, and where the chain ends now."""

    async def tip(self) -> Tip: ...
    async def last_sealing(self) -> Tip:
        """Where the last run said that the chain ends."""

    async def sealings(self, first: int, last: int) -> dict[int, bytes]:
        """Heads that runs noted after `first` … `last` journals."""

    def chain(self, first: int, last: int) -> AsyncGenerator[list[Sealed]]:
        """The journals at positions `first` … `last`, read anew from their rows, some at a time; positions that are
        missing are not."""

    async def waiting(self) -> int:
        """Journals that are booked and not sealed yet."""

    async def stranger(self) -> str | None:
        """Something in the books that the chain does not have, nor ever will; None where there is nothing."""

    async def walked(self, walk: Walk) -> Walked: ...
    async def ends(self, position: int) -> tuple[int, int, bytes | None]:
        """How many links there are, how many there are by what the last run said, and the head at `position`."""

    async def walk(self, walk: Walk, to: Walked, *, ended: bool = False) -> None:
        """Note how far it has come; `ended`: this was the end of a round."""

    async def books_after(
        self, place: tuple[str, int, int], limit: int
    ) -> tuple[tuple[str, int, int] | None, str | None]:
        """The last of the next `limit` journals in the order of blocks, None where the books end before; and something
        among them, or of transfers beside them, that the chain does not have, nor ever will."""

    async def faults(self) -> dict[Walk, str] | None:
        """What walks stand in front of; None where none was ever made."""

    async def unseen_fault(self) -> str | None:
        """Why nothing may be sent: the books are not as they were sealed, and no person has taken that up yet."""


class JobStore(Protocol):
    """What is due by the clock, and how far what goes round has come."""

    async def due(self, schedule: Schedule, now: int) -> int:
        """When the job is due: of its first run that is not done. Notes the job at its first use."""

    async def started(self, schedule: Schedule, now: int) -> None: ...
    async def done(self, schedule: Schedule, due: int, now: int, result: str) -> int:
        """The run that was due at `due` is done; when the next one is due."""

    async def place(self, sweep: str, chain: str) -> str:
        """The last thing that the sweep looked at; '' before the first."""

    async def move(self, sweep: str, chain: str, place: str) -> None:
        """`place` is '' where a round has ended."""

    async def partitions_ahead(self, chain: str) -> int:
        """Make the partitions that will be needed next; how many were made. Raises RetryableError where they cannot be
        made now."""

    async def close_day(self, start: int, at: BlockStamp, first: int, checks: Sequence[Check]) -> None:
        """Note what was found in the blocks first … `at` of the day that began at `start`, in seconds."""


class AuditStore(Protocol):
    """What the reconciler asks of the rows that other stages wrote."""

    async def last_looked(self, chain: str) -> int | None:
        """The block up to which runs have looked at events; None where there was none, or all must be looked at."""

    async def doubted(self, chain: str, blocks_max: int) -> list[tuple[int, int]]:
        """Blocks that breaks which are not resolved are about, in order: (after, last), each `blocks_max` at most."""

    async def empty_until(self, chain: str, code: str, asset: AssetId) -> int | None:
        """The block at which the suspense account `code` was last seen empty; None where it never was."""

    async def time(self, at: BlockStamp) -> int:
        """Seconds; of the nearest stored block before, where this one is not stored."""

    async def journals_without_log(self, chain: str, first: int, last: int, limit: int) -> list[tuple[int, str]]:
        """(block, ref) of journals that book a log which is not there, or whose block is not final."""

    async def gaps(self, chain: str, first: int, last: int) -> list[tuple[int, int]]:
        """Runs of blocks between `first` and `last` that no finalized range covers."""

    async def broken_links(self, chain: str, first: int, last: int, limit: int) -> list[int]:
        """Finalized blocks whose parent hash is not the hash of the finalized block before."""

    async def sample(self, chain: str, first: int, last: int, limit: int) -> list[Block]:
        """Stored finalized headers to ask a node for again: `last`, those in doubt, and some others by chance."""

    async def torn_journals(self, chain: str, limit: int) -> list[str]: ...
    async def chains(self) -> list[str]:
        """Those that have accounts."""

    async def kept(self, chain: str, after: int, limit: int) -> list[KeptBalance]:
        """What is kept of accounts, in the order of their ids, those after account `after`."""

    async def page_end(self, chain: str, after: tuple[int, int, int], transfers: int) -> tuple[int, int, int] | None:
        """Where the next `transfers` after `after` (block, journal, place in it) end; None where not so many follow."""

    async def added_up(
        self, chain: str, after: tuple[int, int, int], end: tuple[int, int, int] | None, accounts: tuple[int, int]
    ) -> list[tuple[int, Sums]]:
        """The sums of the transfers after `after` up to `end`, or of all, by account: of ids first … last."""

    async def unmatched(
        self, chain: str, account: tuple[str, AssetId], after: int, through: int, limit: int
    ) -> list[tuple[int, str, Log | None]]:
        """(debits − credits, journal in words, log that it books) of blocks in which the account does not net."""

    async def pending(self, at: BlockStamp) -> dict[AssetId, int]:
        """What batches in flight have put aside, in atoms."""

    async def overdrawn(self, at: BlockStamp) -> tuple[int, dict[tuple[str, AssetId], int]]:
        """How many accounts may claim; and of those that have claimed more than they were given, by how much."""

    async def settled_in(self, batches: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], int]:
        """The block in which each of `batches` was executed, as booked; those that are not booked are left out."""

    async def moves(self, chain: str, account: tuple[str, AssetId], through: int) -> list[tuple[int, int]]:
        """What `account` (code, asset) gained in each block in which it was booked: (block, debits − credits)."""

    async def account_moves(
        self, chain: str, account: tuple[str, AssetId], first: int, last: int, limit: int
    ) -> list[AccountMove]:
        """The journals that moved the account in blocks `first` to `last`, in order."""

    async def spent(self, chain: str, operator: Address, through: int, allowance_s: int) -> Spent | None:
        """None where the operator never sent anything for us."""

    async def intended(self, batches: Sequence[tuple[bytes, int]]) -> dict[tuple[bytes, int], IntendedBatch]:
        """Those of `batches` (distribution id, index) that were planned here."""

    async def ranges(self, chain: str, span: tuple[int, int], after: int, limit: int) -> list[Range]:
        """Those that end within `span` (after, last) and begin after block `after`, in order."""

    async def outcomes(self, chain: str, last: int, limit: int) -> list[tuple[bytes, int, bool]]:
        """Some batches that are over by block `last`: (distribution id, index, whether they were executed)."""

    async def slice_end(self, chain: str, after: int, last: int, logs: int) -> int:
        """How far `logs` logs after block `after` reach, at most to block `last`."""

    async def credited_after(self, chain: str, code: str, limit: int | None) -> list[str]:
        """Accounts that the distributor has ever owed something, by code, after `code`."""

    async def credited_in_doubt(self, chain: str, since: int, limit: int) -> list[str]:
        """Those of them that were moved after block `since`, `limit` at most, and those that are a break."""

    async def claimants_after(self, chain: str, code: str, limit: int | None) -> list[str]:
        """Accounts that were ever given something to claim, by code, after `code`."""

    async def claimants_in_doubt(self, chain: str, since: int, limit: int) -> list[str]:
        """Those of them that claimed after block `since`, `limit` at most, and those that are a break."""

    async def claimed(self, at: BlockStamp, codes: Sequence[str]) -> dict[tuple[str, AssetId], int]:
        """What accounts have claimed by the books, in atoms."""

    async def stored(self, chain: str, after: tuple[str, int], limit: int) -> list[Stored]:
        """Decisions by rule and start of the window, those after `after`; with all that belongs to them."""

    async def carries(self, chain: str) -> dict[tuple[str, AssetId], dict[Address, int]]:
        """What is carried now, by rule and asset."""

    async def journals_without_fact(self, chain: str, last: int, executed: Sequence[str], limit: int) -> list[str]:
        """Journals of the bridge's own deeds that it has no row for; `executed` are refs of batches with a log."""

    async def false_outcomes(self, chain: str, limit: int) -> list[str]:
        """Payouts whose outcome is not what was booked."""

    async def unjudged(self, chain: str) -> int:
        """Batches that the books say were executed, and whose payouts stages/confirm.py has not settled yet."""

    async def waiting(self, chain: str) -> list[Waiting]:
        """Batches whose intent is booked and that nothing has closed, oldest window first."""


class BreakStore(Protocol):
    async def unseen_outflow(self, chain: str) -> int | None:
        """The break of money that left without our intent and that no person has taken up yet, if there is one."""

    async def start(self) -> int:
        """Note that a run begins; one that never finishes has no verdict."""

    async def finish(self, reconciliation_id: int, checks: Sequence[Check]) -> Reconciliation:
        """Write what a run found: its checks, breaks opened, seen again or cleared, and the verdict."""

    async def unresolved(self) -> list[Break]:
        """Every break that is not resolved, oldest first."""

    async def find(self, break_id: int) -> Break:
        """Raises RefusedError where there is no such break."""


class DeadLetterStore(Protocol):
    async def record(self, stage: str, scope: str, error: str, retries: int) -> None: ...
    async def resolve(self, stage: str, scope: str) -> None: ...


class ReportStore(Protocol):
    async def facts(self, period: Window | None = None, progress: Callable[[str], None] = ...) -> Facts:
        """Everything that a report is assembled from: of all blocks up to the cut-off, or of those within `period`.

        Call it inside a snapshot. `progress` is told what is read next, in words.
        """


class StoryStore(Protocol):
    async def find(self, low: bytes, high: bytes) -> list[Match]:
        """What has an id in low … high, both included; bounded."""

    async def facts(self, decision_id: bytes) -> StoryFacts:
        """Raises LookupError where there is no such decision."""

    async def logs(
        self,
        chain: str,
        contracts: Sequence[Address],
        topic0: bytes,
        *,
        first: tuple[int, int],
        last: tuple[int, int],
        limit: int,
    ) -> list[Log]:
        """Finalized logs of one kind from position `first` to `last` (block, log index), both included, in order."""

    async def log_refs(self, chain: str, attempts: Sequence[SignedAttempt]) -> list[tuple[bytes, int, set[bytes]]]:
        """(block hash, log index, indexed fields) of every log that the included ones of `attempts` caused."""

    async def journals(self, keys: Sequence[tuple[str, str]]) -> list[JournalFact]:
        """The journals of these (source, ref), in the order of the books."""


class Transaction(Protocol):
    """One database transaction; it commits when the block that opened it ends."""

    @property
    def chains(self) -> ChainStore: ...
    @property
    def events(self) -> EventStore: ...
    @property
    def decisions(self) -> DecisionStore: ...
    @property
    def payouts(self) -> PayoutStore: ...
    @property
    def claims(self) -> ClaimStore: ...
    @property
    def interventions(self) -> InterventionStore: ...
    @property
    def confirmations(self) -> ConfirmationStore: ...
    @property
    def bookings(self) -> BookingStore: ...
    @property
    def ledger(self) -> LedgerStore: ...
    @property
    def corrections(self) -> CorrectionStore: ...
    @property
    def seals(self) -> SealStore: ...
    @property
    def jobs(self) -> JobStore: ...
    @property
    def audits(self) -> AuditStore: ...
    @property
    def breaks(self) -> BreakStore: ...
    @property
    def dead_letters(self) -> DeadLetterStore: ...
    @property
    def reports(self) -> ReportStore: ...
    @property
    def stories(self) -> StoryStore: ...


class Database(Protocol):
    def begin(self, lease: Lease | None = None) -> AbstractAsyncContextManager[Transaction]:
        """Read and write; raises LeaseLost where `lease` is not the newest epoch."""

    def snapshot(self) -> AbstractAsyncContextManager[Transaction]:
        """Read only; every statement sees the same moment."""


class Stage(Protocol):
    """One arrow of the flow."""

    name: str

    async def step(self) -> bool:
        """Do the next piece of work and commit it. True when there may be more to do at once, False when idle."""
