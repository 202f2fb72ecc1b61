"""One seed from beginning to end: trouble, then peace, then a verdict.

    genesis ─► blocks with traffic and trouble ─► faults end, all restart ─► blocks until everything is final ─► judge

People are part of the world (people.py): they approve, veto, and do what the README says of what waits for a person.
Nothing else helps.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from bridge.chains.fake.gate import Gate
from bridge.runtime import crashpoints
from bridge.store.database import _prepare_connection
from tests.chaos.backup import TABLES, make_copy, set_back
from tests.chaos.daemon import Daemon, Reaching, Shared
from tests.chaos.judge import books_are_open, judge, unsettled
from tests.chaos.loop import Restless, SeededLoop
from tests.chaos.network import ACCOUNTS, CHAIN_SECONDS, FINALITY_DEPTH, Network, Traffic
from tests.chaos.people import People
from tests.chaos.process import Died, Process
from tests.chaos.trouble import GATE, Fault, Trouble
from tests.stages.books import CLAIMS

BLOCK_S = 2.0
TROUBLED_BLOCKS = 32
TRAFFIC_BLOCKS = 20
"""Only the first blocks bring fees, so that trouble meets the payments of most of them too."""
HEALING_BLOCKS_MAX = 80
PERSON_EVERY_BLOCKS = 6
COPY_BLOCKS = (2, 9)
"""How old the copy is at least and at most, in blocks, that a database is set back to."""
START_DELAY_MAX_S = 2
STOPPING_S = 0.2
USUAL_FEE = 10
DEAR_BLOCKS = (4, 10)
EMPTY = f"""
    -- The ledger refuses to be emptied; a session in this role runs no triggers.
    DO $$
    DECLARE
        one TEXT;
    BEGIN
        SET LOCAL session_replication_role = replica;
        FOR one IN {TABLES} LOOP
            EXECUTE format('DELETE FROM %I', one);
        END LOOP;
        FOR one IN SELECT format('%I', c.relname) FROM pg_class c
                    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'S'
        LOOP
            EXECUTE format('ALTER SEQUENCE %s RESTART', one);
        END LOOP;
    END $$
"""


@dataclass
class Outcome:
    """What came of one seed. No problems: it is clean."""

    seed: int
    problems: list[str] = field(default_factory=list)
    counts: dict[Fault, int] = field(default_factory=dict)
    blocks: int = 0
    batches: int = 0
    trees: int = 0
    bumps: int = 0
    instances: int = 0
    trace: list[str] = field(default_factory=list)


class Track:
    """What runs share, one after the other: an event loop, and a connection whose statements stay prepared."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._open()

    def _open(self) -> None:
        self._loop = SeededLoop()
        self._loop.set_exception_handler(lambda *_: None)  # the tasks of the dead leave errors behind
        self._runner = asyncio.Runner(loop_factory=lambda: self._loop)
        self._connection = self._runner.run(_connect(self._loop, self._url))

    def close(self) -> None:
        self._loop.talking = True
        self._runner.run(self._connection.close())
        self._runner.close()

    def run(self, seed: int, *, kinds: frozenset[Fault] | None = None, instances: int | None = None) -> Outcome:
        """One run in a database that is emptied first. `kinds`: which faults it has, `instances`: how many daemons; the
        seed draws either where None."""
        outcome = Outcome(seed)
        chance = random.Random(seed)
        random.seed(seed)  # the supervisor spreads its retries by the module's own generator
        trouble = Trouble(chance, kinds)
        self._loop.begin(chance, slowness=chance.choice([0, 0.01, 0.05]))
        before, crashpoints._armed = crashpoints._armed, Reaching()  # type: ignore[assignment]
        try:
            drawn = 1 + (chance.random() < 0.4)
            outcome.instances = instances or drawn
            self._runner.run(self._run(trouble, outcome, outcome.instances))
        except Restless as error:
            outcome.problems.append(f"restless: {error}")
            self._connection.terminate()
            outcome.trace = self._loop.trace
            self._open()  # in the old loop somebody still works without end
        else:
            outcome.trace = self._loop.trace
        finally:
            crashpoints._armed = before
        outcome.counts = dict(trouble.counts)
        return outcome

    async def _run(self, trouble: Trouble, outcome: Outcome, instances: int) -> None:
        self._loop.talking = True
        await self._connection.execute(EMPTY)
        self._loop.talking = False
        world = World(self._loop, self._connection, trouble, instances=instances)
        world.network.l1_fee = outcome.seed % 2 * 777_777  # every other chain is a rollup
        await world.troubled(TROUBLED_BLOCKS)
        waits = await world.healed()
        if waits is not None:
            outcome.problems.append(f"not settled in {HEALING_BLOCKS_MAX} quiet blocks: {waits}")
        await world.stop()
        if not world.failures:
            outcome.problems += await world.judged()
        outcome.problems = world.failures + outcome.problems
        outcome.blocks = world.network.chain.head.number
        outcome.batches = len(world.network.paid())
        outcome.bumps = world.network.bumps
        outcome.trees = world.network.trees


