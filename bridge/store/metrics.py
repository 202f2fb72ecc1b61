"""What there is to watch: the figures of `bridge status`, as samples. Read on each scrape, kept nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from bridge.domain.breaks import AGE_BANDS
from bridge.domain.conditions import Condition, ConditionName
from bridge.domain.figures import Spread
from bridge.runtime.metrics import Sample
from bridge.store.status import Performance, Status

if TYPE_CHECKING:
    from bridge.store.database import Transaction


async def read_metrics(transaction: Transaction, included_within: Mapping[str, int]) -> list[Sample]:
    """Call it inside a snapshot; `included_within`: by chain, how many blocks a transaction may take."""
    status = await transaction.status.read()
    performance = await transaction.status.performance()
    conditions = await transaction.conditions.read(included_within)
    letters = await transaction.dead_letters.open()
    return [
        *_chains(status),
        *_work(status, conditions, len(letters)),
        *_consistency(status),
        *_performance(performance),
    ]


def _chains(status: Status) -> Iterator[Sample]:
    for chain in status.chains:
        labels = {"chain": chain.chain}
        told = (
            ("bridge_head_block", "Newest block that was read.", chain.head_number),
            ("bridge_finalized_block", "Newest block that is final here.", chain.finalized_number),
            ("bridge_head_lag_blocks", "Blocks that the node has and we have not.", chain.lag_blocks),
            ("bridge_reorganisations", "Reorganisations that were followed.", chain.reorgs),
        )
        yield from (Sample(name, words, value, labels) for name, words, value in told if value is not None)
    for cursor in status.cursors:
        labels = {"stage": cursor.stage, "scope": cursor.scope}
        yield Sample("bridge_stage_block", "Block up to which a stage is done.", cursor.block_number, labels)


def _work(status: Status, conditions: list[Condition], letters: int) -> Iterator[Sample]:
    for state, count in status.distributions.items():
        yield Sample("bridge_distributions", "Distributions by state.", count, {"state": state})
    for outcome, count in status.payouts.items():
        yield Sample("bridge_payouts", "Payouts by outcome.", count, {"outcome": outcome})
    for item in status.held:
        labels = {"chain": item.chain, "asset": item.asset, "symbol": item.symbol}
        yield Sample("bridge_held_atoms", "Put aside for payouts that wait for a person.", item.amount, labels)
    yield Sample("bridge_waiting", "Steps, decisions and rules that wait with a reason.", len(status.waiting))
    yield Sample("bridge_dead_letters", "Work that was given up after its retries.", letters)
    for name in ConditionName:
        held = sum(condition.name is name for condition in conditions)
        yield Sample("bridge_conditions", "What calls for a person, by name.", held, {"condition": str(name)})


def _consistency(status: Status) -> Iterator[Sample]:
    for kind, count in status.breaks.items():
        yield Sample("bridge_open_breaks", "Breaks that are not resolved, by kind.", count, {"kind": kind})
    for band in AGE_BANDS:
        count = status.break_ages.get(band, 0)
        yield Sample("bridge_open_breaks_by_age", "Breaks that are not resolved, by age.", count, {"age": band})
    told = status.consistency
    if status.reconciled is not None:
        verdict, at = status.reconciled
        yield Sample("bridge_reconciled_timestamp_seconds", "When the last run ended.", int(at.timestamp()))
        yield Sample("bridge_balanced", "1 where the last run found books and chain alike.", int(verdict == "balanced"))
        counts = (("agreed", told.agreed), ("broken", told.broken), ("skipped", told.skipped), ("exempt", told.exempt))
        for outcome, count in counts:
            yield Sample("bridge_checks", "Checks of the last run by outcome.", count, {"outcome": outcome})
        yield Sample("bridge_consistency_ppm", "Checks that agree, of those judged, millionths.", told.agreed_ppm)
        yield Sample("bridge_coverage_ppm", "Checks that could be judged, millionths.", told.coverage_ppm)
    for value in told.values:
        labels = {"asset": value.asset, "symbol": value.symbol}
        words = "Value that books and chain have in common, millionths."
        yield Sample("bridge_value_consistency_ppm", words, value.ppm, labels)
    for name, times in (("detect", told.detect_s), ("resolve", told.resolve_s)):
        words = f"Time to {name} a break."
        if times is not None:
            yield from _quantiles(f"bridge_break_{name}_seconds", words, times, {})


def _performance(told: Performance) -> Iterator[Sample]:
    yield Sample("bridge_auto_match_ppm", "Newest entries that needed no person, millionths.", told.entries.matched_ppm)
    spreads: tuple[tuple[str, str, Spread], ...] = (
        ("bridge_mined_to_decided_seconds", "From the event to its decision.", told.latencies.mined_to_decided_s),
        ("bridge_mined_to_final_seconds", "From the event to the final payout.", told.latencies.mined_to_final_s),
        ("bridge_final_to_posted_seconds", "From the final payout to its entry.", told.latencies.final_to_posted_s),
        ("bridge_mined_to_posted_seconds", "From the event to the last entry.", told.latencies.mined_to_posted_s),
    )
    for name, words, spread in spreads:
        if spread.p50 is not None and spread.p95 is not None:
            yield from _quantiles(name, words, (spread.p50, spread.p95), {})
    for lag in told.lags:
        if lag.p50_ms is not None and lag.p95_ms is not None:
            words = "From a block's finality here to its entries."
            yield from _quantiles("bridge_post_lag_milliseconds", words, (lag.p50_ms, lag.p95_ms), {"chain": lag.chain})
    for item in told.suspense:
        labels = {"account": item.account, "asset": item.asset, "symbol": item.symbol}
        yield Sample("bridge_suspense_atoms", "Moved on chain and not explained, signed.", item.balance, labels)


def _quantiles(name: str, words: str, times: tuple[int, int], labels: Mapping[str, str]) -> Iterator[Sample]:
    for quantile, value in zip(("0.5", "0.95"), times, strict=True):
        yield Sample(name, words, value, {**labels, "quantile": quantile})
