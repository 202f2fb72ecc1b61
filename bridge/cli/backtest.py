"""bridge rules backtest."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

from bridge.cli.app import check_writable, run
from bridge.cli.node import (
    ChainName,
    ContractNames,
    Depth,
    Names,
    RpcUrls,
    TokenNames,
    open_node,
    parse_moment,
    rule_file,
)
from bridge.cli.rules import rules
from bridge.compose.node import Node
from bridge.domain.errors import ConfigError
from bridge.domain.events import Block
from bridge.domain.ledger import Asset
from bridge.domain.plans import Plan
from bridge.domain.rules import Committed, market_places
from bridge.domain.units import BlockStamp, format_amount, hash_of
from bridge.prices.http import HttpMarket
from bridge.replay.backtest import backtest, block_from
from bridge.replay.backtest_outcome import Contest, Outcome, Plot, Progress
from bridge.runtime.clock import SystemClock
from bridge.runtime.config import Config, load_config
from bridge.runtime.rulefile import load_rule
from bridge.stages.binding import BoundRule, bind_rules
from bridge.stages.prices import PriceSources


@rules.command("backtest")
def backtest_rule(
    *,
    asked: Annotated[str, typer.Argument(metavar="RULE", help="A rule file, its folder, or a rule of --config.")],
    begin: Annotated[str | None, typer.Option("--from", metavar="BLOCK|DATE", help="Where reading begins.")] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="BLOCK|DATE", help="Default: what is final.")] = None,
    against: Annotated[str | None, typer.Option(metavar="RULE", help="Show what this one would do otherwise.")] = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the files go.")] = Path("backtest"),
    rpc: RpcUrls = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="For names, nodes and other rules.")
    ] = None,
    chain: ChainName = None,
    contract: ContractNames = None,
    token: TokenNames = None,
    depth: Depth = None,
) -> None:
    """What a rule would have decided over history: from a node alone, without daemon, database or key."""
    loaded = load_config(config, deployed=False) if config is not None else None
    if begin is None and loaded is None:
        raise ConfigError("is missing", where="--from", mend="give a block or a date, or a --config with start_block")
    for option, text in (("--from", begin), ("--to", end)):
        if text is not None:
            parse_moment(option, text)
    check_writable("--out", out, out)
    file = rule_file(asked, loaded)
    other = None if against is None else rule_file(against, loaded)
    names = Names(loaded, chain or _chain_of(file, loaded), rpc or (), contract or (), token or (), depth)
    run(_backtest(file, other, names, begin=begin, end=end, out=out))


async def _backtest(
    file: Path, other: Path | None, names: Names, *, begin: str | None, end: str | None, out: Path
) -> int:
    async with open_node(names) as node:
        contest = _contest(file, other, names, node)
        plot = await _plot(names, node, begin, end)
        asset = await _asset(contest.rule, node, plot.head)
        async with _markets(contest, names) as markets:
            with _Bar(plot) as bar:
                outcome = await backtest(
                    contest,
                    plot,
                    chain=node.reader,
                    history=node.history,
                    asset=asset,
                    out=out,
                    prices=PriceSources(node.feeds, markets, SystemClock()),
                    tell=bar.show,
                )
    for line in _told(outcome):
        print(line)
    print(out / "index.html")
    return 0


@contextlib.asynccontextmanager
async def _markets(contest: Contest, names: Names) -> AsyncIterator[dict[str, HttpMarket]]:
    """Those that the rules ask for prices. Raises ConfigError where one is not configured, or its key is missing."""
    wanted = {market for rule in contest.rules() for _, market in market_places(rule.plan.rule)}
    config = names.config
    if wanted and config is None:
        raise ConfigError(
            f"where prices of `{min(wanted)}` come from is not said", where="--config", mend="give one with [prices.…]"
        )
    async with contextlib.AsyncExitStack() as stack:
        markets: dict[str, HttpMarket] = {}
        for name in sorted(wanted):
            assert config is not None
            markets[name] = HttpMarket(name, config.prices[name], config.price_key(name))
            stack.push_async_callback(markets[name].close)
        yield markets


def _chain_of(file: Path, config: Config | None) -> str | None:
    """The chain that the configuration has this very file on."""
    if config is None:
        return None
    chains = {rule.chain for rule in config.rules if config.relative(rule.file).resolve() == file.resolve()}
    return chains.pop() if len(chains) == 1 else None


def _contest(file: Path, other: Path | None, names: Names, node: Node) -> Contest:
    plan = _load(file, names, node)
    against = None if other is None else _load(other, names, node)
    if against is not None and against.rule.asset != plan.rule.asset:
        raise ConfigError(
            f"pays {against.rule.asset}, but {plan.rule.name} pays {plan.rule.asset}",
            where="--against",
            mend="compare rules of one asset",
        )
    for each in (plan, against):
        if node.unknown_deeds is not None and each is not None and _asks_for_others(each):
            raise ConfigError(
                f"{each.rule.name} asks what was decided and not yet paid, but {node.unknown_deeds}",
                where="--contract",
                mend="add --contract operator=ADDRESS, or give a --config",
            )
    apart = {plan.rule.name, *([] if against is None else [against.rule.name])}
    asks = any(_asks_for_others(each) for each in (plan, against) if each is not None)
    companions = [one for one in _configured(names, node) if one[0].rule.name not in apart] if asks else []
    companions = [one for one in companions if one[0].rule.asset == plan.rule.asset]
    sides = [
        bind_rules(
            [each, *(other for other, _ in companions)],
            from_blocks=[0, *(from_block for _, from_block in companions)],
            **_names_of(node),
        )
        for each in (plan, against)
        if each is not None
    ]
    return Contest(
        rule=next(rule for rule in sides[0] if rule.name == plan.rule.name),
        against=None if against is None else next(rule for rule in sides[1] if rule.name == against.rule.name),
        companions=[rule for rule in sides[0] if rule.name != plan.rule.name],
    )


def _names_of(node: Node) -> dict[str, Any]:
    return {"chain": node.reader, "contracts": node.contracts, "tokens": node.tokens}


def _asks_for_others(plan: Plan) -> bool:
    return any(isinstance(source, Committed) for source in plan.rule.inputs.values())


def _configured(names: Names, node: Node) -> list[tuple[Plan, int]]:
    """The rules of the configuration on this chain, each with the block that it begins with."""
    found = names.section()
    if found is None or names.config is None:
        return []
    sections = [rule for rule in names.config.rules if rule.chain == found[0]]
    return [(_load(names.config.relative(rule.file), names, node), rule.from_block) for rule in sections]


def _load(file: Path, names: Names, node: Node) -> Plan:
    if names.config is not None:
        return load_rule(
            file,
            contracts=node.contracts.keys(),
            tokens=node.tokens.keys(),
            markets=names.config.prices.keys(),
            decimals=node.decimals,
            example=next(iter(node.contracts.values()), None),
        )
    plan = load_rule(file, example=next(iter(node.contracts.values()), None))
    for option, wanted, known in (
        ("--contract", sorted(plan.contracts()), node.contracts),
        ("--token", [plan.rule.asset, *sorted(plan.tokens())], node.tokens),
    ):
        for name in wanted:
            if name not in known:
                raise ConfigError(
                    f"what `{name}` of {file} stands for is not said", where=option, mend=f"add {option} {name}=0x…"
                )
    return plan


async def _plot(names: Names, node: Node, begin: str | None, end: str | None) -> Plot:
    final = await node.finalized()
    if begin is None:
        found = names.section()
        assert found is not None
        begin = str(found[1].start_block)
    start = await _block(node, "--from", begin, final)
    head = final if end is None else await _block(node, "--to", end, final)
    if start.number >= head.number:
        raise ConfigError(
            f"block {start.number:,} is not before block {head.number:,}", where="--from", mend="give an earlier --from"
        )
    return Plot(*(replace(block, hash=hash_of(block.hash, node.reader.reference)) for block in (start, head)))


async def _block(node: Node, option: str, text: str, final: Block) -> Block:
    number, second = parse_moment(option, text)
    if (number if number is not None else 0) > final.number or (second or 0) > final.timestamp:
        raise ConfigError(
            f"{text} is beyond what is final: block {final.number:,}, second {final.timestamp}",
            where=option,
            mend="leave --to out, or give an earlier one" if option == "--to" else "give an earlier one",
        )
    if second is not None:
        return await block_from(node.reader, second, final)
    assert number is not None
    (block,) = await node.reader.blocks([number])
    return block


async def _asset(rule: BoundRule, node: Node, at: Block) -> Asset:
    """For people: where nobody says how many decimals the token has, whole atoms are shown."""
    symbol = rule.plan.rule.asset
    decimals = node.decimals.get(symbol)
    if decimals is None:
        stamp = BlockStamp(node.reader.name, at.number, at.hash)
        answer = await node.reader.read_call(rule.binding.token, "decimals()", [], stamp, returns=["uint8"])
        decimals = 0 if answer is None else answer[0]
    return Asset(rule.binding.asset, node.reader.name, rule.binding.token, symbol, min(decimals, 77))


class _Bar:
    """A bar with the time that is left, on a terminal; nothing elsewhere."""

    def __init__(self, plot: Plot) -> None:
        console = Console(stderr=True, highlight=False)
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[said]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._plot = plot
        self._task = self._bars.add_task("blocks", total=plot.head.number - plot.start.number + 1, said="")

    def __enter__(self) -> _Bar:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, progress: Progress) -> None:
        done = progress.block - self._plot.start.number + 1
        self._bars.update(self._task, completed=done, said=f"{progress.logs:,} logs, {progress.decisions:,} epochs")


def _told(outcome: Outcome) -> list[str]:
    asset = outcome.asset
    lines = []
    for tally in (outcome.tally, outcome.against):
        if tally is None:
            continue
        verdicts = ", ".join(f"{count} {verdict.value}" for verdict, count in sorted(tally.verdicts.items()))
        paid = f"{format_amount(tally.total, asset.decimals)} {asset.symbol} to {len(tally.paid):,} recipients"
        lines.append(
            f"{tally.rule.name} v{tally.rule.plan.rule.version}: {tally.epochs:,} epochs ({verdicts or 'none'}), {paid}"
        )
        lines += [f"  held, epoch ending at {epoch.end}: {epoch.reason}" for epoch in tally.held]
    if outcome.against is not None:
        lines.append(f"{outcome.differing:,} epochs are decided differently")
    return lines
