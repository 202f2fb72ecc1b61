"""bridge rules list, pause, resume, check, schema, reference, test."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from bridge.cli.app import DEFAULT_CONFIG, EXIT_MEND, EXIT_NO, PLAIN_WIDTH, ConfigPath, app, check_writable, run
from bridge.cli.node import rule_file
from bridge.cli.person import user
from bridge.compose.database import open_database
from bridge.domain.errors import ConfigError, RetryableError
from bridge.domain.interventions import told
from bridge.domain.plans import Plan
from bridge.replay.cases import CaseResult, run_folder
from bridge.replay.reference import render_reference
from bridge.runtime.config import Config, load_config
from bridge.runtime.rule_schema import render_schema
from bridge.runtime.rulefile import load_rule

rules = typer.Typer(name="rules", help="Rule files: check, test and try them on history.", no_args_is_help=True)
app.add_typer(rules)

Folders = Annotated[list[str] | None, typer.Argument(metavar="[RULE|FOLDER]…", help="Default: all under rules/.")]


MaybeConfig = Annotated[
    Path | None, typer.Option("--config", "-c", help="Names are held against this configuration.", metavar="FILE")
]


# ── What is there ───────────────────────────────────────────────────────────────────────────────────────────────────
@rules.command("list")
def list_rules(config: MaybeConfig = None) -> None:
    """The rules of the configuration, with what each decided last; without one, the folders under rules/."""
    if config is None and not DEFAULT_CONFIG.is_file():
        _list_folders()
        return
    run(_list_configured(load_config(config or DEFAULT_CONFIG, deployed=False)))


def _list_folders() -> None:
    table = _table("rule", "version", "window", "asset", "cases", "description")
    for folder in _folders([]):
        plan = load_rule(folder / "rule.yaml")
        rule = plan.rule
        cases = len(list((folder / "cases").glob("*.json")))
        table.add_row(rule.name, str(rule.version), _window(plan), rule.asset, str(cases), rule.description)
    _print(table)


async def _list_configured(config: Config) -> int:
    table = _table("rule", "version", "chain", "state", "window", "asset", "decided until")
    plans = [(_load(config, config.relative(each.file), each.chain), each.chain) for each in config.rules]
    states = await _states(config, [(chain, plan.rule.name) for plan, chain in plans])
    for plan, chain in plans:
        rule = plan.rule
        state, until = states.get((chain, rule.name), ("not known", "—"))
        table.add_row(rule.name, str(rule.version), chain, state, _window(plan), rule.asset, until)
    _print(table)
    if not plans:
        print(f"{config.path} has no [[rules]]")
    return 0


async def _states(config: Config, wanted: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, str]]:
    """By chain and rule: how it stands, and until when it has decided. Empty where no database answers."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    try:
        async with open_database(config, connections_max=1) as database, database.snapshot() as transaction:
            for chain, rule in wanted:
                starts = await transaction.decisions.starts(chain)
                paused = rule in await transaction.decisions.paused(chain)
                last = await transaction.decisions.last(chain, rule)
                if last is None:
                    state = "no window yet" if rule in starts else "not started"
                    found[chain, rule] = ("paused" if paused else state, "—")
                    continue
                artifact = await transaction.decisions.artifact(chain, rule, last[0].start)
                assert artifact is not None
                verdict = json.loads(artifact)["verdict"]
                state = {"hold": "held"}.get(verdict, f"last: {verdict}")
                found[chain, rule] = ("paused" if paused else state, _utc(last[0].end))
    except (ConfigError, RetryableError) as error:
        print(f"bridge: what was decided is not known: {error}", file=sys.stderr)
    return found


def _load(config: Config, file: Path, chain: str) -> Plan:
    section = config.chains[chain]
    return load_rule(
        file,
        contracts=set(section.contracts),
        tokens=set(section.tokens),
        markets=set(config.prices),
        decimals={symbol: token.decimals for symbol, token in section.tokens.items()},
    )


def _window(plan: Plan) -> str:
    return _words(_document(plan)["window"])


def _utc(timestamp: int) -> str:
    return f"{datetime.fromtimestamp(timestamp, UTC):%Y-%m-%d %H:%M:%S}"


