"""Rows as the store reads them for a report, all in one snapshot."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.domain.breaks import EXEMPT, Outcome
from bridge.domain.figures import Lag, Milestones, Tally, TrendPoint
from bridge.domain.ledger import Asset
from bridge.domain.units import AssetId
from bridge.domain.windows import Window


@dataclass(frozen=True, slots=True)
class CutOff:
    """The finalized block up to which a chain's books are reported, inclusive."""

    number: int
    hash: bytes
    timestamp: int  # seconds, as the block says


@dataclass(frozen=True, slots=True)
class ChainScope:
    chain: str
    kind: str
    reference: str  # CAIP-2
    genesis_hash: bytes
    start_block: int
    cut_off: CutOff | None  # None until a block is final
    posted_through: int | None  # the ledger's cursor; None before its first commit
    reorgs: int  # of the period, where there is one; so are the next
    blocks_orphaned: int
    opening: CutOff | None = None  # where the period before ended; None where the books begin within the period
    ended: bool = True  # a block at or after the period's end is final; True without a period


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """The last finished run; of a period: the first one that looked at all of it."""

    reconciliation_id: int
    finished_at: int  # seconds; ages of breaks are counted up to here
    verdict: str


@dataclass(frozen=True, slots=True)
class Flow:
    """The sum of all posted transfers of one kind between two accounts, up to the cut-off; of a period: within it.

    Accounts of single recipients are summed: `payable`, `owed_on_chain`, `external`; every other code is whole.
    """

    debit: str
    credit: str
    asset: AssetId
    source: str  # of the journals, up to its colon: opening, log, decision, distribution, attempt, …
    reverses: bool  # the journals reverse earlier ones
    atoms: int


@dataclass(frozen=True, slots=True)
class BalanceCheck:
    """What the chain said of one account at the cut-off, in the last reconciliation; of a period: in any one."""

    subject: str
    asset: AssetId
    actual: int | None  # None where the check was skipped


@dataclass(frozen=True, slots=True)
class CheckCount:
    level: str
    chain: str
    outcome: str  # agreed, broken, skipped
    cause: str | None
    count: int


@dataclass(frozen=True, slots=True)
class FinalizedSpan:
    """Consecutive finalized ranges that the same two providers read."""

    chain: str
    first_block: int
    last_block: int
    ranges: int
    logs: int
    read_by: str
    verified_by: str

    @property
    def independent(self) -> bool:
        return self.read_by != self.verified_by


@dataclass(frozen=True, slots=True)
class RuleVersion:
    rule: str
    version: int
    content_hash: bytes
    pay: int  # its decisions so far, by verdict
    carry: int
    nothing: int
    hold: int


@dataclass(frozen=True, slots=True)
class DistributionFact:
    distribution_id: bytes
    decision_id: bytes
    chain: str
    rule: str
    version: int
    asset: AssetId
    window_start: int  # half-open, seconds
    window_end: int
    total: int
    recipients: int
    paid: int  # recipients whose transfer arrived
    credited: int  # recipients for whom the contract keeps the amount
    claimable: int  # recipients that may claim, or have claimed
    batches: int
    state: str
    tx_ids: tuple[bytes, ...]  # included attempts in the order of the steps
    passed: Milestones | None = None


@dataclass(frozen=True, slots=True)
class BreakFact:
    break_id: int
    kind: str
    chain: str
    subject: str
    asset: AssetId | None
    amount: int | None  # chain minus books
    state: str
    opened_at: int  # seconds
    resolved_at: int | None
    resolution: str | None
    block_number: int
    block_hash: bytes
    evidence: str  # canonical JSON
    assignee: str | None = None  # who takes care of it
    detected_s: int | None = None  # from the block in which it was found to the break


@dataclass(frozen=True, slots=True)
class BreakEvent:
    """One line of a break's history."""

    break_id: int
    at: int  # seconds
    by: str  # a person, `reconciliation N`, `check N`, or a role of the database
    from_state: str | None  # None where it was opened
    to_state: str
    words: str | None


@dataclass(frozen=True, slots=True)
class CorrectionFact:
    """What a person asked to be booked: an adjustment moves an amount, a reversal undoes a journal."""

    correction_id: int
    chain: str
    reason: str
    break_id: int | None  # the break that it explains
    asked_by: str
    asked_at: int  # seconds
    reverses: str | None  # SOURCE REF of the journal
    debit: str | None
    credit: str | None
    asset: AssetId | None
    amount: int | None
    answer: str | None  # approved or refused; None while it waits for another person
    answered_by: str | None
    answered_at: int | None
    answer_reason: str | None
    block_number: int | None  # at which it was booked


