"""What there is in a run beside the chain: daemons that are started again, people, copies of the database.

genesis ─► blocks with traffic and trouble ─► faults end, all restart ─► blocks until everything is final
"""

from __future__ import annotations

import asyncio
import random
import traceback
from dataclasses import dataclass
from typing import Any, ClassVar

import asyncpg

from bridge.domain.units import Address
from tests.chaos.backup import make_copy, set_back
from tests.chaos.daemon import Daemon, Shared
from tests.chaos.loop import SeededLoop
from tests.chaos.people import People
from tests.chaos.process import Died, Process
from tests.chaos.trouble import Fault, Trouble
from tests.chaos.waiting import books_are_open, unsettled

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


@dataclass(frozen=True, slots=True)
class Figures:
    """How much happened in a run."""

    blocks: int = 0
    batches: int = 0  # paid
    trees: int = 0  # activated
    replacements: int = 0  # fee bumps, or what was signed again once it had expired


class World:
    """Processes and people around one database. A subclass has the chain."""

    accounts: ClassVar[tuple[Address, ...]]
    """The operator, and any whose key replaces its key for a while."""

    def __init__(
        self, loop: SeededLoop, connection: asyncpg.Connection[Any], trouble: Trouble, *, seed: int, instances: int
    ) -> None:
        raise NotImplementedError

    def _begin(self, shared: Shared, trouble: Trouble, *, instances: int) -> None:
        self.failures: list[str] = []
        self._shared = shared
        self._trouble = trouble
        self._chance = trouble.chance
        self._loop: SeededLoop = shared.loop
        self._account = self.accounts[0]
        self._running: dict[int, tuple[Daemon, asyncio.Event]] = {}
        self._started = 0
        self._busy = True  # while there is traffic
        self._over = False
        self._hosts = [asyncio.create_task(self._host(place)) for place in range(instances)]
        quiet = Trouble(random.Random(0), frozenset())
        self._person = Daemon(shared, Process("person", self._loop, quiet), self._account)  # never served: only asks
        self._people = self._call_people()
        self._copied_at: int | None = None  # block
        self._rounds = 0
        self._down = False  # no daemon is started

    # ── the chain's own ──
    def _call_people(self) -> People:
        raise NotImplementedError

    def _disturb(self) -> None:
        """What goes wrong at this block."""
        raise NotImplementedError

    def _mine(self) -> None:
        """The next block, with what participants do in it."""
        raise NotImplementedError

    def _mend(self) -> None:
        """All trouble of the chain ends."""
        raise NotImplementedError

    @property
    def _now(self) -> int:
        """Second of the newest block."""
        raise NotImplementedError

    @property
    def figures(self) -> Figures:
        raise NotImplementedError

    async def judged(self) -> list[str]:
        raise NotImplementedError

    async def troubled(self, blocks: int) -> None:
        for block in range(1, blocks + 1):
            self._busy = block <= TRAFFIC_BLOCKS
            await asyncio.sleep(BLOCK_S)
            self._rounds += 1
            self._disturb()
            self._people.approve()
            self._mine()
            if await books_are_open(self._person.database, self.accounts[0]):
                if self._trouble.strikes(Fault.KEY_ROTATION):
                    self._use_key(1 - self.accounts.index(self._account))
                await self._people.interfere()
                await self._back_up_and_restore()
            self._restart_held()
            if block % PERSON_EVERY_BLOCKS == 0:
                await self._help()

    async def healed(self) -> str | None:
        """Mine until everything is settled. Returns what is not, where that never comes."""
        self._trouble.end()
        self._loop.slowness = 0
        self._mend()
        closed = self._now
        self._use_key(0)
        waits: str | None = None
        for block in range(1, HEALING_BLOCKS_MAX):
            await asyncio.sleep(BLOCK_S)
            self._people.approve()
            self._mine()
            self._restart_held()
            waits = await unsettled(self._person.database, closed, self._shared.told)
            if self.failures or (waits is None and self._account == self.accounts[0]):
                return None
            if block % PERSON_EVERY_BLOCKS == 0:
                await self._help()
        return waits

    async def stop(self) -> None:
        self._over = True  # a daemon that is on its way out takes the cancellation for the order that it has already
        for host in self._hosts:
            host.cancel()
        await asyncio.gather(*self._hosts, return_exceptions=True)

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
        self._account = self.accounts[key]
        for place in self._running:
            self._restart(place)

    async def _help(self) -> None:
        """The person on call looks; in between, the operator's own key is back."""
        if await self._people.visit() or self._account != self.accounts[0]:
            self._use_key(1 - self.accounts.index(self._account))

    async def _back_up_and_restore(self) -> None:
        """A copy of the database now and then, and now and then the way back to it, with all daemons stopped."""
        if Fault.RESTORE not in self._trouble.kinds:
            return
        age = 0 if self._copied_at is None else self._rounds - self._copied_at
        if age >= COPY_BLOCKS[0] and self._trouble.strikes(Fault.RESTORE):
            await self._set_back()
        elif (self._copied_at is None or age > COPY_BLOCKS[1]) and await self._all_keys_are_known():
            async with self._person.database.begin() as transaction:
                await make_copy(transaction)
            self._copied_at = self._rounds

    async def _all_keys_are_known(self) -> bool:
        """A key that is used for the first time after the copy was made has no beginning in it: its books cannot be."""
        async with self._person.database.snapshot() as transaction:
            known = await transaction.connection.fetchval("SELECT count(*) FROM senders")
        return known == len(self.accounts) or (known == 1 and Fault.KEY_ROTATION not in self._trouble.kinds)

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
