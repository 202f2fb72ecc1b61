"""The daemon of one process: real supervisors, leases and stages, joined as bridge/daemon.py joins them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg

from bridge.domain.confirmations import Confirmation
from bridge.domain.errors import RetryableError
from bridge.domain.jobs import Schedule
from bridge.domain.ledger import Watched
from bridge.domain.rules import Token
from bridge.domain.units import Address
from bridge.ports.paying import Payer
from bridge.ports.reading import ChainReader
from bridge.ports.running import Lease, Stage
from bridge.runtime.crashpoints import CrashPoint
from bridge.runtime.rulefile import parse_rule
from bridge.runtime.supervisor import Supervisor, Wake
from bridge.stages import binding, post
from bridge.stages.confirm import Confirm
from bridge.stages.decide import Decide
from bridge.stages.ingest import Ingest
from bridge.stages.jobs import Job, Periodic
from bridge.stages.notify import Notify
from bridge.stages.pay import Pay
from bridge.stages.post import Post
from bridge.stages.publish import Publish
from bridge.stages.reconcile import Reconcile
from bridge.stages.view import Books
from bridge.store import leases
from bridge.store.database import Database
from bridge.store.leases import Leases
from tests.chaos.loop import SeededLoop
from tests.chaos.process import Process
from tests.chaos.wire import Wire
from tests.stages.shelf import Shelf, Trees

LEASE_MS = 4_000
POLL_MS = 1_500
RECONCILE_S = 10
WINDOW_S = 60
RULE = f"""
rule: fees
version: 1
description: fees of five blocks by deposits
asset: USDX
window: {{every: {WINDOW_S} s}}
events:
  fee:
    contract: vault
    event: "FeePaid(address indexed token, address indexed payer, uint256 amount)"
    where: token == asset
    units: {{amount: amount<USDX>}}
  deposit:
    contract: pool
    event: "Deposited(address indexed account, uint256 amount)"
    units: {{amount: amount<USDX>}}
  withdrawal:
    contract: pool
    event: "Withdrawn(address indexed account, uint256 amount)"
    units: {{amount: amount<USDX>}}
inputs:
  fees: {{sum: fee.amount}}
  stake: {{time_weighted: {{add: deposit.amount, subtract: withdrawal.amount, by: account}}}}
surplus: fees
carry: surplus
split: {{pro_rata: stake}}
"""
PLAN = parse_rule(RULE, name="rule fees")

_here: ContextVar[Process] = ContextVar("process")


def here() -> Process:
    """The process that the caller runs in."""
    return _here.get()


class Reaching:
    """Stands where the environment's crash point would: asks the process that came there."""

    def reach(self, point: CrashPoint) -> None:
        process = _here.get(None)
        if process is not None:
            process.reach(point)


class VirtualClock:
    def __init__(self, loop: SeededLoop) -> None:
        self._loop = loop

    def now(self) -> int:
        return int(self._loop.time())

    def monotonic_ms(self) -> int:
        return int(self._loop.time() * 1000)

    async def sleep_ms(self, duration_ms: int) -> None:
        await asyncio.sleep(duration_ms / 1000)


class VirtualLeases(Leases):
    """The statements of bridge/store/leases.py, with the run's clock where they ask for the database's."""

    def __init__(self, database: Database, loop: SeededLoop) -> None:
        super().__init__(database)
        self._of = database
        self._loop = loop

    async def acquire(self, name: str, holder: str, duration_ms: int) -> Lease | None:
        epoch = await self._do(leases.ACQUIRE, name, holder, duration_ms)
        return None if epoch is None else Lease(name, epoch, holder)

    async def renew(self, lease: Lease, duration_ms: int) -> bool:
        return await self._do(leases.RENEW, lease.name, lease.epoch, duration_ms) is not None

    async def _do(self, statement: str, *arguments: object) -> int | None:
        moment = datetime.fromtimestamp(self._loop.time(), UTC)
        timed = statement.replace("clock_timestamp()", "$4::TIMESTAMPTZ")
        async with self._of.begin() as transaction:
            epoch: int | None = await transaction.connection.fetchval(timed, *arguments, moment)
        return epoch


@dataclass(frozen=True, slots=True)
class Side:
    """A process's own way to the chain, and what is configured of it."""

    kind: str
    start_block: int
    reader: ChainReader
    payer: Payer
    watched: Watched
    contracts: Mapping[str, Address]
    token: Token  # that fees come in


@dataclass
class Shared:
    """What outlives every process."""

    loop: SeededLoop
    connect: Callable[[Process, Address], Side]
    connection: asyncpg.Connection[Any]
    notify: Callable[[], None]
    told: list[Confirmation] = field(default_factory=list)
    batch_recipients: int = 2
    lease_ms: int = LEASE_MS
    poll_ms: int = POLL_MS
    claims_above: int | None = None  # recipients; larger sets are claimed
    trees: Trees = field(default_factory=dict)  # on a disk that outlives every process


