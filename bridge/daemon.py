"""The composition root: the only place that knows both stages and adapters, and joins them.

    bridge.toml ─► database, chains, rules ─► a supervisor a chain ─► ingest · decide · pay · confirm · post
                                                                      seal · notify (one for all chains)
                                   a supervisor for all ────────────► reconcile · sweep · seals · partitions · days

Each stage runs in its own task and talks to the others through Postgres alone. A notice from the database wakes the
idle ones; APScheduler those whose time has come, which a table says.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from bridge.chains.evm.claim_folder import ClaimFolder
from bridge.compose.chain import open_chain
from bridge.compose.database import open_database
from bridge.domain.confirmations import Confirmation
from bridge.domain.errors import DatabaseUnavailable
from bridge.domain.jobs import Schedule
from bridge.domain.ledger import Watched
from bridge.domain.payouts import Ceilings, GasFloor
from bridge.domain.rules import Token
from bridge.domain.units import AssetId, format_tx
from bridge.http.claims import ClaimRoutes
from bridge.http.metrics import MetricRoutes
from bridge.http.server import serve_http
from bridge.ports.paying import Payer
from bridge.ports.reading import ChainReader, ClaimedAmounts, Executions, History, LogFilter, Market
from bridge.ports.running import Lease
from bridge.prices.http import HttpMarket
from bridge.runtime.clock import SystemClock
from bridge.runtime.config import ChainSection, Config
from bridge.runtime.logs import get_logger
from bridge.runtime.metrics import Sample
from bridge.runtime.rulefile import load_configured
from bridge.runtime.supervisor import Supervisor, Wake
from bridge.runtime.timetable import Timetable
from bridge.stages import binding, post
from bridge.stages.binding import BoundRule
from bridge.stages.confirm import Confirm
from bridge.stages.days import DAY_S, close_day
from bridge.stages.decide import Decide
from bridge.stages.divergence import Divergence, Search, find_mirror
from bridge.stages.ingest import Ingest
from bridge.stages.jobs import Job, Periodic
from bridge.stages.notify import Notify, Subscriber
from bridge.stages.pay import Pay
from bridge.stages.post import Post
from bridge.stages.prices import PriceSources
from bridge.stages.publish import Publish
from bridge.stages.reconcile import Reconcile
from bridge.stages.seal import Seal, walk_on
from bridge.stages.view import Books
from bridge.store.database import Database
from bridge.store.leases import Leases
from bridge.store.metrics import read_metrics

_log = get_logger("daemon")

HEARTBEAT_S = 60
JOBS_POLL_MS = 5_000
"""The timetable wakes them; this is for a call that was lost."""

# A new name at each start: an instance never takes its predecessor's lease for its own.
_HOLDER = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"


@dataclass(frozen=True, slots=True)
class ChainServices:
    """Everything that stages of one chain need."""

    name: str
    section: ChainSection
    reader: ChainReader
    history: History
    payer: Payer | None  # None where nothing is sent: commands that only read need no key
    rules: tuple[BoundRule, ...]
    watched: Watched
    filters: tuple[LogFilter, ...]
    files: ClaimFolder | None  # None where everything is pushed
    executions: Executions | None  # None where events alone say what was executed
    claimed: ClaimedAmounts | None  # None where nothing is claimed
    prices: PriceSources | None  # None where nothing is decided: commands that only read need no keys of markets


@dataclass(frozen=True, slots=True)
class Services:
    """The opened world."""

    config: Config
    database: Database
    chains: tuple[ChainServices, ...]


@contextlib.asynccontextmanager
async def open_services(config: Config, *, sending: bool) -> AsyncIterator[Services]:
    """Connect to everything that the configuration names, and check it. Raises ConfigError for what does not fit.

    With `sending` the operator's key is opened too.
    """
    async with open_database(config) as database, AsyncExitStack() as stack:
        markets = _open_markets(config, stack) if sending else None
        chains = [await _open_chain(config, name, database, stack, markets) for name in config.chains]
        yield Services(config, database, tuple(chains))


def _open_markets(config: Config, stack: AsyncExitStack) -> dict[str, HttpMarket]:
    markets = {name: HttpMarket(name, section, config.price_key(name)) for name, section in config.prices.items()}
    for market in markets.values():
        stack.push_async_callback(market.close)
    return markets


async def _open_chain(
    config: Config, name: str, database: Database, stack: AsyncExitStack, markets: Mapping[str, Market] | None
) -> ChainServices:
    """`markets` is None where nothing is to be decided or sent."""
    section = config.chains[name]
    opened = await open_chain(config, name, stack, sending=markets is not None)
    reader = opened.reader
    tokens = {symbol: Token(section.asset(token.address), token.address) for symbol, token in section.tokens.items()}
    sections = [rule for rule in config.rules if rule.chain == name]
    plans = [load_configured(config, name, config.relative(rule.file)) for rule in sections]
    rules = binding.bind_rules(
        plans,
        chain=reader,
        contracts=section.contracts,
        tokens=tokens,
        from_blocks=[rule.from_block for rule in sections],
    )
    async with database.begin() as transaction:
        await transaction.chains.register(
            name, section.kind, section.reference, await reader.genesis_hash(), section.start_block
        )
    return ChainServices(
        name=name,
        section=section,
        reader=reader,
        history=opened.history,
        payer=opened.payer,
        rules=rules,
        watched=opened.watched,
        filters=(*binding.log_filters(rules), *post.log_filters(reader, opened.watched)),
        files=opened.files,
        executions=opened.executions,
        claimed=opened.claimed,
        prices=None if markets is None else PriceSources(opened.feeds, markets, SystemClock()),
    )


def _ceilings(section: ChainSection) -> Ceilings:
    spending = section.spending
    limits = (spending.max_per_transaction, spending.max_per_day, spending.max_per_recipient)
    return Ceilings(*(_by_asset(section, by_token) for by_token in limits))


def _by_asset(section: ChainSection, by_token: Mapping[str, int]) -> dict[AssetId, int]:
    return {section.asset(section.tokens[symbol].address): value for symbol, value in by_token.items()}


async def serve(config: Config, stop: asyncio.Event, subscribers: Mapping[str, Subscriber] | None = None) -> None:
    """Run all stages until `stop` is set; then let go of everything at once, which is safe at any line.

    `subscribers` are told every transition of every payout; the log is always one of them.
    """
    async with open_services(config, sending=True) as services:
        async with services.database.begin() as transaction:
            if await transaction.confirmations.adopt():
                _log.warning("restored into another Postgres cluster", action="daemon.adopted")
        _log.info("daemon started", action="daemon.started", chains=[chain.name for chain in services.chains])
        wake = Wake()
        jobs = [services.database.listen(wake)]
        for chain in services.chains:
            jobs += _stages(services, chain, wake)
        jobs += _stages_of_all(services, {"log": _log_confirmation, **(subscribers or {})}, wake)
        if config.http is not None:
            routes = ClaimRoutes(chain.files for chain in services.chains if chain.files is not None)
            jobs.append(serve_http(routes.application(), *config.http.address, SystemClock()))
        if config.metrics is not None:
            metrics = MetricRoutes(lambda: _metrics(services))
            jobs.append(serve_http(metrics.application(), *config.metrics.address, SystemClock()))
        timetable = Timetable()
        timetable.every(HEARTBEAT_S, partial(_heartbeat, services))
        jobs += _jobs(services, wake, timetable)
        with timetable.running():
            await _until_stopped(jobs, stop)
    _log.info("daemon stopped", action="daemon.stopped")


async def _metrics(services: Services) -> list[Sample]:
    async with services.database.snapshot() as transaction:
        return await read_metrics(transaction, services.config.included_within)


def _stages(services: Services, chain: ChainServices, wake: Wake) -> list[Coroutine[Any, Any, None]]:
    assert chain.payer is not None
    payer, database, reader, section = chain.payer, services.database, chain.reader, chain.section
    run = _supervisor(services, chain.name, wake, section.poll_interval_ms).run
    jobs = [
        run("ingest", lambda lease: Ingest(database=database, chain=reader, filters=chain.filters, lease=lease)),
        run(
            "decide",
            lambda lease: Decide(
                database=database,
                chain=reader,
                rules=chain.rules,
                lease=lease,
                always_read=tuple(chain.watched.contracts.values()),  # for the books
                prices=chain.prices,
            ),
        ),
        run(
            "pay",
            lambda lease: Pay(
                database=database,
                chain=reader,
                payer=payer,
                lease=lease,
                ceilings=_ceilings(section),
                batch_recipients=section.spending.batch_recipients,
                claims_above={} if section.claims is None else _by_asset(section, section.claims.above),
                gas_floor=GasFloor(
                    chain.watched.native.id,
                    section.low_balance,
                    asked_for=section.operator.low_balance is not None,
                ),
            ),
        ),
        run("confirm", lambda lease: Confirm(database=database, chain=reader, payer=payer, lease=lease)),
        run("post", lambda lease: _post(database, chain, lease)),
    ]
    if (files := chain.files) is not None:
        jobs.append(
            run("publish", lambda lease: Publish(database=database, chain=chain.name, files=files, lease=lease))
        )
    return jobs


def _post(database: Database, chain: ChainServices, lease: Lease) -> Post:
    return Post(
        database=database,
        chain=chain.reader,
        watched=chain.watched,
        start_block=chain.section.start_block,
        lease=lease,
    )


def reconciler(services: Services, lease: Lease | None = None) -> Reconcile:
    """Holds the books of all chains against them; a run by hand needs no lease."""
    return Reconcile(
        database=services.database,
        books=[
            Books(each.reader, each.watched, each.section.start_block, each.history, each.executions, each.claimed)
            for each in services.chains
        ],
        lease=lease,
        accounts_swept=services.config.jobs.sweep_accounts,
    )


def _job(services: Services, name: str, lease: Lease) -> Job:
    """What is done by the clock; see bridge/stages/jobs.py."""
    database, every = services.database, services.config.jobs

    async def partitions(_: int) -> str:
        made = 0
        for chain in services.chains:
            async with database.begin(lease) as transaction:
                made += await transaction.jobs.partitions_ahead(chain.name)
        return f"{made} made"

    # Built once for as long as the lease is held: a reconciler remembers how far its last run came.
    reconcile = reconciler(services, lease)
    match name:
        case "reconcile":
            return Job(Schedule(name, services.config.reconcile_interval_s), lambda _: reconcile.follow())
        case "sweep":
            return Job(Schedule(name, every.sweep_interval_s), lambda _: reconcile.follow(sweep=True))
        case "seals":
            return Job(Schedule(name, every.seals_interval_s), lambda _: walk_on(database, lease))
        case "partitions":
            return Job(Schedule(name, every.partitions_interval_s), partitions)
        case "days":
            return Job(Schedule(name, DAY_S, each_period=True), lambda due: close_day(reconcile, database, lease, due))
        case _:
            raise AssertionError(name)


JOBS = ("reconcile", "sweep", "seals", "partitions", "days")


def _jobs(services: Services, wake: Wake, timetable: Timetable) -> list[Coroutine[Any, Any, None]]:
    """A stage for each, with its own lease: one that fails or takes long holds up no other."""
    run = _supervisor(services, "all", wake, poll_interval_ms=JOBS_POLL_MS).run

    async def awaken() -> None:
        wake()

    def periodic(name: str, lease: Lease) -> Periodic:
        return Periodic(
            job=_job(services, name, lease),
            database=services.database,
            clock=SystemClock(),
            wake_at=lambda name, time: timetable.at(name, time, awaken),
            lease=lease,
        )

    return [run(name, partial(periodic, name)) for name in JOBS]


async def divergence(services: Services, account: str, symbol: str | None) -> Divergence:
    """Where the books of `account` part from its chain. Raises ConfigError where `account` and `symbol` name no one."""
    mirror = find_mirror([chain.watched for chain in services.chains], account, symbol)
    [chain] = [chain for chain in services.chains if mirror in chain.watched.mirrors]
    search = Search(
        database=services.database,
        chain=chain.reader,
        history=chain.history,
        watched=chain.watched,
        mirror=mirror,
        start_block=chain.section.start_block,
    )
    return await search.run()


def _stages_of_all(
    services: Services, subscribers: Mapping[str, Subscriber], wake: Wake
) -> list[Coroutine[Any, Any, None]]:
    run = _supervisor(services, "all", wake, poll_interval_ms=1000).run
    return [
        run("seal", lambda lease: Seal(database=services.database, clock=SystemClock(), lease=lease)),
        run(
            "notify",
            lambda lease: Notify(database=services.database, subscribers=subscribers, clock=SystemClock(), lease=lease),
        ),
    ]


def _supervisor(services: Services, scope: str, wake: Wake, poll_interval_ms: int) -> Supervisor:
    return Supervisor(
        chain=scope,
        database=services.database,
        leases=Leases(services.database),
        clock=SystemClock(),
        wake=wake,
        holder=_HOLDER,
        lease_duration_ms=services.config.lease_duration_ms,
        poll_interval_ms=poll_interval_ms,
    )


async def _heartbeat(services: Services) -> None:
    """One line that says how it goes, for whoever reads only logs; and one for each condition."""
    try:
        async with services.database.snapshot() as transaction:
            status = await transaction.status.read()
            conditions = await transaction.conditions.read(services.config.included_within)
    except DatabaseUnavailable as error:
        _log.warning("no heartbeat", action="daemon.heartbeat", error=str(error))
        return
    for chain in status.chains:
        _log.info(
            "heartbeat",
            action="daemon.heartbeat",
            chain=chain.chain,
            head=chain.head_number,
            lag_blocks=chain.lag_blocks,
            finalized=chain.finalized_number,
            distributions=status.distributions,
            waiting=len(status.waiting),
            breaks=status.breaks,
        )
    for condition in conditions:
        _log.warning(
            "condition",
            action="daemon.condition",
            condition=str(condition.name),
            chain=condition.chain,
            subject=condition.subject,
            since=condition.since.isoformat(),
            detail=condition.detail,
        )


async def _until_stopped(jobs: Sequence[Coroutine[Any, Any, None]], stop: asyncio.Event) -> None:
    """Run all jobs until `stop`; the first job that ends with an error ends them all with it."""
    tasks = [asyncio.create_task(job) for job in jobs]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in (*tasks, stopping):
            task.cancel()
        await asyncio.gather(*tasks, stopping, return_exceptions=True)


async def _log_confirmation(confirmation: Confirmation) -> None:
    """The subscriber that is always there."""
    _log.info(
        "payout transition",
        action="payout.transition",
        chain=confirmation.chain,
        distribution=confirmation.distribution_id,
        step=confirmation.kind,
        batch=confirmation.batch_index,
        came_from=str(confirmation.from_state),
        state=str(confirmation.to_state),
        reason=confirmation.reason,
        tx=None if confirmation.tx_id is None else format_tx(confirmation.tx_id),
        block=confirmation.block_number,
    )
