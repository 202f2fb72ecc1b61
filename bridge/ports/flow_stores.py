"""Rows of the flow: events, decisions, payouts, claims, interventions, confirmations."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from bridge.domain.accumulators import Key, Source, State
from bridge.domain.confirmations import Confirmation, Transition
from bridge.domain.decisions import Decision
from bridge.domain.events import Block, BlockAdded, ChainCursor, Finalized, Log, TimedLogs
from bridge.domain.interventions import Intervention, InterventionKind
from bridge.domain.payouts import (
    Action,
    Distribution,
    InFlight,
    Landed,
    LeftOut,
    Order,
    Payout,
    PlannedCall,
    Sender,
    Signed,
)
from bridge.domain.records import RuleText
from bridge.domain.rules import Rule, RuleStart
from bridge.domain.states import ActionState
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.domain.windows import Window


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