async def _connect(loop: SeededLoop, url: str) -> asyncpg.Connection[Any]:
    """Opened as production opens its own."""
    loop.talking = True
    connection = await asyncpg.connect(
        url,
        max_cached_statement_lifetime=0,  # its timer would run by the run's clock
        statement_cache_size=1000,
    )
    await _prepare_connection(connection)  # type: ignore[arg-type]
    return connection


class World:
    """Chain, processes and people around one database."""

    def __init__(
        self, loop: SeededLoop, connection: asyncpg.Connection[Any], trouble: Trouble, *, instances: int
    ) -> None:
        self.network = Network.start()
        self.failures: list[str] = []
        self._trouble = trouble
        self._chance = trouble.chance
        self._loop = loop
        self._shared = Shared(loop, self.network, connection, self._notify)
        self._shared.claims_above = trouble.chance.choice([None, 1, 2])
        self.network.claims = None if self._shared.claims_above is None else CLAIMS
        self._account = ACCOUNTS[0]
        self._traffic = Traffic(self.network, trouble.chance)
        self._running: dict[int, tuple[Daemon, asyncio.Event]] = {}
        self._started = 0
        self._busy = True  # while there is traffic
        self._dear_blocks = 0  # how many the fee spike still lasts
        self._over = False
        self._hosts = [asyncio.create_task(self._host(place)) for place in range(instances)]
        quiet = Trouble(random.Random(0), frozenset())
        self._person = Daemon(self._shared, Process("person", loop, quiet), ACCOUNTS[0])  # never served: only asks
        self._people = People(self.network, self._person.database, trouble)
        self._copied_at: int | None = None  # block
        self._down = False  # no daemon is started
        if trouble.kinds & GATE:
            self.network.gate = Gate(
                auto_limit=trouble.chance.choice([0, 0, 10**12]),
                delay_s=trouble.chance.choice([0, 2]) * CHAIN_SECONDS,
                lifetime_s=(3 if Fault.APPROVAL_EXPIRED in trouble.kinds else 1000) * CHAIN_SECONDS,
            )

    async def troubled(self, blocks: int) -> None:
        for block in range(1, blocks + 1):
            self._busy = block <= TRAFFIC_BLOCKS
            await asyncio.sleep(BLOCK_S)
            self._disturb()
            self._people.approve()
            self._mine()
            if await books_are_open(self._person.database):
                if self._trouble.strikes(Fault.KEY_ROTATION):
                    self._use_key(1 - ACCOUNTS.index(self._account))
                await self._people.interfere()
                await self._back_up_and_restore()
            self._restart_held()
            if block % PERSON_EVERY_BLOCKS == 0:
                await self._help()

    async def healed(self) -> str | None:
        """Mine until everything is settled. Returns what is not, where that never comes."""
        self._trouble.end()
        self._loop.slowness = 0
        self.network.faults.reverts = False
        self.network.base_fee = USUAL_FEE
        closed = self.network.chain.head.timestamp
        self._use_key(0)
        waits: str | None = None
        for block in range(1, HEALING_BLOCKS_MAX):
            await asyncio.sleep(BLOCK_S)
            self._people.approve()
            self._mine()
            self._restart_held()
            waits = await unsettled(self._person.database, self.network, closed, self._shared.told)
            if self.failures or (waits is None and self._account == ACCOUNTS[0]):
                return None
            if block % PERSON_EVERY_BLOCKS == 0:
                await self._help()
        return waits

    async def stop(self) -> None:
        self._over = True  # a daemon that is on its way out takes the cancellation for the order that it has already
        for host in self._hosts:
            host.cancel()
        await asyncio.gather(*self._hosts, return_exceptions=True)

    async def judged(self) -> list[str]:
        return await judge(
            self._person.database,
            self._person.reconciler(),
            self.network,
            self._shared.told,
            self._trouble.counts,
        )

    # ── the chain ──
    def _disturb(self) -> None:
        chain, strikes = self.network.chain, self._trouble.strikes
        if strikes(Fault.REORG):
            depth = self._chance.randint(1, min(FINALITY_DEPTH, chain.head.number - chain.finalized) or 1)
            if depth <= chain.head.number - chain.finalized:
                self._loop.note(f"reorg {depth}")
                self.network.reorg(depth, put_back=self._chance.random() < 0.5)
                for _ in range(depth - 1):
                    self._mine()
        self._change_fees()
        self.network.faults.reverts = strikes(Fault.REVERT)
        if strikes(Fault.RESTART) and self._running:
            self._restart(self._chance.choice(sorted(self._running)))

    def _change_fees(self) -> None:
        """Fees rise over what was offered and stay there for some blocks: what was sent waits, and is replaced."""
        self._dear_blocks = max(0, self._dear_blocks - 1)
        if self._dear_blocks == 0:
            self.network.base_fee = USUAL_FEE
            if self.network.pool and self._trouble.strikes(Fault.FEE_SPIKE):
                self.network.base_fee = self._chance.choice([30, 90, 400, 5000])  # the last one is over our ceiling
                self._dear_blocks = self._chance.randint(*DEAR_BLOCKS)
        replaced = self.network.replaced()
        if replaced is not None and self._trouble.strikes(Fault.OLD_ATTEMPT):
            self.network.base_fee, self._dear_blocks = USUAL_FEE, 0
            self.network.bring_back(replaced)
            self._loop.note(f"a replaced attempt is mined: {replaced.tx_id.hex()[:8]}")

    def _mine(self) -> None:
        emits = self._traffic.block() if self._busy else []
        block = self.network.mine(*emits, timestamp=self.network.chain.head.timestamp + CHAIN_SECONDS)
        self._loop.note(f"block {block.number} {block.hash.hex()[:8]}")

    # ── the processes ──
    async def _host(self, place: int) -> None:
        """Starts a daemon again whenever it has ended, as an init system does."""
        while not self._over:
            await asyncio.sleep(self._chance.uniform(0, START_DELAY_MAX_S))
            if self._down:
                continue
            self._started += 1
            process = Process(f"daemon {place}.{self._started}", self._loop, self._trouble)
            daemon, stop = Daemon(self._shared, process, self._account), asyncio.Event()
            self._running[place] = daemon, stop
            try:
                await asyncio.create_task(daemon.serve(stop))
            except Died as died:
                self._loop.note(f"died {died}")
            except Exception:  # noqa: BLE001  # whatever ends a daemon but its own death is what we look for
                self.failures.append(traceback.format_exc())
                return
            finally:
                del self._running[place]

    def _notify(self) -> None:
        """A commit is announced to everybody who listens; it may get lost, for stages also look by themselves."""
        if self._chance.random() >= self._trouble.notices_lost:
            for daemon, _ in self._running.values():
                daemon.wake()

    # ── the people ──
    def _restart(self, place: int) -> None:
        self._running[place][1].set()

    def _restart_held(self) -> None:
        for place, (daemon, _) in sorted(self._running.items()):
            if daemon.held:
                self._restart(place)

    def _use_key(self, key: int) -> None:
        self._account = ACCOUNTS[key]
        for place in self._running:
            self._restart(place)

    async def _help(self) -> None:
        """The person on call looks; in between, the operator's own key is back."""
        if await self._people.visit() or self._account != ACCOUNTS[0]:
            self._use_key(1 - ACCOUNTS.index(self._account))

    async def _back_up_and_restore(self) -> None:
        """A copy of the database now and then, and now and then the way back to it, with all daemons stopped."""
        if Fault.RESTORE not in self._trouble.kinds:
            return
        head = self.network.chain.head.number
        age = 0 if self._copied_at is None else head - self._copied_at
        if age >= COPY_BLOCKS[0] and self._trouble.strikes(Fault.RESTORE):
            await self._set_back()
        elif (self._copied_at is None or age > COPY_BLOCKS[1]) and await self._all_keys_are_known():
            async with self._person.database.begin() as transaction:
                await make_copy(transaction)
            self._copied_at = head

    async def _all_keys_are_known(self) -> bool:
        """A key that is used for the first time after the copy was made has no beginning in it: its books cannot be."""
        async with self._person.database.snapshot() as transaction:
            known = await transaction.connection.fetchval("SELECT count(*) FROM senders")
        return known == len(ACCOUNTS) or (known == 1 and Fault.KEY_ROTATION not in self._trouble.kinds)

    async def _set_back(self) -> None:
        self._down = True
        for place in self._running:
            self._restart(place)
        while self._running:  # noqa: ASYNC110  # each host takes itself off
            await asyncio.sleep(STOPPING_S)
        async with self._person.database.begin() as transaction:
            await set_back(transaction)
            newest = await transaction.connection.fetchval("SELECT max(confirmation_id) FROM confirmations") or 0
        # What the copy does not know was told by a database that is gone.
        self._shared.told[:] = [one for one in self._shared.told if one.confirmation_id <= newest]
        self._loop.note(f"the database is what it was at block {self._copied_at}")
        self._down = False
