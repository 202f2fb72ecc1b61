"""What finance, operations and auditors read: books against chain at a named finalized block.

    facts (rows of one snapshot) ──assemble──► Report ──► HTML, JSON, tables

A report holds no clock: its time is the time of its cut-off blocks, so the same rows give the same bytes. It is about
all that happened up to the cut-off, or about a period, which begins where the period before it ended:

    ───────────●═══════════════════════●──────────►  blocks
            opening     movements   cut-off
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from bridge.domain.breaks import EXEMPT, BreakKind, Outcome, share_ppm
from bridge.domain.figures import (
    AgeBand,
    Entries,
    Lag,
    Latencies,
    Milestones,
    Spread,
    Tally,
    TrendPoint,
    ages,
    latencies,
    spread,
)
from bridge.domain.ledger import CARRIED, FEES, OPENING, SUSPENSE_IN, SUSPENSE_OUT, UNALLOCATED, Asset
from bridge.domain.units import Address, AssetId, format_address, format_amount, format_hash
from bridge.domain.windows import Window


class Verdict(StrEnum):
    """What the last reconciliation allows us to say."""

    BALANCED = "balanced"  # it agreed, no break is open, every checked account equals the chain
    BREAKS = "breaks"  # something differs
    UNRECONCILED = "nothing reconciled yet"


# ── Values ──────────────────────────────────────────────────────────────────────────────────────────────────────────
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


def calendar_period(text: str) -> Window:
    """`2026`, `2026-11` or `2026-11-30`: a year, month or day of UTC. Raises ValueError."""
    found = _PERIOD.fullmatch(text)
    if found is None or not "1970" <= found[1] < "9999":
        raise ValueError("is not a year, month or day since 1970")
    year, month, day = (None if part is None else int(part) for part in found.groups())
    first = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
    if month is None:
        last = first.replace(year=first.year + 1)
    elif day is None:
        last = (first + timedelta(days=31)).replace(day=1)
    else:
        last = first + timedelta(days=1)
    return Window(int(first.timestamp()), int(last.timestamp()))


_PERIOD = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class CutOff:
    """The finalized block up to which a chain's books are reported, inclusive."""

    number: int
    hash: bytes
    timestamp: int  # seconds, as the block says


# ── Facts: rows as the store reads them, all in one snapshot ────────────────────────────────────────────────────────
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


# ── Report: what is printed ─────────────────────────────────────────────────────────────────────────────────────────
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


# ── Assembling ──────────────────────────────────────────────────────────────────────────────────────────────────────
CUSTODY = ("vault:", "distributor:", "claims:")
WATCHED = (*CUSTODY, "operator:")
PAYABLE, OWED, CLAIMABLE = "payable", "owed_on_chain", "claimable"


NOBODY = Origin("", None, None)


def assemble(facts: Facts, origin: Origin = NOBODY) -> Report:
    """The report over one snapshot. Raises AssertionError where the books do not add up in themselves."""
    assets = {asset.id: asset for asset in facts.assets}
    rows = roll_forward(facts.flows, facts.balance_checks, assets, facts.earlier)
    breaks = _breaks(facts, assets)
    under_way = tuple(chain.chain for chain in facts.chains if not chain.ended)
    verdict = judge(facts.reconciliation, breaks, rows, facts.period, under_way)
    posted = (*facts.earlier, *facts.flows)
    accounts = tuple(sorted({row.account for row in rows}))
    completeness = tuple(_completeness(chain, facts.spans) for chain in facts.chains)
    stamps = [chain.cut_off.timestamp for chain in facts.chains if chain.cut_off]
    return Report(
        verdict=verdict,
        sentence=_sentence(verdict, breaks, rows, facts.period, under_way),
        generated_at=max(stamps, default=None),
        reconciliation=facts.reconciliation,
        chains=facts.chains,
        assets=facts.assets,
        accounts=accounts,
        contracts=tuple(account for account in accounts if account.startswith(CUSTODY)),
        roll_forward=rows,
        waterfalls=waterfalls(facts.flows, facts.decided, assets, facts.earlier, facts.aside),
        distributions=tuple(_distribution(fact, assets) for fact in facts.distributions),
        breaks=breaks,
        pending=_pending(posted, rows, facts.aside),
        gas=_gas(facts, assets),
        checks=facts.checks,
        suspense=_suspense(posted, assets),
        completeness=completeness,
        rules=facts.rules,
        attention=facts.attention,
        held=tuple(_held(fact, assets) for fact in facts.held),
        limitations=_limitations(facts, rows, completeness),
        period=facts.period,
        movements=tuple(
            Movement(flow.debit, flow.credit, flow.source, flow.reverses, Amount(flow.atoms, label(flow.asset, assets)))
            for flow in facts.flows
        ),
        key_figures=_key_figures(facts, breaks, assets),
        corrections=tuple(_correction(fact, assets) for fact in facts.corrections),
        providers=_providers(facts.spans),
        disagreements=tuple(item.break_id for item in breaks if item.kind == BreakKind.PROVIDER_DISAGREEMENT),
        seals=facts.seals,
        origin=origin,
    )