def _table(*headers: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for header in headers:
        table.add_column(header, overflow="fold")
    return table


def _print(table: Table) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PLAIN_WIDTH
    console.print(table)


# ── Pausing ─────────────────────────────────────────────────────────────────────────────────────────────────────────
Rule = Annotated[str, typer.Argument(metavar="RULE", help="Its name.")]
Reason = Annotated[str, typer.Option(metavar="TEXT", help="Why; kept with your user name.")]
OnChain = Annotated[str | None, typer.Option(metavar="NAME", help="Where the rule is on several chains.")]


@rules.command("pause")
def pause_rule(rule: Rule, reason: Reason, config: ConfigPath = DEFAULT_CONFIG, chain: OnChain = None) -> None:
    """The rule decides nothing until it is resumed; its events wait, and nothing of them is lost."""
    run(_order(config, rule, chain, reason, pause=True))


@rules.command("resume")
def resume_rule(rule: Rule, reason: Reason, config: ConfigPath = DEFAULT_CONFIG, chain: OnChain = None) -> None:
    """The windows that have closed since it was paused are decided one by one, as if it never had been."""
    run(_order(config, rule, chain, reason, pause=False))


async def _order(path: Path, rule: str, chain: str | None, reason: str, *, pause: bool) -> int:
    if not reason.strip():
        raise ConfigError("is empty", where="--reason", mend="say why: it is kept with the order")
    config = load_config(path, deployed=False)
    on = _chain_with(config, rule, chain)
    async with open_database(config, connections_max=1) as database, database.begin() as transaction:
        order = transaction.decisions.pause if pause else transaction.decisions.resume
        await order(on, rule, told("paused" if pause else "resumed", user(), reason.strip()))
    print(f"rule {rule} on {on}: {'paused' if pause else 'resumed'}")
    return 0


def _chain_with(config: Config, rule: str, asked: str | None) -> str:
    """Raises ConfigError where the rule is on no chain, or on several and none is named."""
    names = {(each.chain, _load(config, config.relative(each.file), each.chain).rule.name) for each in config.rules}
    chains = sorted(chain for chain, name in names if name == rule and asked in (None, chain))
    if len(chains) == 1:
        return chains[0]
    if chains:
        raise ConfigError(f"{rule} is on several chains", where="--chain", mend=f"name one of: {', '.join(chains)}")
    known = ", ".join(sorted(f"{name} on {chain}" for chain, name in names)) or "none"
    raise ConfigError(f"there is no rule `{rule}`", where="RULE", mend=f"{config.path} has: {known}")


# ── Checking ────────────────────────────────────────────────────────────────────────────────────────────────────────
@rules.command("check")
def check_rules(
    asked: Folders = None,
    config: MaybeConfig = None,
    chain: Annotated[str | None, typer.Option(metavar="NAME", help="Of --config, where it has several.")] = None,
) -> None:
    """Say whether rule files make sense, and what they read; every mistake with its place and the mend."""
    raise typer.Exit(_check(asked or [], load_config(config, deployed=False) if config is not None else None, chain))


def _check(asked: Sequence[str], config: Config | None, chain: str | None) -> int:
    wrong = 0
    for file in [rule_file(each, config) for each in asked] or [folder / "rule.yaml" for folder in _folders([])]:
        try:
            plan = load_rule(file) if config is None else _load(config, file, _chain(config, file, chain))
        except ConfigError as error:
            wrong += 1
            print(error, file=sys.stderr)
        else:
            print(f"{file}: ok")
            for line in _described(plan):
                print(f"  {line}")
    return EXIT_MEND if wrong else 0


def _chain(config: Config, file: Path, asked: str | None) -> str:
    """The chain that names are held against. Raises ConfigError where it is not clear."""
    if asked is not None and asked not in config.chains:
        raise ConfigError(
            f"`{asked}` is none of the chains", where="--chain", mend=f"name one of: {', '.join(config.chains)}"
        )
    configured = {each.chain for each in config.rules if config.relative(each.file).resolve() == file.resolve()}
    candidates = {asked} if asked is not None else configured or set(config.chains)
    if len(candidates) != 1:
        raise ConfigError("there are several chains", where="--chain", mend=f"name one of: {', '.join(config.chains)}")
    return candidates.pop()


def _described(plan: Plan) -> Iterator[str]:
    """What a rule says, a line for each thing that it reads and does."""
    document = _document(plan)
    yield f"{plan.rule.name} v{plan.rule.version}: {plan.rule.description}"
    for key, value in document.items():
        if key in ("rule", "version", "description"):
            continue
        if isinstance(value, dict) and key in ("events", "inputs", "parameters", "values"):
            for name, each in value.items():
                yield f"{_singular(key):<11} {name}: {_words(each)}"
        else:
            yield f"{key:<11} {_words(value)}"


def _document(plan: Plan) -> dict[str, Any]:
    """The file as texts, as it was written: it has passed every check."""
    document: dict[str, Any] = yaml.load(plan.rule.body, Loader=yaml.BaseLoader)  # noqa: S506  # gives texts only
    return document


def _singular(key: str) -> str:
    return key.removesuffix("s")


def _words(value: Any) -> str:
    """`{sum: fee.amount}` → `sum fee.amount`; a nested one in brackets."""
    if isinstance(value, Mapping):
        parts = [
            f"{key} ({_words(each)})" if isinstance(each, Mapping) else f"{key} {_words(each)}"
            for key, each in value.items()
        ]
        return ", ".join(parts)
    if isinstance(value, list):
        return "; ".join(_words(each) for each in value)
    return str(value)


# ── For editors and readers ─────────────────────────────────────────────────────────────────────────────────────────
Out = Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there instead of printing it.")]


@rules.command("schema")
def write_schema(out: Out = None) -> None:
    """The JSON Schema of rule files, for editors."""
    _write(render_schema(), out)


@rules.command("reference")
def write_reference(out: Out = None) -> None:
    """Every key, input, unit and function of the language of rules, as Markdown."""
    _write(render_reference(), out)


def _write(text: str, out: Path | None) -> None:
    if out is None:
        print(text, end="")
        return
    check_writable("--out", out, out.parent)
    out.write_text(text, encoding="utf-8", newline="\n")
    print(out)


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
