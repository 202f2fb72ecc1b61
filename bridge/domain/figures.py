"""How well it goes, in figures: shares in millionths, times in whole seconds or milliseconds, nothing rounded up.

    checks, balances, times of payouts and of breaks ──► KeyFigures ──► report, `bridge status`, metrics

A share is rounded down, so that only all of it is 1,000,000 millionths; a percentile is one of the values themselves
(nearest rank), so that it needs no fraction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from bridge.domain.breaks import AGE_BANDS, age_band, share_ppm

LAG_BOUNDS_MS = (1_000, 2_000, 5_000, 10_000, 30_000, 60_000, 300_000, 3_600_000)
"""Where one bar of the histogram of lags ends and the next begins."""
LAG_BANDS = ("<1 s", "<2 s", "<5 s", "<10 s", "<30 s", "<1 min", "<5 min", "<1 h", "≥1 h")


@dataclass(frozen=True, slots=True)
class Tally:
    """Checks by what became of them."""

    agreed: int
    broken: int
    skipped: int  # could not be judged yet
    exempt: int = 0  # left out on purpose

    @property
    def agreed_ppm(self) -> int:
        """Of those that could be judged."""
        return share_ppm(self.agreed, self.agreed + self.broken)

    @property
    def coverage_ppm(self) -> int:
        """Those that could be judged, of all that are not exempt."""
        return share_ppm(self.agreed + self.broken, self.agreed + self.broken + self.skipped)


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and slow end of some times, in the unit that its field's name says; None where there are none."""

    count: int
    p50: int | None
    p95: int | None


def spread(values: Iterable[int]) -> Spread:
    """By nearest rank. A chain's clock is not the database's: what would be less than nothing is nothing."""
    found = sorted(max(0, value) for value in values)
    if not found:
        return Spread(0, None, None)
    return Spread(len(found), *(found[-(-len(found) * percent // 100) - 1] for percent in (50, 95)))


@dataclass(frozen=True, slots=True)
class Milestones:
    """When a distribution passed each of them, in seconds; None where it has not come so far."""

    mined_at: int  # the last block that its decision is made of, by the chain's clock
    decided_at: int
    final_at: int | None  # its last step was seen in a finalized block
    posted_at: int | None  # its last batch was booked


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of the distributions that were posted, seconds."""

    mined_to_decided_s: Spread
    mined_to_final_s: Spread
    final_to_posted_s: Spread
    mined_to_posted_s: Spread


def latencies(passed: Sequence[Milestones]) -> Latencies:
    done = [(item, item.final_at, item.posted_at) for item in passed]
    whole = [(item, final, posted) for item, final, posted in done if final is not None and posted is not None]
    return Latencies(
        mined_to_decided_s=spread(item.decided_at - item.mined_at for item, _, _ in whole),
        mined_to_final_s=spread(final - item.mined_at for item, final, _ in whole),
        final_to_posted_s=spread(posted - final for _, final, posted in whole),
        mined_to_posted_s=spread(posted - item.mined_at for item, _, posted in whole),
    )


@dataclass(frozen=True, slots=True)
class Lag:
    """How long after a block was final here its logs were booked, of the blocks of one chain that hold any."""

    chain: str
    blocks: int
    p50_ms: int | None
    p95_ms: int | None
    bands: tuple[int, ...]  # blocks in each of LAG_BANDS

    def __post_init__(self) -> None:
        assert len(self.bands) == len(LAG_BANDS)
        assert sum(self.bands) == self.blocks


@dataclass(frozen=True, slots=True)
class Entries:
    """Who booked what: journals of chain facts and decisions are matched by their keys, without a person."""

    automatic: int
    by_hand: int  # adjustments and reversals
    unmatched: int  # breaks that are not resolved: nobody and nothing has matched them yet

    @property
    def matched_ppm(self) -> int:
        """The auto-match rate."""
        return share_ppm(self.automatic, self.automatic + self.by_hand + self.unmatched)


@dataclass(frozen=True, slots=True)
class AgeBand:
    band: str
    breaks: int


def ages(seconds: Iterable[int]) -> tuple[AgeBand, ...]:
    """How many breaks are in each band; all bands, so that what is not there is said too."""
    found = [age_band(timedelta(seconds=age)) for age in seconds]
    return tuple(AgeBand(band, found.count(band)) for band in AGE_BANDS)


@dataclass(frozen=True, slots=True)
class LevelTally:
    level: str
    tally: Tally


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """Some runs of the reconciliation that followed each other."""

    first_at: int  # seconds: when the first of them ended
    last_at: int
    runs: int
    levels: tuple[LevelTally, ...]
    value_ppm: int | None  # of the asset whose balances agree least; None where no balance was compared

    @property
    def whole(self) -> Tally:
        tallies = [item.tally for item in self.levels]
        return Tally(
            sum(tally.agreed for tally in tallies),
            sum(tally.broken for tally in tallies),
            sum(tally.skipped for tally in tallies),
            sum(tally.exempt for tally in tallies),
        )


def percent(ppm: int) -> str:
    """Four decimals are all that millionths have; 100 % is all of it."""
    return f"{ppm // 10_000}.{ppm % 10_000:04} %" if ppm % 10_000 else f"{ppm // 10_000} %"