def _key_figures(facts: Facts, breaks: Sequence[Break], assets: Mapping[AssetId, Asset]) -> KeyFigures:
    opened = [item for item in breaks if item.open]
    return KeyFigures(
        checks=tally(facts.checks),
        values=tuple(
            ValueShare(Amount(item.common, label(item.asset, assets)), Amount(item.whole, label(item.asset, assets)))
            for item in facts.values
        ),
        entries=Entries(facts.entries_automatic, facts.entries_by_hand, len(opened)),
        latencies=latencies([item.passed for item in facts.distributions if item.passed is not None]),
        detect_s=spread(item.detected_s for item in breaks if item.detected_s is not None),
        resolve_s=spread(item.age_s for item in breaks if not item.open and item.age_s is not None),
        open_by_age=ages(item.age_s for item in opened if item.age_s is not None),
        lags=facts.lags,
        trend=facts.trend,
    )


def tally(checks: Sequence[CheckCount]) -> Tally:
    """All of `checks` together."""
    found = {outcome: sum(item.count for item in checks if item.outcome == outcome) for outcome in Outcome}
    exempt = sum(item.count for item in checks if is_exempt(item))
    return Tally(found[Outcome.AGREED], found[Outcome.BROKEN], found[Outcome.SKIPPED] - exempt, exempt)


def is_exempt(check: CheckCount) -> bool:
    return check.outcome == Outcome.SKIPPED and (check.cause or "").startswith(EXEMPT)


def _correction(fact: CorrectionFact, assets: Mapping[AssetId, Asset]) -> Correction:
    amount = None
    if fact.amount is not None and fact.asset is not None:
        amount = Amount(fact.amount, label(fact.asset, assets))
    values = {item.name: getattr(fact, item.name) for item in fields(fact) if item.name not in ("asset", "amount")}
    return Correction(**values, amount=amount)


def _providers(spans: Sequence[FinalizedSpan]) -> tuple[Provider, ...]:
    named = sorted({(span.chain, name) for span in spans for name in (span.read_by, span.verified_by)})
    return tuple(
        Provider(
            chain,
            name,
            ranges_read=sum(span.ranges for span in spans if (span.chain, span.read_by) == (chain, name)),
            ranges_verified=sum(span.ranges for span in spans if (span.chain, span.verified_by) == (chain, name)),
        )
        for chain, name in named
    )


def judge(
    reconciliation: Reconciliation | None,
    breaks: Sequence[Break],
    rows: Sequence[RollForward],
    period: Window | None = None,
    under_way: Sequence[str] = (),
) -> Verdict:
    """Balanced only where the last reconciliation says so and nothing that the report itself shows contradicts it.

    A period's run has its verdict from the day it was made; what it found is in `breaks`, and may be resolved since.
    `under_way`: chains of which no block after the period is final. Nobody can have looked at all of it yet.
    """
    if reconciliation is None:
        return Verdict.UNRECONCILED
    differs = any(row.difference is not None and row.difference.atoms for row in rows)
    denied = period is None and reconciliation.verdict != "balanced"
    if denied or differs or any(item.open for item in breaks):
        return Verdict.BREAKS
    return Verdict.UNRECONCILED if under_way else Verdict.BALANCED


def is_adjustment(flow: Flow) -> bool:
    """Reversals and corrections that a person approved, as opposed to what the chain or a decision caused."""
    return flow.reverses or flow.source in ("adjustment", "reversal")


def roll_forward(
    flows: Sequence[Flow],
    checks: Sequence[BalanceCheck],
    assets: Mapping[AssetId, Asset],
    earlier: Sequence[Flow] = (),
) -> tuple[RollForward, ...]:
    """One row for each watched account and asset that was ever moved or checked, by account then asset.

    What came of `earlier` flows is the opening. Books that are opened within a period open with what was held then.
    """
    posted = (*earlier, *flows)
    moved = {(code, flow.asset) for flow in posted for code in (flow.debit, flow.credit) if code.startswith(WATCHED)}
    actual = {(check.subject, check.asset): check.actual for check in checks if check.subject.startswith(WATCHED)}
    return tuple(
        _roll(account, label(asset, assets), flows, earlier, actual.get((account, asset)))
        for account, asset in sorted(moved | set(actual))
    )