@dataclass(frozen=True, slots=True)
class ValueFact:
    """Of the balances of one asset that books and chain both name, what they have in common, and the larger of both."""

    asset: AssetId
    common: int
    whole: int


@dataclass(frozen=True, slots=True)
class SealFact:
    """How far the journals of a report are linked into the hash chain of all journals."""

    chain: str
    journals: int
    sealed: int
    last_sequence: int | None  # of the newest of them that is sealed
    head: bytes | None  # of the hash chain there


@dataclass(frozen=True, slots=True)
class GasFact:
    chain: str
    transactions: int  # finalized
    reverted: int
    gas_used: int
    fees: int  # atoms of the native coin
    budget: int = 0  # what they were allowed to cost: gas limit × fee ceiling of each, and fees beside gas


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that waits for a person: a held or quarantined step, a held decision, a dead letter."""

    kind: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class HeldFact:
    """A batch that was put aside by the cut-off, and neither executed nor given up by then; that it waits for a person,
    or its proposal does, is as it stands when the report is read."""

    distribution_id: bytes
    chain: str
    rule: str
    batch_index: int
    recipients: int
    recipient: bytes | None  # where it is only one
    asset: AssetId
    amount: int
    reason: str
    since: int  # seconds


class Aside(NamedTuple):
    """Of what one asset has payable, that which is not on its way. Atoms."""

    held: int = 0  # waits for a person
    given_up: int = 0  # nothing is planned that would pay it


@dataclass(frozen=True, slots=True)
class Facts:
    chains: tuple[ChainScope, ...]
    assets: tuple[Asset, ...]
    reconciliation: Reconciliation | None
    flows: tuple[Flow, ...]
    balance_checks: tuple[BalanceCheck, ...]
    checks: tuple[CheckCount, ...]
    spans: tuple[FinalizedSpan, ...]
    rules: tuple[RuleVersion, ...]
    distributions: tuple[DistributionFact, ...]
    breaks: tuple[BreakFact, ...]
    gas: tuple[GasFact, ...]
    attention: tuple[Attention, ...]
    decided: Mapping[AssetId, int]  # Σ decisions.total, like flows: what the ledger must show as allocated
    period: Window | None = None  # None: everything up to the cut-off
    earlier: tuple[Flow, ...] = ()  # what was posted before the period
    history: tuple[BreakEvent, ...] = ()  # of `breaks`, oldest line first
    corrections: tuple[CorrectionFact, ...] = ()
    values: tuple[ValueFact, ...] = ()  # of the same run as `checks`
    seals: tuple[SealFact, ...] = ()
    lags: tuple[Lag, ...] = ()
    trend: tuple[TrendPoint, ...] = ()
    entries_automatic: int = 0  # journals that no person asked for
    entries_by_hand: int = 0
    held: tuple[HeldFact, ...] = ()
    given_up: Mapping[AssetId, int] = field(default_factory=dict)  # payable, neither put aside nor to be planned yet

    @property
    def aside(self) -> Mapping[AssetId, Aside]:
        held: defaultdict[AssetId, int] = defaultdict(int)
        for fact in self.held:
            held[fact.asset] += fact.amount
        return {asset: Aside(held[asset], self.given_up.get(asset, 0)) for asset in held.keys() | self.given_up.keys()}


def tally(checks: Sequence[CheckCount]) -> Tally:
    """All of `checks` together."""
    found = {outcome: sum(item.count for item in checks if item.outcome == outcome) for outcome in Outcome}
    exempt = sum(item.count for item in checks if is_exempt(item))
    return Tally(found[Outcome.AGREED], found[Outcome.BROKEN], found[Outcome.SKIPPED] - exempt, exempt)


def is_exempt(check: CheckCount) -> bool:
    return check.outcome == Outcome.SKIPPED and (check.cause or "").startswith(EXEMPT)


def is_adjustment(flow: Flow) -> bool:
    """Reversals and corrections that a person approved, as opposed to what the chain or a decision caused."""
    return flow.reverses or flow.source in ("adjustment", "reversal")
