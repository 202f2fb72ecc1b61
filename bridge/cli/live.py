"""What a person sees while a simulation runs: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from bridge.domain.units import format_amount
from bridge.simulation.simulate import Progress
from bridge.store.status import Status

LINE_EVERY_S = 2.0


class LiveView:
    """Use as a context manager; call `show` as often as you like."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._live = Live(console=self._console, refresh_per_second=8) if self._console.is_terminal else None
        self._started = time.monotonic()
        self._next_line = 0.0
        self._last_line = ""

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal to others."""
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        if self._live is not None:
            self._live.update(_table(progress, self._elapsed()))
            return
        line = _line(progress)
        now = time.monotonic()
        # The phase is always said; the rest not more often than anyone reads.
        if line == self._last_line or (now < self._next_line and progress.status is not None):
            return
        self._last_line, self._next_line = line, now + LINE_EVERY_S
        print(f"{self._elapsed():6.1f} s  {line}", file=sys.stderr, flush=True)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


def _line(progress: Progress) -> str:
    status = progress.status
    if status is None:
        return progress.phase
    parts = [
        f"{progress.phase}: epoch {progress.epochs_done} of {progress.epochs}",
        f"head {_head(status)}, lag {_lag(status)}",
        f"surplus {_surplus(status)}",
        f"payouts {_payouts(status)}",
        f"reorgs {progress.reorgs}",
        f"breaks {sum(status.breaks.values())}",
    ]
    return " · ".join(parts)


def _table(progress: Progress, elapsed_s: float) -> Group:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_row("phase", f"{progress.phase}, {elapsed_s:.0f} s")
    bar = ProgressBar(total=max(1, progress.epochs), completed=progress.epochs_done, width=40)
    table.add_row("epochs", bar)
    table.add_row("", f"{progress.epochs_done} of {progress.epochs} over, block {progress.block}")
    status = progress.status
    if status is not None:
        table.add_row("head", f"{_head(status)}, {_lag(status)} behind the node, {progress.reorgs} reorgs made")
        table.add_row("surplus found", _surplus(status))
        table.add_row("distributions", _counts(status.distributions))
        table.add_row("payouts", _payouts(status))
        table.add_row("open breaks", str(sum(status.breaks.values())))
    return Group(table)


def _head(status: Status) -> str:
    return ", ".join(f"{chain.head_number} (final {chain.finalized_number})" for chain in status.chains) or "—"


def _lag(status: Status) -> str:
    return ", ".join(str(chain.lag_blocks) for chain in status.chains) or "—"


def _surplus(status: Status) -> str:
    found = (f"{format_amount(rule.surplus, rule.decimals)} {rule.symbol}" for rule in status.rules)
    return " + ".join(found) or "none yet"


def _payouts(status: Status) -> str:
    waiting = ("in_flight", "held", "given_up")
    final = sum(count for outcome, count in status.payouts.items() if outcome not in waiting)
    aside = [f"{status.payouts[name]} {name.replace('_', ' ')}" for name in waiting[1:] if name in status.payouts]
    return ", ".join([f"{status.payouts.get('in_flight', 0)} in flight", *aside, f"{final} final"])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {state}" for state, number in counts.items()) or "none yet"