def unread(facts: Facts) -> tuple[tuple[str, AssetId], ...]:
    """Watched accounts and assets of the roll-forward of which no check says what the chain held at the cut-off."""
    rows = roll_forward(facts.flows, facts.balance_checks, {asset.id: asset for asset in facts.assets}, facts.earlier)
    return tuple((row.account, row.closing.asset.id) for row in rows if row.on_chain is None)


def _roll(
    account: str, asset: Asset, flows: Sequence[Flow], earlier: Sequence[Flow], on_chain: int | None
) -> RollForward:
    columns: defaultdict[str, int] = defaultdict(int)
    # A watched account mirrors the chain: what it holds is debits − credits.
    held = -_balances(flow for flow in earlier if flow.asset == asset.id)[account]
    columns["opening"] = columns["closing"] = held
    for flow in flows:
        if flow.asset != asset.id or account not in (flow.debit, flow.credit):
            continue
        debit = flow.debit == account  # what it receives
        signed = flow.atoms if debit else -flow.atoms
        if flow.source == "opening":
            columns["opening"] += signed
        elif is_adjustment(flow):
            columns["adjustments"] += signed
        elif (flow.credit if debit else flow.debit).startswith("expense:"):
            columns["fees"] -= signed
        else:
            columns["received" if debit else "sent"] += flow.atoms
        columns["closing"] += signed
    amount = {
        name: Amount(columns[name], asset) for name in ("opening", "received", "sent", "fees", "adjustments", "closing")
    }
    return RollForward(
        account=account,
        **amount,
        on_chain=None if on_chain is None else Amount(on_chain, asset),
        difference=None if on_chain is None else Amount(on_chain - columns["closing"], asset),
    )


def waterfalls(
    flows: Sequence[Flow],
    decided: Mapping[AssetId, int],
    assets: Mapping[AssetId, Asset],
    earlier: Sequence[Flow] = (),
    aside: Mapping[AssetId, Aside] = MappingProxyType({}),
) -> tuple[Waterfall, ...]:
    """One waterfall for each asset in which surplus was found, allocated or held when the books were opened.

    Of what is payable, all that is not `aside` is in flight.

    Sums over flows and balances of accounts are taken apart from each other; the Waterfall asserts that they meet.
    """
    # The operator's coin for gas is opened like any balance, but it is nobody's surplus.
    own, before = (
        [flow for flow in some if not (flow.source == "opening" and flow.debit.startswith("operator:"))]
        for some in (flows, earlier)
    )
    touched = {flow.asset for flow in (*before, *own) if {_place(flow.debit), _place(flow.credit)} != {"outside"}}
    return tuple(
        _waterfall(assets[asset], own, before, decided.get(asset, 0), aside.get(asset, Aside()))
        for asset in sorted(touched)
    )


def _waterfall(asset: Asset, flows: Sequence[Flow], earlier: Sequence[Flow], decided: int, aside: Aside) -> Waterfall:
    own = [flow for flow in flows if flow.asset == asset.id]
    before = [flow for flow in earlier if flow.asset == asset.id]
    start = _balances(before)
    sums: defaultdict[str, int] = defaultdict(int, opening=start[UNALLOCATED] + start[CARRIED] + start[OPENING])
    for flow in own:
        for name, sign in _steps(flow):
            sums[name] += sign * flow.atoms
    balance = _balances((*before, *own))
    named = {
        name: Amount(sums[name], asset)
        for name in ("opening", "earned", "adjustments", "allocated", "paid", "credited", "claimable")
    }
    return Waterfall(
        asset=asset,
        **named,
        in_flight=Amount(balance[PAYABLE] - sum(aside), asset),
        held=Amount(aside.held, asset),
        given_up=Amount(aside.given_up, asset),
        carried=Amount(balance[CARRIED], asset),
        # Decisions take what the opening held from surplus:unallocated too: only both together are what is left.
        unallocated=Amount(balance[UNALLOCATED] + balance[OPENING], asset),
        decided=Amount(decided, asset),
        promised=Amount(start[PAYABLE], asset),
    )


