"""bridge rules list, check, test, backtest, schema, reference."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.app import EXIT_NO, app
from bridge.cli.node import (
    rule_file,
)
from bridge.domain.errors import ConfigError
from bridge.stages.cases import CaseResult, run_folder

rules = typer.Typer(name="rules", help="Rule files: check, test and try them on history.", no_args_is_help=True)
app.add_typer(rules)

Folders = Annotated[list[str] | None, typer.Argument(metavar="[RULE|FOLDER]…", help="Default: all under rules/.")]


# ── Golden cases ────────────────────────────────────────────────────────────────────────────────────────────────────
@rules.command("test")
def run_cases(asked: Folders = None) -> None:
    """Run the golden cases in RULE/cases; exits 1 when a decision is not as a case expects."""
    raise typer.Exit(_test(asked or []))


def _test(asked: Sequence[str]) -> int:
    failed = ran = 0
    for folder in _folders(asked):
        results = run_folder(folder)
        if not results:
            print(f"{folder.name}: no cases in {folder / 'cases'}")
        for result in results:
            print(f"{result.name}: {'ok' if result.passed else 'FAILED'}")
            if not result.passed:
                _show(result)
        ran += len(results)
        failed += sum(not result.passed for result in results)
    print(f"{ran - failed} of {ran} cases passed")
    return EXIT_NO if failed else 0


def _show(result: CaseResult) -> None:
    if result.what:
        print(f"  {result.what}")
    for one in result.differences:
        print(f"  window {one.window}, {one.path}")
        print(f"    expected  {_json(one.expected)}")
        print(f"    found     {_json(one.found)}")


def _json(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)


def _folders(asked: Sequence[str]) -> list[Path]:
    """The rule folders that are meant. Raises ConfigError where there is none."""
    found = [rule_file(each, None).parent for each in asked]
    if asked:
        return found
    found = sorted(path.parent for path in Path("rules").glob("*/rule.yaml"))
    if not found:
        raise ConfigError("there is no folder rules/ with rules in it", where="RULE", mend="name a rule folder")
    return found
