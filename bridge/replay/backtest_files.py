"""The files of a backtest: tables and artifacts while it runs, the page and the summary at its end.

They hold no clock: the same history gives the same bytes.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
from collections.abc import Sequence
from itertools import chain as chained
from pathlib import Path
from typing import Any, TextIO

from bridge.domain.decisions import Decision
from bridge.domain.units import format_address, hexed
from bridge.replay.backtest_html import render_html
from bridge.replay.backtest_outcome import Epoch, Outcome, Word, summary

EPOCH_COLUMNS = (
    *("window_start", "window_end", "block", "verdict", "surplus", "total", "recipients"),
    *("carried_in", "carried_out", "left", "guardrails", "reason", "decision"),
)
PAYOUT_COLUMNS = ("window_end", "recipient", "amount", "carried_in")
EPOCH_DIFFERENCES = ("window_end", "verdict", "verdict_against", "surplus", "surplus_against", "total", "total_against")
PAYOUT_DIFFERENCES = ("window_end", "recipient", "amount", "amount_against", "difference")


class Files:
    """Written on the way under draft names, and put in place at the end: a run that fails leaves the last good ones."""

    def __init__(self, out: Path, *, two: bool) -> None:
        self._out = out
        self._drafts: dict[str, Path] = {}
        self._stack = contextlib.ExitStack()
        self._first = True
        self._decisions = self._open("decisions.json")
        self._epochs = self._table("epochs.csv", EPOCH_COLUMNS)
        self._payouts = self._table("payouts.csv", PAYOUT_COLUMNS)
        self._differences = (
            (
                self._table("epoch_differences.csv", EPOCH_DIFFERENCES),
                self._table("payout_differences.csv", PAYOUT_DIFFERENCES),
            )
            if two
            else None
        )
        self._decisions.write("[")

    def __enter__(self) -> Files:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        for draft in self._drafts.values():
            draft.unlink(missing_ok=True)

    def _open(self, name: str) -> TextIO:
        draft = self._drafts[name] = self._out / f".{name}.{os.getpid()}.draft"
        return self._stack.enter_context(draft.open("w", encoding="utf-8", newline=""))

    def _table(self, name: str, columns: Sequence[str]) -> Any:
        writer = csv.writer(self._open(name), lineterminator="\n")
        writer.writerow(columns)
        return writer

    def write(self, decision: Decision, epoch: Epoch) -> None:
        # One artifact a line, as its bytes are: sha256 of a line, without the comma, is the decision's id.
        self._decisions.write(("\n" if self._first else ",\n") + decision.artifact.decode())
        self._first = False
        guards = " ".join(f"{name}:{verdict}" for name, verdict in sorted(epoch.guards.items()))
        self._epochs.writerow(
            [
                *(epoch.start, epoch.end, epoch.block, epoch.verdict.value, epoch.surplus, epoch.total),
                *(epoch.recipients, epoch.carried_in, epoch.carried_out, epoch.left, guards, epoch.reason),
                hexed(epoch.decision_id),
            ]
        )
        for one in decision.allocations:
            self._payouts.writerow(
                [epoch.end, format_address(one.recipient), one.amount, one.carried_in],
            )

    def compare(self, mine: Word | None, theirs: Word | None) -> bool:
        """Write down how two decisions about one window differ, and say whether they do."""
        assert self._differences is not None
        if mine == theirs:
            return False
        epochs, payouts = self._differences
        end = next(word.end for word in (mine, theirs) if word is not None)
        epochs.writerow([end, *chained.from_iterable(zip(_figures(mine), _figures(theirs), strict=True))])
        shares = [{} if word is None else word.shares for word in (mine, theirs)]
        for who in sorted(shares[0].keys() | shares[1].keys()):
            amounts = [table.get(who, 0) for table in shares]
            if amounts[0] != amounts[1]:
                payouts.writerow([end, format_address(who), *amounts, amounts[0] - amounts[1]])
        return True

    def finish(self, outcome: Outcome) -> None:
        self._decisions.write("\n]\n")
        self._open("summary.json").write(json.dumps(summary(outcome), indent=2, sort_keys=True) + "\n")
        self._open("index.html").write(render_html(outcome))
        self._stack.close()
        for name, draft in self._drafts.items():
            draft.replace(self._out / name)


def _figures(word: Word | None) -> tuple[object, object, object]:
    return ("", "", "") if word is None else (word.verdict, word.surplus, word.total)