def _steps(flow: Flow) -> list[tuple[str, int]]:
    """Which steps of the waterfall a flow belongs to, with its sign.

    outside ─► surplus          opening, earned, or an adjustment
    surplus ─► payable          allocated              payable ─► surplus      allocated, back
    payable ─► suspense:out     paid                   suspense:out ─► payable paid, back
    payable ─► owed_on_chain    credited               owed_on_chain ─► payable credited, back
    payable ─► claimable        claimable              claimable ─► payable     claimable, back
    outside ─► payable          an adjustment that is allocated at once; and back
    inside surplus, or outside only: no step
    """
    gains, loses = _place(flow.credit), _place(flow.debit)  # credits add to liabilities, debits take from them
    if gains == loses:
        return []
    if {gains, loses} == {"surplus", "payable"}:
        return [("allocated", 1 if gains == "payable" else -1)]
    if "payable" in (gains, loses):
        sign = 1 if loses == "payable" else -1
        step = {OWED: "credited", CLAIMABLE: "claimable", SUSPENSE_OUT: "paid"}.get(
            flow.credit if sign == 1 else flow.debit
        )
        return [(step, sign)] if step else [("allocated", -sign), ("adjustments", -sign)]
    if loses == "surplus":
        return [("adjustments", -1)]
    if flow.source == "opening":
        return [("opening", 1)]
    return [("earned" if flow.credit == UNALLOCATED and not is_adjustment(flow) else "adjustments", 1)]


def _place(code: str) -> str:
    if code in (UNALLOCATED, CARRIED, OPENING):
        return "surplus"
    return "payable" if code == PAYABLE else "outside"


def _balances(flows: Iterable[Flow]) -> defaultdict[str, int]:
    """credits − debits by account code."""
    balance: defaultdict[str, int] = defaultdict(int)
    for flow in flows:
        balance[flow.credit] += flow.atoms
        balance[flow.debit] -= flow.atoms
    return balance


def _pending(
    flows: Sequence[Flow], rows: Sequence[RollForward], aside: Mapping[AssetId, Aside]
) -> tuple[PendingBridge, ...]:
    custody = [row for row in rows if row.account.startswith(CUSTODY)]
    bridges = []
    for asset in sorted({row.closing.asset for row in custody}, key=lambda asset: asset.id):
        own = [row for row in custody if row.closing.asset == asset]
        balance = _balances(flow for flow in flows if flow.asset == asset.id)
        waits = aside.get(asset.id, Aside())
        ledger = sum(row.closing.atoms for row in own)
        read = [row.on_chain.atoms for row in own if row.on_chain is not None]
        chain = sum(read) if len(read) == len(own) else None
        bridges.append(
            PendingBridge(
                asset=asset,
                free=Amount(ledger - balance[PAYABLE] - balance[OWED] - balance[CLAIMABLE], asset),
                in_flight=Amount(balance[PAYABLE] - sum(waits), asset),
                held=Amount(waits.held, asset),
                given_up=Amount(waits.given_up, asset),
                owed=Amount(balance[OWED] + balance[CLAIMABLE], asset),
                ledger=Amount(ledger, asset),
                chain=None if chain is None else Amount(chain, asset),
                difference=None if chain is None else Amount(chain - ledger, asset),
            )
        )
    return tuple(bridges)


def _suspense(flows: Sequence[Flow], assets: Mapping[AssetId, Asset]) -> tuple[Suspense, ...]:
    found = []
    for asset_id in sorted({flow.asset for flow in flows}):
        own = [flow for flow in flows if flow.asset == asset_id]
        touched = {code for flow in own for code in (flow.debit, flow.credit)}
        balance = _balances(own)
        found += [
            Suspense(code, Amount(balance[code], assets[asset_id]))
            for code in (SUSPENSE_IN, SUSPENSE_OUT)
            if code in touched
        ]
    return tuple(found)


def _gas(facts: Facts, assets: Mapping[AssetId, Asset]) -> tuple[Gas, ...]:
    found = []
    for fact in facts.gas:
        native = next((a for a in assets.values() if a.chain == fact.chain and a.address is None), None)
        # A chain whose native coin the ledger has not seen yet: its atoms can be said, its symbol cannot.
        asset = native or label(AssetId(f"{fact.chain}/native"), {})
        booked = sum(
            flow.atoms if flow.debit in FEES else -flow.atoms
            for flow in facts.flows
            if flow.asset == asset.id and (flow.debit in FEES) != (flow.credit in FEES)
        )
        found.append(
            Gas(
                fact.chain,
                fact.transactions,
                fact.reverted,
                fact.gas_used,
                fees=Amount(fact.fees, asset),
                booked=Amount(booked, asset),
                difference=Amount(booked - fact.fees, asset),
                budget=Amount(fact.budget, asset),
            )
        )
    return tuple(found)


