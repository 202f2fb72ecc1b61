"""bridge sandbox, bridge simulate."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import typer

from bridge.cli.app import EXIT_NO, app, check_writable, run
from bridge.domain.errors import BridgeError, ConfigError

Result = TypeVar("Result")


class Interrupted(BridgeError):
    """A person, or the system, asked us to stop."""


Rule = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE",
        help="A shipped rule, or a file of your own that is like one; without it, three rules in three tokens.",
    ),
]
Seed = Annotated[int | None, typer.Option(help="What all traffic is drawn from; random, and printed, where not given.")]


class Chains(StrEnum):
    """Which chains a sandbox has."""

    EVM = "evm"
    SOLANA = "solana"
    BOTH = "both"


@app.command("sandbox")
def run_sandbox(  # noqa: PLR0917  # typer makes options of them
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where its files go: new, empty, or an old sandbox.")
    ],
    seed: Seed = None,
    rule: Rule = None,
    block_time: Annotated[float, typer.Option(metavar="S", help="Seconds between blocks.")] = 1.0,
    participants: Annotated[int, typer.Option(metavar="N", help="How many hold deposits.")] = 12,
    traffic: Annotated[float, typer.Option(metavar="RATE", help="Mean number of transactions a block.")] = 3.0,
    chain: Annotated[Chains, typer.Option(help="Which local chains. On solana nobody acts by himself.")] = (Chains.EVM),
) -> None:
    """A local chain and a Postgres, contracts, traffic, and the configuration to run the daemon against them."""
    if chain is Chains.SOLANA and rule is not None:
        raise ConfigError("rules are played on the EVM chain", where="--rule", mend="leave it out, or say --chain both")
    seed = _seed(seed)
    evm, solana = None, None
    if chain is not Chains.SOLANA:
        evm = _simulation("sandbox").Settings(
            seed=seed, participants=participants, traffic_rate=traffic, block_time_s=block_time, rule=rule
        )
    if chain is not Chains.EVM:
        solana = _simulation("svm.sandbox").SandboxSettings(seed=seed, participants=participants)
    run(_sandbox(directory, evm, solana))


async def _sandbox(directory: Path, evm: Any, solana: Any) -> int:
    stop = _stop_on_signals()
    async with AsyncExitStack() as stack:
        sandboxes = []
        if evm is None:
            stack.enter_context(_simulation("directory").claimed(directory))
        else:
            sandbox = await stack.enter_async_context(_simulation("sandbox").Sandbox.start(directory, evm))
            sandboxes.append(sandbox)
            print(f"sandbox ready, seed {evm.seed}: {directory / 'sandbox.json'}")
        if solana is not None:
            starting = _simulation("svm.sandbox").SolanaSandbox.start(directory, solana, beside=evm is not None)
            sandbox = await stack.enter_async_context(starting)
            sandboxes.append(sandbox)
            print("\n".join(sandbox.lines()))
        for command in ("migrate", "check", "run"):
            print(f"  bridge {command} --config {sandboxes[0].config_path}")
        print("Ctrl-C ends it.", flush=True)
        stopping = asyncio.create_task(stop.wait())
        watching = [asyncio.create_task(sandbox.watch()) for sandbox in sandboxes]
        done, pending = await asyncio.wait([stopping, *watching], return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        for task in watching:
            if task in done:
                await task
    return 0


@app.command("simulate")
def run_simulation(  # noqa: PLR0917  # typer makes options of them
    seed: Seed = None,
    rule: Rule = None,
    epochs: Annotated[int, typer.Option(metavar="N", min=1, help="How many epochs of surplus to live through.")] = 3,
    reorgs: Annotated[int, typer.Option(metavar="N", min=0, help="How many reorganisations to make on the way.")] = 2,
    incidents: Annotated[
        bool, typer.Option(help="A gift, a recipient that its token refuses, a payment that fails. Not with --rule.")
    ] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Leave chain and database running, to look at.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write verdict and figures as JSON.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the report goes.")] = None,
    hold: Annotated[int | None, typer.Option(hidden=True)] = None,
    chain: Annotated[Chains, typer.Option(help="On which local chains; one daemon works on both.")] = Chains.EVM,
) -> None:
    """The main job from end to end on a local chain; exits 0 only if all is final, explained and balanced."""
    if json is not None:
        check_writable("--json", json, json.parent)
    if out is not None:
        check_writable("--out", out, out)
    if chain is Chains.SOLANA and rule is not None:
        raise ConfigError("rules are played on the EVM chain", where="--rule", mend="leave it out, or say --chain both")
    _simulation("scenes").find_scene(rule)
    if keep:
        raise typer.Exit(_keep_in_background(sys.argv[1:]))
    seed = _seed(seed)
    directory = Path(tempfile.mkdtemp(prefix=f"bridge-simulation-{seed}-"))
    order = _simulation("simulate").Order(
        directory,
        out or directory / "report",
        seed,
        epochs,
        reorgs,
        rule=rule,
        incidents=incidents,
        beside=chain is Chains.BOTH,
    )
    simulate = _simulation("alone").simulate_alone if chain is Chains.SOLANA else _simulation("simulate").simulate
    run(_simulate(simulate, order, json, hold))


async def _simulate(simulate: Any, order: Any, json: Path | None, hold: int | None) -> int:
    stop = _stop_on_signals()

    async def finished(outcome: Any) -> None:
        view.close()
        _tell(outcome, json)
        if hold is not None:
            _let_go(hold, _code(outcome))
            await stop.wait()

    with _live_view() as view:
        return _code(await _unless(stop, simulate(order, view.show, finished)))


def _tell(outcome: Any, json: Path | None) -> None:
    if json is not None:
        json.write_bytes(orjson.dumps(outcome.to_json(), option=orjson.OPT_INDENT_2) + b"\n")
    for line in outcome.lines():
        print(line)


def _code(outcome: Any) -> int:
    return 0 if outcome.balanced else EXIT_NO


def _keep_in_background(arguments: list[str]) -> int:
    """Run the simulation in a process that outlives this one: it answers with its verdict, then holds the sandbox."""
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "bridge", *(word for word in arguments if word != "--keep"), "--hold", str(writer)]
    child = subprocess.Popen(command, pass_fds=[writer], start_new_session=True)  # noqa: S603  # our own arguments
    os.close(writer)
    try:
        verdict = os.read(reader, 1)
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        raise
    if not verdict:  # it ended before it had one, and has said why
        return child.wait()
    print(f"chain and database are kept running by process {child.pid}; end them with: kill {child.pid}")
    return verdict[0]


def _let_go(pipe: int, code: int) -> None:
    """Tell who started us the verdict, and let go of the terminal."""
    sys.stdout.flush()
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.write(pipe, bytes([code]))
    os.close(pipe)


def _simulation(module: str) -> Any:
    """A module of the simulation: production installs without what it needs."""
    try:
        return importlib.import_module(f"bridge.simulation.{module}")
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed", mend="run scripts/setup") from None


def _live_view() -> Any:
    return importlib.import_module("bridge.cli.live").LiveView()


def _seed(seed: int | None) -> int:
    return secrets.randbelow(2**32) if seed is None else seed


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    return stop


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when `stop` is set."""
    task, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if task.done():
        return task.result()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    raise Interrupted("stopped before the verdict")
