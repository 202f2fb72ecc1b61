"""What is printed: a report, and the rows of its sections."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from bridge.domain.breaks import share_ppm
from bridge.domain.figures import AgeBand, Entries, Lag, Latencies, Milestones, Spread, Tally, TrendPoint
from bridge.domain.ledger import Asset
from bridge.domain.reports.facts import (
    Attention,
    BreakEvent,
    ChainScope,
    CheckCount,
    FinalizedSpan,
    Reconciliation,
    RuleVersion,
    SealFact,
)
from bridge.domain.units import format_amount
from bridge.domain.windows import Window


class Verdict(StrEnum):
    """What the last reconciliation allows us to say."""

    BALANCED = "balanced"  # it agreed, no break is open, every checked account equals the chain
    BREAKS = "breaks"  # something differs
    UNRECONCILED = "nothing reconciled yet"


@dataclass(frozen=True, slots=True)
class Amount:
    """Atoms of an asset; signed, for differences can be negative."""

    atoms: int
    asset: Asset

    @property
    def text(self) -> str:
        """With decimals, every digit kept, without the symbol."""
        return format_amount(self.atoms, self.asset.decimals)

    def __str__(self) -> str:
        return f"{self.text} {self.asset.symbol}"


@dataclass(frozen=True, slots=True)
class RollForward:
    """One watched account in one asset: opening + received − sent − fees + adjustments = closing."""

    account: str
    opening: Amount
    received: Amount
    sent: Amount
    fees: Amount
    adjustments: Amount  # signed
    closing: Amount
    on_chain: Amount | None  # None where the last reconciliation did not read it
    difference: Amount | None  # on_chain − closing

    def __post_init__(self) -> None:
        moved = self.received.atoms - self.sent.atoms - self.fees.atoms + self.adjustments.atoms
        assert self.opening.atoms + moved == self.closing.atoms, f"{self.account} does not roll forward"


@dataclass(frozen=True, slots=True)
class Waterfall:
    """Where an asset's surplus came from and where it is.

    opening + earned + adjustments = allocated + carried + unallocated
                         promised + └─ = paid + credited + claimable + in_flight + held + given_up
    """

    asset: Asset
    opening: Amount  # held when the books were opened; of a period: carried and unallocated at its start
    earned: Amount
    adjustments: Amount  # signed
    allocated: Amount
    paid: Amount
    credited: Amount  # refused by the recipient, kept for it by the contract
    claimable: Amount  # in a tree that its accounts claim from, whether they have or not
    in_flight: Amount  # decided, not yet final on chain
    held: Amount  # decided, and waits for a person
    given_up: Amount  # owed to recipients, and no payment is on its way
    carried: Amount  # too small to pay yet, or more than a guardrail lets through
    unallocated: Amount
    decided: Amount  # the same as allocated, counted from the decisions instead of the ledger
    promised: Amount  # allocated before the period and not paid at its start; zero without a period

    def __post_init__(self) -> None:
        sources = self.opening.atoms + self.earned.atoms + self.adjustments.atoms
        assert sources == self.allocated.atoms + self.carried.atoms + self.unallocated.atoms, "the waterfall leaks"
        landed = self.paid.atoms + self.credited.atoms + self.claimable.atoms
        waiting = self.in_flight.atoms + self.held.atoms + self.given_up.atoms
        assert self.promised.atoms + self.allocated.atoms == landed + waiting, (
            "what was allocated is not what was paid, kept for others, in flight, held or given up"
        )

    @property
    def undecided(self) -> Amount:
        """Allocated in the ledger minus decided: not zero where a decision is not booked, or booked otherwise."""
        return Amount(self.allocated.atoms - self.decided.atoms, self.asset)


@dataclass(frozen=True, slots=True)
class Movement:
    """A flow as it is printed: the roll-forward is made of those that touch a watched account."""

    debit: str
    credit: str
    source: str
    reverses: bool
    amount: Amount


@dataclass(frozen=True, slots=True)
class PendingBridge:
    """What the custody accounts (our contracts) hold, by whom it is for: free + in_flight + held + given_up + owed =
    ledger."""

    asset: Asset
    free: Amount
    in_flight: Amount  # promised to recipients, not yet final on chain
    held: Amount  # promised to recipients, and waits for a person
    given_up: Amount  # promised to recipients, and no payment is on its way
    owed: Amount  # credited or claimable, waiting to be withdrawn or claimed
    ledger: Amount
    chain: Amount | None
    difference: Amount | None  # chain − ledger

    def __post_init__(self) -> None:
        promised = self.in_flight.atoms + self.held.atoms + self.given_up.atoms
        assert self.free.atoms + promised + self.owed.atoms == self.ledger.atoms, "the bridge has a hole"


@dataclass(frozen=True, slots=True)
class Suspense:
    account: str
    balance: Amount  # credits − debits; zero when everything is explained


@dataclass(frozen=True, slots=True)
class Held:
    """A batch that waits for a person."""

    distribution_id: bytes
    chain: str
    rule: str
    batch_index: int
    recipients: int
    recipient: str | None  # where it is only one
    amount: Amount
    reason: str
    since: int  # seconds


@dataclass(frozen=True, slots=True)
class Distribution:
    distribution_id: bytes
    decision_id: bytes
    chain: str
    rule: str
    version: int
    window_start: int
    window_end: int
    total: Amount
    recipients: int
    paid: int
    credited: int
    claimable: int
    batches: int
    state: str
    tx_hashes: tuple[bytes, ...]
    passed: Milestones | None


@dataclass(frozen=True, slots=True)
class Break:
    break_id: int
    kind: str
    chain: str
    subject: str
    amount: Amount | None
    state: str
    opened_at: int
    age_s: int | None  # None before the first finished reconciliation
    resolution: str | None
    block_number: int
    block_hash: bytes
    evidence: str
    assignee: str | None
    detected_s: int | None  # from its block until it was found
    history: tuple[BreakEvent, ...]

    @property
    def open(self) -> bool:
        return self.state != "resolved"


@dataclass(frozen=True, slots=True)
class Correction:
    """An adjustment or a reversal, with the two people it takes."""

    correction_id: int
    chain: str
    reason: str
    break_id: int | None
    asked_by: str
    asked_at: int
    reverses: str | None
    debit: str | None
    credit: str | None
    amount: Amount | None
    answer: str | None
    answered_by: str | None
    answered_at: int | None
    answer_reason: str | None
    block_number: int | None


@dataclass(frozen=True, slots=True)
class Gas:
    chain: str
    transactions: int
    reverted: int
    gas_used: int
    fees: Amount  # as receipts say
    booked: Amount  # as the ledger says
    difference: Amount  # booked − fees
    budget: Amount  # what they were allowed to cost

    @property
    def spent_ppm(self) -> int:
        """Of the budget."""
        return share_ppm(self.fees.atoms, self.budget.atoms)


@dataclass(frozen=True, slots=True)
class Completeness:
    """Which finalized blocks of a chain were read, and by whom."""

    chain: str
    spans: tuple[FinalizedSpan, ...]
    gaps: tuple[tuple[int, int], ...]  # first and last missing block, both included
    independent: bool  # every span was verified by a provider other than the one that read it
    logs: int


@dataclass(frozen=True, slots=True)
class Provider:
    """An endpoint, by the name that it has in our rows, and what it was asked for."""

    chain: str
    name: str
    ranges_read: int
    ranges_verified: int


@dataclass(frozen=True, slots=True)
class ValueShare:
    common: Amount
    whole: Amount

    @property
    def ppm(self) -> int:
        return share_ppm(self.common.atoms, self.whole.atoms)


@dataclass(frozen=True, slots=True)
class KeyFigures:
    checks: Tally  # of the run that the report rests on
    values: tuple[ValueShare, ...]  # of the same run, by asset
    entries: Entries
    latencies: Latencies
    detect_s: Spread  # from the block of a break until it was found
    resolve_s: Spread  # from then until it was resolved
    open_by_age: tuple[AgeBand, ...]
    lags: tuple[Lag, ...]
    trend: tuple[TrendPoint, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """What made the report. A report over the same rows by another program may read otherwise."""

    version: str
    code_sha256: str | None  # over the program's own files; None where nobody said
    config_sha256: str | None  # of the bytes of the configuration file


@dataclass(frozen=True, slots=True)
class Report:
    verdict: Verdict
    sentence: str
    generated_at: int | None  # latest cut-off, seconds; None before any block is final
    reconciliation: Reconciliation | None
    chains: tuple[ChainScope, ...]
    assets: tuple[Asset, ...]
    accounts: tuple[str, ...]  # watched, as in the roll-forward
    contracts: tuple[str, ...]  # the watched accounts that are contracts of ours
    roll_forward: tuple[RollForward, ...]
    waterfalls: tuple[Waterfall, ...]
    distributions: tuple[Distribution, ...]
    breaks: tuple[Break, ...]
    pending: tuple[PendingBridge, ...]
    gas: tuple[Gas, ...]
    checks: tuple[CheckCount, ...]
    suspense: tuple[Suspense, ...]
    completeness: tuple[Completeness, ...]
    rules: tuple[RuleVersion, ...]
    attention: tuple[Attention, ...]
    held: tuple[Held, ...]
    limitations: tuple[str, ...]
    period: Window | None
    movements: tuple[Movement, ...]
    key_figures: KeyFigures
    corrections: tuple[Correction, ...]
    providers: tuple[Provider, ...]
    disagreements: tuple[int, ...]  # the breaks that are about what endpoints say
    seals: tuple[SealFact, ...]
    origin: Origin

    @property
    def open_breaks(self) -> tuple[Break, ...]:
        return tuple(item for item in self.breaks if item.open)