def _held(fact: HeldFact, assets: Mapping[AssetId, Asset]) -> Held:
    return Held(
        distribution_id=fact.distribution_id,
        chain=fact.chain,
        rule=fact.rule,
        batch_index=fact.batch_index,
        recipients=fact.recipients,
        recipient=None if fact.recipient is None else format_address(Address(fact.recipient)),
        amount=Amount(fact.amount, label(fact.asset, assets)),
        reason=fact.reason,
        since=fact.since,
    )


def _distribution(fact: DistributionFact, assets: Mapping[AssetId, Asset]) -> Distribution:
    return Distribution(
        distribution_id=fact.distribution_id,
        decision_id=fact.decision_id,
        chain=fact.chain,
        rule=fact.rule,
        version=fact.version,
        window_start=fact.window_start,
        window_end=fact.window_end,
        total=Amount(fact.total, label(fact.asset, assets)),
        recipients=fact.recipients,
        paid=fact.paid,
        credited=fact.credited,
        claimable=fact.claimable,
        batches=fact.batches,
        state=fact.state,
        tx_hashes=fact.tx_ids,
        passed=fact.passed,
    )


def label(asset: AssetId, assets: Mapping[AssetId, Asset]) -> Asset:
    """The asset as the ledger knows it; before its first journal, its id stands for the symbol and atoms are whole."""
    return assets.get(asset) or Asset(asset, asset.split("/", 1)[0], None, asset.rsplit("/", 1)[-1], 0)


def _breaks(facts: Facts, assets: Mapping[AssetId, Asset]) -> tuple[Break, ...]:
    """Open ones first, oldest first in each group."""
    asof = facts.reconciliation.finished_at if facts.reconciliation else None
    lines: defaultdict[int, list[BreakEvent]] = defaultdict(list)
    for event in facts.history:
        lines[event.break_id].append(event)
    found = []
    for fact in sorted(facts.breaks, key=lambda item: (item.state == "resolved", item.break_id)):
        end = asof if fact.resolved_at is None else fact.resolved_at
        amount = None
        if fact.amount is not None and fact.asset is not None:
            amount = Amount(fact.amount, label(fact.asset, assets))
        found.append(
            Break(
                break_id=fact.break_id,
                kind=fact.kind,
                chain=fact.chain,
                subject=fact.subject,
                amount=amount,
                state=fact.state,
                opened_at=fact.opened_at,
                age_s=None if end is None else max(0, end - fact.opened_at),
                resolution=fact.resolution,
                block_number=fact.block_number,
                block_hash=fact.block_hash,
                evidence=fact.evidence,
                assignee=fact.assignee,
                detected_s=fact.detected_s,
                history=tuple(lines[fact.break_id]),
            )
        )
    return tuple(found)


def _completeness(chain: ChainScope, spans: Sequence[FinalizedSpan]) -> Completeness:
    """Gaps between start_block, or the period's first block, and the cut-off that no finalized range covers.

    start_block            gap                 cut_off
    ─────●═════════════════○○○○═════════════════●──────
    """
    own = sorted((span for span in spans if span.chain == chain.chain), key=lambda span: span.first_block)
    gaps = []
    expected = chain.start_block if chain.opening is None else max(chain.start_block, chain.opening.number + 1)
    for span in own:
        if span.first_block > expected:
            gaps.append((expected, span.first_block - 1))
        expected = max(expected, span.last_block + 1)
    if chain.cut_off and expected <= chain.cut_off.number:
        gaps.append((expected, chain.cut_off.number))
    return Completeness(
        chain=chain.chain,
        spans=tuple(own),
        gaps=tuple(gaps),
        independent=all(span.independent for span in own),
        logs=sum(span.logs for span in own),
    )


