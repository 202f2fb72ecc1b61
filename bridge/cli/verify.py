"""bridge verify."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.cli.app import DEFAULT_CONFIG, EXIT_NO, app, run
from bridge.cli.node import Depth, Names, RpcUrls, open_node, parse_moment
from bridge.cli.verify_report import verify_report
from bridge.compose.database import open_database
from bridge.domain.errors import ConfigError
from bridge.replay.verify import Answer, Claim, file_claim, stored_claim, verify
from bridge.runtime.clock import SystemClock
from bridge.runtime.config import Config, load_config
from bridge.stages.explain import find_decision
from bridge.stages.prices import PriceSources


@app.command("verify")
def verify_decision(
    *,
    asked: Annotated[
        str | None,
        typer.Argument(
            metavar="[ID|DIR]", help="A decision, distribution or transaction (hex, or its start); a report's folder."
        ),
    ] = None,
    rpc: RpcUrls = None,
    artifact: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Instead of ID: a decision's record; no database is needed.")
    ] = None,
    rule: Annotated[Path | None, typer.Option(metavar="FILE", help="With --artifact: the rule's text.")] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="With --artifact: when the rule began, if not with the chain.")
    ] = None,
    trust_carried: Annotated[
        bool, typer.Option("--trust-carried", help="With --artifact: believe what earlier windows left.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="For ID, and for nodes; not with --artifact.")
    ] = None,
    depth: Depth = None,
) -> None:
    """Make a decision again from a node alone, or check a report's folder: exits 0 where all is equal, 1 where not."""
    if asked is not None and Path(asked).is_dir():
        _only_for_decisions(
            {"--artifact": artifact, "--rule": rule, "--since": since, "--trust-carried": trust_carried}
        )
        run(verify_report(Path(asked), rpc or (), _config(config, needed=False)))
        return
    if (asked is None) == (artifact is None):
        raise ConfigError("give either an ID or --artifact", where="ID", mend="bridge verify ID --rpc URL")
    if artifact is not None and rule is None:
        raise ConfigError("is missing", where="--rule", mend="give the text that the record names by its sha256")
    loaded = _config(config, needed=artifact is None)
    run(_verify(asked, artifact, rule, since, trust=trust_carried, names=Names(loaded, None, rpc or (), depth=depth)))


def _only_for_decisions(options: dict[str, object]) -> None:
    for option, value in options.items():
        if value:
            raise ConfigError("is about a decision, but this is a folder", where=option, mend="leave it out")


def _config(path: Path | None, *, needed: bool) -> Config | None:
    if path is None and not needed:
        return None
    return load_config(path or DEFAULT_CONFIG, deployed=False)


async def _verify(
    asked: str | None, artifact: Path | None, rule: Path | None, since: str | None, *, trust: bool, names: Names
) -> int:
    async with AsyncExitStack() as stack:
        if artifact is not None:
            assert rule is not None
            claim = file_claim(
                _read(artifact, "--artifact"),
                _read(rule, "--rule").decode(errors="replace"),
                since=None if since is None else parse_moment("--since", since)[1],
                trust_carried=trust,
                where=f"--artifact {artifact}",
            )
        else:
            assert asked is not None
            assert names.config is not None
            database = await stack.enter_async_context(open_database(names.config, connections_max=1))
            claim = await stored_claim(database, await find_decision(database, asked))
        node = await stack.enter_async_context(open_node(_on_its_chain(names, claim)))
        answer = await verify(
            claim,
            chain=node.reader,
            history=node.history,
            prices=PriceSources(node.feeds, {}, SystemClock()),
            final=await node.finalized(),
        )
    for line in _told(answer):
        print(line)
    return 0 if answer.equal else EXIT_NO


def _read(path: Path, option: str) -> bytes:
    try:
        return path.read_bytes().removesuffix(b"\n") if option == "--artifact" else path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=f"{option} {path}") from None


def _on_its_chain(names: Names, claim: Claim) -> Names:
    """The chain of the configuration that the decision is of."""
    if names.config is None:
        return names
    reference = claim.told["chain"]
    chain = next((name for name, section in names.config.chains.items() if section.reference == reference), None)
    return Names(names.config if chain else None, chain, names.rpc, depth=names.depth)


def _told(answer: Answer) -> list[str]:
    told = answer.claim.told
    rule, blocks = told["rule"], told["blocks"]
    lines = [
        f"{rule['name']} v{rule['version']}, window {told['window']['start']} … {told['window']['end']}",
        f"  chain       {told['chain']}",
        *(f"  {name:<11} {address}" for name, address in told["contracts"].items()),
        f"  read        {answer.logs:,} logs of blocks {blocks['start']:,} … {blocks['last']:,}",
        f"  made again  {answer.windows:,} decisions",
    ]
    lines += [f"  not verified, taken from the record: {what}" for what in answer.trusted]
    if answer.difference is None:
        return [*lines, "equal"]
    path, made, recorded = answer.difference
    return [
        *lines,
        f"NOT equal: {path or 'the whole'}",
        f"  expected  {_json(made)}",
        f"  found     {_json(recorded)}",
        *(f"  mend: {hint}" for hint in answer.hints),
    ]


def _json(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