class Daemon:
    """One process from its start to its end."""

    def __init__(self, shared: Shared, process: Process, account: Address) -> None:
        self.process = process
        self.wake = Wake()
        self.database = Database(Wire(shared.connection, process, shared.notify), "")  # type: ignore[arg-type]
        self._shared = shared
        self._clock = VirtualClock(shared.loop)
        self._side = shared.connect(process, account)
        self.reader, self.payer, self.watched = self._side.reader, self._side.payer, self._side.watched
        self._supervisors = [self._supervisor(self.reader.name), self._supervisor("all")]

    @property
    def held(self) -> bool:
        """Whether a person must restart it."""
        return any(supervisor._hold.reason is not None for supervisor in self._supervisors)

    async def serve(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. Raises Died, and whatever ends a daemon."""
        _here.set(self.process)
        try:
            genesis = await self.reader.genesis_hash()
            async with self.database.begin() as transaction:
                await transaction.chains.register(
                    self.reader.name, self._side.kind, self.reader.reference, genesis, self._side.start_block
                )
        except RetryableError:
            return  # exit code 3; it is started again
        tasks = [asyncio.create_task(job) for job in self._jobs()]
        stopping = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*tasks, stopping):
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks, stopping, return_exceptions=True)

    def reconciler(self) -> Reconcile:
        return self._reconcile(None)

    def _jobs(self) -> list[Coroutine[Any, Any, None]]:
        contracts, token = self._side.contracts, self._side.token
        rules = binding.bind_rules([PLAN], chain=self.reader, contracts=contracts, tokens={"USDX": token})
        filters = (*binding.log_filters(rules), *post.log_filters(self.reader, self.watched))
        builders: dict[str, Callable[[Lease], Stage]] = {
            "ingest": lambda lease: Ingest(database=self.database, chain=self.reader, filters=filters, lease=lease),
            "decide": lambda lease: Decide(database=self.database, chain=self.reader, rules=rules, lease=lease),
            "pay": self._pay,
            "confirm": self._confirm,
            "post": self._post,
            "publish": self._publish,
        }
        if self._side.kind == "solana":
            del builders["publish"]  # nothing is claimed there
        chain, every = self._supervisors
        jobs = [chain.run(name, build) for name, build in builders.items()]
        return [*jobs, every.run("reconcile", self._periodic), every.run("notify", self._notify)]

    def _post(self, lease: Lease) -> Stage:
        return Post(
            database=self.database,
            chain=self.reader,
            watched=self.watched,
            start_block=self._side.start_block,
            lease=lease,
        )

    def _pay(self, lease: Lease) -> Stage:
        claims_above = self._shared.claims_above
        return Pay(
            database=self.database,
            chain=self.reader,
            payer=self.payer,
            lease=lease,
            batch_recipients=self._shared.batch_recipients,
            claims_above={} if claims_above is None else {self._side.token.asset: claims_above},
        )

    def _publish(self, lease: Lease) -> Stage:
        files = Shelf(self.payer, self._shared.trees)
        return Publish(database=self.database, chain=self.reader.name, files=files, lease=lease)

    def _confirm(self, lease: Lease) -> Stage:
        return Confirm(database=self.database, chain=self.reader, payer=self.payer, lease=lease)

    def _notify(self, lease: Lease) -> Stage:
        return Notify(database=self.database, subscribers={"people": self._tell}, clock=self._clock, lease=lease)

    def _reconcile(self, lease: Lease | None) -> Reconcile:
        return Reconcile(
            database=self.database,
            books=[Books(self.reader, self.watched, self._side.start_block)],
            lease=lease,
        )

    def _periodic(self, lease: Lease) -> Stage:
        reconcile = self._reconcile(lease)
        return Periodic(
            job=Job(Schedule("reconcile", RECONCILE_S), lambda _: reconcile.follow()),
            database=self.database,
            clock=self._clock,
            wake_at=lambda name, time: None,  # the poll is enough
            lease=lease,
        )

    async def _tell(self, confirmation: Confirmation) -> None:
        await self.process.turn("subscriber")
        self._shared.told.append(confirmation)

    def _supervisor(self, scope: str) -> Supervisor:
        return Supervisor(
            chain=scope,
            database=self.database,
            leases=VirtualLeases(self.database, self._shared.loop),
            clock=self._clock,
            wake=self.wake,
            holder=self.process.name,
            lease_duration_ms=self._shared.lease_ms,
            poll_interval_ms=self._shared.poll_ms,
        )
