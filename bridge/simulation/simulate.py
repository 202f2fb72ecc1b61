"""The main job from end to end: a sandbox, the daemon against it, a verdict.

    sandbox up ─► bridge migrate, bridge run ─► N epochs of traffic, with reorganisations ─► quiet: only the daemon's
    transactions ─► every distribution final ─► claims ─► everything booked ─► daemon stopped ─► reconcile ─► what was
    found is classified by two people ─► reconcile ─► report ─► verified, offline and by the chain ─► verdict

The daemon is the very program that an operator runs, in a process of its own. What it did is judged by its own
reconciliation and, apart from that, by the chain and the traffic's own record (audit.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from bridge.daemon import open_services, reconciler
from bridge.domain.breaks import HELD, BreakKind, Reconciliation
from bridge.domain.errors import ConfigError, RetryableError
from bridge.domain.ledger import UNALLOCATED
from bridge.domain.states import ActionState
from bridge.runtime.config import Config, load_config
from bridge.simulation.anvil import FINALITY_DISTANCE
from bridge.simulation.audit import audit, audit_rule
from bridge.simulation.claimant import Claimant
from bridge.simulation.cluster import Cluster
from bridge.simulation.cluster import Gift as ClusterGift
from bridge.simulation.cluster_run import ClusterRun
from bridge.simulation.daemon_process import DaemonProcess
from bridge.simulation.deploy import ACTIVATION_DELAY_S
from bridge.simulation.files import CHAIN
from bridge.simulation.incidents import Gift, Incidents
from bridge.simulation.outcome import Outcome, Verification
from bridge.simulation.run import Run, unbooked
from bridge.simulation.sandbox import Sandbox, Settings
from bridge.simulation.scenario import window_ends
from bridge.simulation.scenes.scene import Scene, SceneRule
from bridge.simulation.svm.files import write_site
from bridge.simulation.telling import tell
from bridge.stages.correct import approve, ask_classification
from bridge.stages.report import report, write
from bridge.stages.report_files.chain import ask_chain
from bridge.stages.report_files.folder import check_folder
from bridge.stages.report_files.program import file_sha256
from bridge.store.database import Database
from bridge.store.migrations import migrate
from bridge.store.status import Status
from bridge.store.summaries import Summary

BLOCK_TIME_S = 0.25
EPOCH_S = 60
"""Chain time of a window; a block is one second of it, so an epoch takes EPOCH_S × BLOCK_TIME_S of real time."""

REORG_DEPTH = 3
FORMATS = ("html", "json", "csv")
ASKS, APPROVES = "ann (simulated)", "bob (simulated)"
SETTLE_TIMEOUT_S = 120
FINISHED = frozenset({"final", "held", "quarantined", "void"})
"""States of a distribution that time alone does not change."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to simulate. `directory` becomes the sandbox; the report goes to `report_directory`."""

    directory: Path
    report_directory: Path
    seed: int
    epochs: int = 3
    reorgs: int = 2
    kills: int = 0  # how often the daemon is killed (SIGKILL) and started again, at moments drawn from the seed
    block_time_s: float = BLOCK_TIME_S
    epoch_s: int = EPOCH_S
    genesis_timestamp: int | None = None  # None: the start of the present epoch
    rule: str | None = None  # the scene that is played; None: the market
    incidents: bool = False  # what goes wrong besides, see incidents.py; in the market alone
    beside: bool = False  # a Solana chain is played on by the same daemon, see cluster.py

    @property
    def genesis(self) -> int:
        """The chain time of the first block, in seconds."""
        if self.genesis_timestamp is not None:
            return self.genesis_timestamp
        now = int(time.time())
        return now - now % self.epoch_s

    @property
    def settings(self) -> Settings:
        """Of the sandbox. A block is mined only when the simulation asks for it."""
        return Settings(
            seed=self.seed,
            block_time_s=None,
            epoch_s=self.epoch_s,
            genesis_timestamp=self.genesis_timestamp,
            rule=self.rule,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """What the live view shows."""

    phase: str
    block: int  # the chain's newest
    epochs_done: int  # windows whose traffic is over
    epochs: int
    reorgs: int
    status: Status | None  # None before the database is there


Watch = Callable[[Progress], None]


async def simulate(order: Order, watch: Watch, finished: Callable[[Outcome], Awaitable[None]]) -> Outcome:
    """Run it all. `finished` is called with the verdict while chain and database are still there.

    Raises RetryableError where a part of the simulation broke before there was a verdict.
    """
    started = time.monotonic()
    watch(Progress("starting chain and database", 0, 0, order.epochs, 0, None))
    async with Sandbox.start(order.directory, order.settings) as sandbox, _cluster_beside(order, sandbox) as cluster:
        config = load_config(sandbox.config_path)
        ours = sandbox.endpoints | ({cluster.node.rpc_url} if cluster is not None else set())
        refuse_foreign_endpoints(config, ours)
        database = await Database.open(config.database.resolve())
        try:
            await migrate(database)
            beside = None if cluster is None else ClusterRun(cluster, database, order.reorgs)
            simulation = Simulation(order, sandbox, config, database, watch, beside)
            async with simulation.daemon_running():
                await simulation.traffic()
                await simulation.settle()
                await simulation.claim()
            await simulation.tell("reconciling")
            reconciliation = await reconcile(config)
            if await classify_gifts(database, simulation.gifts, reconciliation):
                reconciliation = await reconcile(config)
            content = await report(database, config_sha256=file_sha256(sandbox.config_path))
            await write(content, order.report_directory, FORMATS)
            verification = await verify(config, order.report_directory)
            wall_time_ms = int((time.monotonic() - started) * 1000)
            outcome = await judge(simulation, reconciliation, wall_time_ms, verification)
        finally:
            await database.close()
        await finished(outcome)
        return outcome


@asynccontextmanager
async def _cluster_beside(order: Order, sandbox: Sandbox) -> AsyncIterator[Cluster | None]:
    """The second chain, as the sandbox's configuration then has it too."""
    if not order.beside:
        yield None
        return
    starting = Cluster.start(order.seed, epoch_s=order.epoch_s, epochs=order.epochs, genesis_time=order.genesis)
    async with starting as cluster:
        section = write_site(order.directory, cluster.site)
        with sandbox.config_path.open("a", encoding="utf-8") as file:
            file.write(section)
        yield cluster


def refuse_foreign_endpoints(config: Config, ours: frozenset[str]) -> None:
    """Raises ConfigError for any endpoint that the simulation did not start: no real chain is reached by mistake."""
    named = {config.database.resolve(), *(url for chain in config.chains.values() for url in chain.rpc)}
    for endpoint in sorted(named - ours):
        raise ConfigError(
            f"the simulation did not start {endpoint.split('@')[-1]} and refuses to touch it",
            where=str(config.path),
            mend="to work on a real chain, use bridge run",
        )


@dataclass(slots=True)
class Simulation:
    """A scene that is being played."""

    order: Order
    sandbox: Sandbox
    config: Config
    database: Database
    watch: Watch
    beside: ClusterRun | None = None
    daemon: DaemonProcess | None = None
    reorgs: int = 0
    kills: int = 0
    incidents: Incidents | None = field(init=False, default=None)
    windows_start: int = field(init=False)
    windows_end: int = field(init=False)
    _deaths: set[int] = field(init=False)  # chain times at which the daemon is killed

    def __post_init__(self) -> None:
        # The first window that begins after the first block that is watched is the first that is decided.
        epoch_s = self.order.epoch_s
        first = self.sandbox.miner.timestamp(self.sandbox.start_block)
        self.windows_start = -(-first // epoch_s) * epoch_s
        self.windows_end = self.windows_start + self.order.epochs * epoch_s
        # While there is something to pay: after the first window. Each is at a moment of its own.
        busy = range(self.windows_start + epoch_s, self.windows_end + epoch_s // 2)
        self._deaths = set(Random(self.order.seed).sample(busy, self.order.kills))
        if self.order.incidents and self.order.rule is None:
            self.incidents = Incidents(self.sandbox, self.database, twice=self.order.epochs > 1)

    @asynccontextmanager
    async def daemon_running(self) -> AsyncIterator[None]:
        """The daemon from here to the end of the block, where it is asked to stop, and killed if that is no use."""
        await self._start_daemon()
        try:
            yield
            assert self.daemon is not None
            await self.daemon.stop()
        finally:
            if self.daemon is not None:
                await self.daemon.kill()
            self.daemon = None

    @property
    def daemon_log(self) -> Path:
        return self.order.directory / "daemon.log"

    async def _start_daemon(self) -> None:
        self.daemon = await DaemonProcess.start(self.sandbox.config_path, self.daemon_log)

    async def traffic(self) -> None:
        """Live through the epochs: a block each block time, and reorganisations on the way."""
        while self._next_timestamp() < self.windows_start:  # nothing of this is decided, so it need not take time
            await self.sandbox.miner.mine()
        if self.beside is not None:
            await self.beside.skip_to_windows()
        while self._next_timestamp() < self.windows_end or (self.beside is not None and not self.beside.cluster.over):
            await self._live("traffic")
        self.sandbox.miner.traffic.stop()

    async def settle(self) -> None:
        """Mine on without traffic until nothing is left to do. Raises RetryableError when that takes too long."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        while missing := await self._missing():
            if time.monotonic() > deadline:
                raise RetryableError(f"after {SETTLE_TIMEOUT_S} s there is still something to do: {missing}")
            await self._live("settling")
            if not await self._missing():
                await self._book(deadline)
        await self._book(deadline)

    async def claim(self) -> None:
        """Everybody but one claims, so that something is left to explain; and all that is booked too."""
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        claimant = Claimant(self.sandbox.anvil, self.sandbox.deployment, self.daemon_log)
        accounts = [wallet.address for wallet in self.sandbox.deployment.stage.participants[1:]]
        async with self.database.snapshot() as transaction:
            trees = [tree for chain in self.config.chains for tree in await transaction.claims.newest(chain)]
        for _ in range(ACTIVATION_DELAY_S):
            await self._live("claiming")
        while sum([await claimant.claim(tree, accounts) for tree in trees]):
            if time.monotonic() > deadline:
                raise RetryableError(f"after {SETTLE_TIMEOUT_S} s there is still something to claim")
            await self._live("claiming")
        for _ in range(FINALITY_DISTANCE):
            await self._live("claiming")
        await self.settle()  # where that took long, one more window has closed, and may be paid

    async def _book(self, deadline: float) -> None:
        # The chain stands still now; what is final on it must reach the books.
        while missing := await self._unbooked():
            if time.monotonic() > deadline:
                raise RetryableError(f"after {SETTLE_TIMEOUT_S} s the books are still behind: {missing}")
            await asyncio.sleep(self.order.block_time_s)
            await self.tell("booking")

    async def tell(self, phase: str) -> None:
        if self.daemon is not None:
            self.daemon.check()
        miner = self.sandbox.miner
        elapsed = miner.timestamp(miner.head) - self.windows_start
        done = max(0, min(self.order.epochs, elapsed // self.order.epoch_s))
        self.watch(Progress(phase, miner.head, done, self.order.epochs, self.reorgs, await self._status()))

    async def _live(self, phase: str) -> None:
        await self._mine()
        await self._maybe_reorganise()
        await self._maybe_kill()
        if self.beside is not None:
            await self.beside.live()
        await self.tell(phase)
        await asyncio.sleep(self.order.block_time_s)

    async def _mine(self) -> None:
        """The next block. A reorganisation that is due comes first, so that it takes no incident away."""
        elapsed = self._now() - self.windows_start
        if self.incidents is None or elapsed < self.order.epoch_s // 2 or self._reorg_due():
            await self.sandbox.miner.mine()
        else:
            await self.incidents.mine(last=elapsed >= self.order.epochs * self.order.epoch_s)

    def _now(self) -> int:
        return self.sandbox.miner.timestamp(self.sandbox.miner.head)

    def _reorg_due(self) -> bool:
        """One after each window, and what is left of them after the last."""
        due = self.windows_start + min(self.reorgs + 1, self.order.epochs) * self.order.epoch_s
        return self.reorgs < self.order.reorgs and self._now() >= due

    async def _maybe_reorganise(self) -> None:
        """Take blocks away at the worst moment: when they hold a transaction of ours that is not final yet."""
        if not self._reorg_due() or (self.incidents is not None and not self.incidents.deeper_than(REORG_DEPTH)):
            return
        if (await self._status()).actions.get(ActionState.INCLUDED, 0):
            await self.sandbox.miner.reorganise(REORG_DEPTH)
            self.reorgs += 1

    async def _maybe_kill(self) -> None:
        if self.sandbox.miner.timestamp(self.sandbox.miner.head) in self._deaths:
            assert self.daemon is not None
            await self.daemon.kill()
            await self._start_daemon()
            self.kills += 1

    async def _status(self) -> Status:
        async with self.database.snapshot() as transaction:
            return await transaction.status.read()

    def _next_timestamp(self) -> int:
        return self.sandbox.miner.timestamp(self.sandbox.miner.head + 1)

    async def _missing(self) -> str | None:
        """What must still be decided and paid, or None."""
        status = await self._status()
        if len(status.rules) < len(self.config.rules):
            return "not every rule has decided yet"
        for rule in status.rules:
            if rule.chain != CHAIN:
                continue
            last = max(
                (end for each in self.scene.rules if each.name == rule.rule for end in self.ends(each)), default=0
            )
            if rule.decided_until < last:
                return f"{rule.rule} has decided until {rule.decided_until}, the last window ends {last}"
        if sum(rule.paying for rule in status.rules) > sum(status.distributions.values()):
            return "a decision has no distribution yet"
        unfinished = {state: count for state, count in status.distributions.items() if state not in FINISHED}
        if unfinished:
            return f"distributions: {unfinished}"
        return await self._failing() or (None if self.beside is None else await self.beside.missing())

    async def _failing(self) -> str | None:
        """What failed is held until the finalized chain has said that it was not executed; then it is tried again."""
        if self.incidents is None or self.incidents.failed is None:
            return None
        async with self.database.snapshot() as transaction:
            summaries = await transaction.summaries.read()
        failed = self.incidents.failed.distribution_id
        state = next(each.state for each in summaries if each.distribution_id == failed)
        return None if state == "final" else f"what failed is {state}"

    @property
    def scene(self) -> Scene:
        return self.sandbox.deployment.scene

    def ends(self, rule: SceneRule) -> list[int]:
        """Of the windows that the rule must have decided on."""
        if rule.free:
            return []
        history, epoch_s = self.sandbox.miner.history, self.order.epoch_s
        return window_ends(history, rule.each, epoch_s, self.windows_start, self.windows_end)

    async def _unbooked(self) -> str | None:
        """What is final on the chain and not in the books yet, or None."""
        final = int((await self.sandbox.anvil.call("eth_getBlockByNumber", "finalized", False))["number"], 16)
        if missing := await unbooked(self.database, CHAIN, final):
            return missing
        return None if self.beside is None else await self.beside.unbooked()

    @property
    def reorgs_of_all(self) -> int:
        return self.reorgs + (0 if self.beside is None else self.beside.cluster.forks)

    @property
    def gifts(self) -> list[Gift | ClusterGift]:
        """What was sent to a vault and was no fee."""
        own = [] if self.incidents is None or self.incidents.gift is None else [self.incidents.gift]
        return [*own, *([] if self.beside is None else self.beside.gifts)]


async def until_nothing(missing: Callable[[], Awaitable[str | None]], live: Callable[[], Awaitable[None]]) -> None:
    """Live on until nothing is missing. Raises RetryableError when that takes too long."""
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while what := await missing():
        if time.monotonic() > deadline:
            raise RetryableError(f"after {SETTLE_TIMEOUT_S} s there is still something to do: {what}")
        await live()


async def reconcile(config: Config) -> Reconciliation:
    """Hold the books against the chain, as `bridge reconcile` does."""
    async with open_services(config, sending=False) as services:
        return await reconciler(services).run()


async def classify_gifts(
    database: Database, gifts: Sequence[Gift | ClusterGift], reconciliation: Reconciliation
) -> bool:
    """Two people say what each gift was: `bridge ledger classify`, `approve`, `bridge breaks explain`. Whether there
    were any."""
    given = {(BreakKind.UNEXPECTED_IN, gift.asset, gift.amount) for gift in gifts}
    found = [each for each in reconciliation.breaks if (each.kind, each.asset, each.amount) in given]
    for each in found:
        number = await ask_classification(
            database, each.break_id, UNALLOCATED, reason="a gift to the treasury", by=ASKS
        )
        await approve(database, number, by=APPROVES)
        async with database.begin() as transaction:
            words = f"a gift to the treasury, booked by correction {number}: asked by {ASKS}, approved by {APPROVES}"
            await transaction.breaks.explain(each.break_id, reason=words, by=APPROVES)
    return bool(found)


async def verify(config: Config, directory: Path) -> Verification:
    """The report's folder, as `bridge verify DIR` and `bridge verify DIR --rpc URL` look at it."""
    checked = check_folder(directory)
    problems, blocks, balances = [*checked.problems], 0, 0
    async with open_services(config, sending=False) as services:
        for chain in services.chains:
            if checked.document is None:
                break
            asked = await ask_chain(checked.document, chain.reader)
            blocks, balances = blocks + asked.blocks, balances + asked.balances
            problems += asked.problems
    return Verification(checked.files, blocks, balances, tuple(problems))


def doubts(
    run: Run, reconciliation: Reconciliation, verification: Verification | None, waiting: Sequence[Summary] = ()
) -> list[str]:
    """Why a run that has settled is not balanced, as its own books, checks and report say. A share of those `waiting`
    stays held."""
    reasons = [
        f"distribution 0x{distribution.distribution_id.hex()} is {distribution.state}"
        for distribution in run.distributions
        if distribution.state != "final" and distribution not in waiting
    ]
    reasons += [f"break {found.break_id}: {found.kind} of {found.subject}" for found in reconciliation.breaks]
    reasons += [
        f"{check.level} check of {check.subject} was skipped: {check.skipped}"
        for check in reconciliation.skipped
        if not waiting or check.subject != HELD
    ]
    reasons += [
        f"decision held: {waiting.reason}"
        for waiting in run.status.waiting
        if (waiting.kind, waiting.state) == ("decision", "held")
    ]
    problems = () if verification is None else verification.problems
    return [*reasons, *(f"the report is not verified: {problem}" for problem in problems)]


async def judge(
    simulation: Simulation,
    reconciliation: Reconciliation,
    wall_time_ms: int,
    verification: Verification | None = None,
) -> Outcome:
    """The verdict on a simulation that has settled: every reason to say no is gathered."""
    async with simulation.database.snapshot() as transaction:
        run = await Run.read(transaction)
        incidents = () if simulation.incidents is None else simulation.incidents.all
        happened = await tell(transaction, incidents, simulation.reorgs)
    waiting = [] if simulation.beside is None else simulation.beside.waiting(run.distributions)
    reasons = doubts(run, reconciliation, verification, waiting)
    reasons += await audit(simulation.sandbox, run.payouts)
    history = simulation.sandbox.miner.history
    for rule in simulation.scene.rules:
        reasons += audit_rule(rule, history, run.decided.get((CHAIN, rule.name), []), simulation.ends(rule))
    if simulation.beside is not None:
        reasons += simulation.beside.reasons(run)
        happened += simulation.beside.happened(run)
    if simulation.incidents is not None:
        happened += [f"no occasion came for {what}: another seed has it" for what in simulation.incidents.missing]
    return Outcome(
        seed=simulation.order.seed,
        epochs=simulation.order.epochs,
        reasons=tuple(dict.fromkeys(reasons)),
        sandbox=simulation.sandbox.facts()
        | ({} if simulation.beside is None else {"solana": simulation.beside.cluster.facts()}),
        directory=simulation.order.directory,
        report_directory=simulation.order.report_directory,
        run=run,
        happened=tuple(happened),
        verification=verification,
        figures={
            **run.figures(),
            "reorgs": simulation.reorgs_of_all,
            "kills": simulation.kills,
            "wall_time_ms": wall_time_ms,
        },
    )