def _sentence(
    verdict: Verdict,
    breaks: Sequence[Break],
    rows: Sequence[RollForward],
    period: Window | None,
    under_way: Sequence[str],
) -> str:
    checked = [row for row in rows if row.on_chain is not None]
    if under_way and verdict is Verdict.UNRECONCILED:
        return (
            f"This period has not ended on {' and '.join(under_way)}: no block after it is final there. "
            "No break of it is known, and no statement can be made about all of it."
        )
    if period is not None and verdict is Verdict.UNRECONCILED:
        return "This period has not been reconciled to its end: no statement can be made about books and chain."
    if period is not None and verdict is Verdict.BALANCED:
        return (
            f"This period was reconciled to its end and no break of it is open; {len(checked):,} of "
            f"{count_of(len(rows), 'watched balance')} read at the cut-off itself, equal to the last unit."
        )
    if verdict is Verdict.UNRECONCILED:
        return "Nothing has been reconciled yet: no statement can be made about books and chain."
    if verdict is Verdict.BALANCED:
        return (
            f"Books and chain agree: {count_of(len(checked), 'watched balance')} equal to the last unit"
            f"{'' if len(checked) == len(rows) else f', {len(rows) - len(checked)} not checked'}, no break is open."
        )
    opened = sum(item.open for item in breaks)
    differ = sum(bool(row.difference and row.difference.atoms) for row in checked)
    parts = [f"{count_of(opened, 'break')} open"] if opened else []
    parts += (
        [f"{count_of(differ, 'watched balance')} {'differs' if differ == 1 else 'differ'} from the chain"]
        if differ
        else []
    )
    return f"Books and chain do not agree: {' and '.join(parts) or 'the last reconciliation found differences'}."


def count_of(number: int, noun: str) -> str:
    """`1 break`, `2 breaks`, `3 batches`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}{'es' if noun.endswith(('ch', 's')) else 's'}"


def _limitations(facts: Facts, rows: Sequence[RollForward], completeness: Sequence[Completeness]) -> tuple[str, ...]:
    """What a reader must not conclude from this report."""
    found = []
    for item in completeness:
        if item.spans and not item.independent:
            found.append(
                f"{item.chain}: blocks were read and verified by the same provider; the second read is not independent."
            )
        found += [f"{item.chain}: blocks {first} to {last} were not read as final." for first, last in item.gaps]
    for chain in facts.chains:
        if chain.cut_off and (chain.posted_through is None or chain.posted_through < chain.cut_off.number):
            upto = "nothing" if chain.posted_through is None else f"block {chain.posted_through}"
            found.append(f"{chain.chain}: the ledger is booked through {upto}, the cut-off is {chain.cut_off.number}.")
    found += [
        f"{chain.chain}: no block at or after the end of the period is final yet; its figures may still grow."
        for chain in facts.chains
        if not chain.ended
    ]
    unread = [row for row in rows if row.on_chain is None]
    if unread:
        where = "in the last reconciliation" if facts.period is None else "at the block that ends the period"
        found.append(f"{count_of(len(unread), 'watched balance')} had no on-chain reading {where}.")
    skipped = tally(facts.checks).skipped
    if skipped:
        found.append(f"{count_of(skipped, 'check')} skipped, with the causes listed under “Checks”.")
    unsealed = sum(item.journals - item.sealed for item in facts.seals)
    if unsealed:
        found.append(f"{count_of(unsealed, 'journal')} not sealed into the hash chain when the report was read.")
    found.append("Movements of a native coin that emit no log show as a balance difference, not as an event.")
    found.append(
        "States of distributions, what is held, and breaks, are as they stood when the report was read; books end at "
        "the cut-off."
    )
    if facts.period is not None:
        found.append(
            "Of distributions only those decided within the period are listed; what waits for a person is today's."
        )
    return tuple(found)


_OF_ONE_ASSET = (RollForward, Movement, Suspense, Distribution, Held, Break, Gas, Correction, ValueShare)
"""Rows whose amounts are of one asset: its id stands beside them in JSON, where an amount is atoms alone."""


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def to_json(value: object) -> object:
    """Plain lists, dicts, strings and numbers; amounts are strings of atoms, hashes and ids are as format_hash
    has them.

    Raises TypeError for anything that has no such form, a float above all.
    """
    match value:
        case None | bool() | int() | str():
            return value
        case bytes():
            return format_hash(value)
        case Amount():
            return str(value.atoms)
        case tuple() | list():
            return [to_json(item) for item in value]
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
    if is_dataclass(value):
        found = {item.name: to_json(getattr(value, item.name)) for item in fields(value)}
        if isinstance(value, _OF_ONE_ASSET):
            amounts = (getattr(value, item.name) for item in fields(value))
            found["asset"] = next((amount.asset.id for amount in amounts if isinstance(amount, Amount)), None)
        if isinstance(value, Asset) and value.address is not None:
            found["address"] = format_address(value.address)
        return found
    raise TypeError(f"{type(value).__name__} has no form in JSON")
