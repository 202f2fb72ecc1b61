"""One seed from beginning to end: trouble, then peace, then a verdict.

    genesis ─► blocks with traffic and trouble ─► faults end, all restart ─► blocks until everything is final ─► judge

People are part of the world (people.py): they approve, veto, and do what the README says of what waits for a person.
Nothing else helps.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from bridge.chains import jsonrpc
from bridge.runtime import crashpoints
from bridge.store.database import _prepare_connection
from tests.chaos.backup import TABLES
from tests.chaos.daemon import Reaching
from tests.chaos.evm import EvmWorld
from tests.chaos.loop import Restless, SeededLoop
from tests.chaos.solana import SolanaWorld
from tests.chaos.trouble import EVM, SOLANA, Fault, Trouble
from tests.chaos.world import HEALING_BLOCKS_MAX, TROUBLED_BLOCKS, Figures, World

WORLDS: dict[str, tuple[type[World], tuple[Fault, ...]]] = {"evm": (EvmWorld, EVM), "solana": (SolanaWorld, SOLANA)}
"""By kind of chain: what a run is made of, and the trouble that it can have."""

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
    figures: Figures = field(default_factory=Figures)
    instances: int = 0
    trace: list[str] = field(default_factory=list)


class Track:
    """What runs share, one after the other: an event loop, and a connection whose statements stay prepared."""

    def __init__(self, url: str, chain: str = "evm") -> None:
        """`chain`: which of WORLDS."""
        self._url = url
        self._world, self._offered = WORLDS[chain]
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
        trouble = Trouble(chance, kinds, self._offered)
        self._loop.begin(chance, slowness=chance.choice([0, 0.01, 0.05]))
        before, crashpoints._armed = crashpoints._armed, Reaching()  # type: ignore[assignment]
        # How long an endpoint is asked last goes by the run's clock too.
        now_ms, jsonrpc._now_ms = jsonrpc._now_ms, lambda: int(self._loop.time() * 1000)
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
            crashpoints._armed, jsonrpc._now_ms = before, now_ms
        outcome.counts = dict(trouble.counts)
        return outcome

    async def _run(self, trouble: Trouble, outcome: Outcome, instances: int) -> None:
        self._loop.talking = True
        await self._connection.execute(EMPTY)
        self._loop.talking = False
        world = self._world(self._loop, self._connection, trouble, seed=outcome.seed, instances=instances)
        await world.troubled(TROUBLED_BLOCKS)
        waits = await world.healed()
        if waits is not None:
            outcome.problems.append(f"not settled in {HEALING_BLOCKS_MAX} quiet blocks: {waits}")
        await world.stop()
        if not world.failures:
            outcome.problems += await world.judged()
        outcome.problems = world.failures + outcome.problems
        outcome.figures = world.figures


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
