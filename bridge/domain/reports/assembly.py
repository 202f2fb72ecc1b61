"""From the facts of one snapshot to the report over them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields

from bridge.domain.breaks import BreakKind
from bridge.domain.figures import Entries, ages, latencies, spread
from bridge.domain.ledger import FEES, Asset
from bridge.domain.reports.balances import CUSTODY, label, pending, roll_forward, suspense, waterfalls
from bridge.domain.reports.facts import (
    BreakEvent,
    ChainScope,
    CorrectionFact,
    DistributionFact,
    Facts,
    FinalizedSpan,
    HeldFact,
    Reconciliation,
    tally,
)
from bridge.domain.reports.report import (
    Amount,
    Break,
    Completeness,
    Correction,
    Distribution,
    Gas,
    Held,
    KeyFigures,
    Movement,
    Origin,
    Provider,
    Report,
    RollForward,
    ValueShare,
    Verdict,
)
from bridge.domain.reports.wording import limitations_of, sentence_of
from bridge.domain.units import Address, AssetId, format_address
from bridge.domain.windows import Window

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
        sentence=sentence_of(verdict, breaks, rows, facts.period, under_way),
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
        pending=pending(posted, rows, facts.aside),
        gas=_gas(facts, assets),
        checks=facts.checks,
        suspense=suspense(posted, assets),
        completeness=completeness,
        rules=facts.rules,
        attention=facts.attention,
        held=tuple(_held(fact, assets) for fact in facts.held),
        limitations=limitations_of(facts, rows, completeness),
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
