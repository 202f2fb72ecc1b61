"""A whole world in one directory: chain, database, contracts, people, and the files an operator would write.

    DIR/bridge.toml         the daemon's configuration          DIR/operator.json      the operator's keystore
    DIR/rules/*.yaml        the shipped rules, with our numbers  DIR/operator.password  and its password
    DIR/sandbox.json        what is where, for other programs    DIR/{anvil,postgres}.log

The chain and the database live in scratch directories and end with the sandbox; the files stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.domain.errors import ConfigError, RetryableError
from bridge.domain.units import format_address
from bridge.simulation.anvil import CHAIN_ID, Anvil
from bridge.simulation.deploy import Deployer, Deployment
from bridge.simulation.directory import claimed
from bridge.simulation.files import write_files
from bridge.simulation.miner import Miner, step_of
from bridge.simulation.postgres import Postgres
from bridge.simulation.rules import check_shipped
from bridge.simulation.scenes import find_scene
from bridge.simulation.traffic import Traffic, TrafficBlock

PARTICIPANTS = 12
TRAFFIC_RATE = 3.0
BLOCK_TIME_S = 1.0
EPOCH_S = 60


@dataclass(frozen=True, slots=True)
class Settings:
    """What a sandbox is made from; the same settings make the same transactions at the same chain times.

    `block_time_s` is real time between blocks (None: a block is mined only when asked for), `traffic_rate` the mean
    number of transactions in a block, `epoch_s` the length of the rules' windows in chain time, `genesis_timestamp`
    the chain time of block 0 in seconds (None: the start of the present epoch), `rule` the scene that is played (None:
    the market).
    """

    seed: int
    participants: int = PARTICIPANTS
    traffic_rate: float = TRAFFIC_RATE
    block_time_s: float | None = BLOCK_TIME_S
    epoch_s: int = EPOCH_S
    genesis_timestamp: int | None = None
    rule: str | None = None

    def check(self) -> None:
        """Raises ConfigError for a value that makes no sense, and for a rule that is not shipped."""
        for holds, problem in (
            (1 <= self.participants <= 10_000, "participants must be 1 … 10000"),
            (0 <= self.traffic_rate <= 200, "traffic must be 0 … 200 transactions a block"),
            (self.block_time_s is None or 0.05 <= self.block_time_s <= 600, "block time must be 0.05 … 600 seconds"),
            (self.epoch_s >= 1, "an epoch must be at least 1 second"),
        ):
            if not holds:
                raise ConfigError(problem)
        check_shipped(find_scene(self.rule))


class Sandbox:
    """A running sandbox. `async with Sandbox.start(directory, Settings(seed=7)) as sandbox: …`"""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        *,
        anvil: Anvil,
        postgres: Postgres,
        deployment: Deployment,
        miner: Miner,
    ) -> None:
        self.directory = directory
        self.settings = settings
        self.deployment = deployment
        self.miner = miner
        self.anvil = anvil
        self.postgres = postgres
        self._mining: asyncio.Task[None] | None = None

    @classmethod
    @asynccontextmanager
    async def start(cls, directory: Path, settings: Settings) -> AsyncIterator[Sandbox]:
        """Bring everything up; at the end, or when anything fails, take everything down.

        Raises ConfigError for a directory that is in use or holds something else, for settings that make no sense, and
        for programs that are not installed.
        """
        settings.check()
        async with AsyncExitStack() as stack:
            stack.enter_context(claimed(directory))
            sandbox = await _build(directory, settings, stack)
            write_files(directory, sandbox.facts(), sandbox.deployment)
            if settings.block_time_s is not None:
                sandbox._mining = asyncio.create_task(sandbox.miner.run(settings.block_time_s))
                stack.push_async_callback(_cancelled, sandbox._mining)
            yield sandbox

    @property
    def config_path(self) -> Path:
        return self.directory / "bridge.toml"

    @property
    def rpc_url(self) -> str:
        return self.anvil.rpc_url

    @property
    def database_url(self) -> str:
        return self.postgres.url

    @property
    def endpoints(self) -> frozenset[str]:
        """All that this sandbox started and that a daemon may be told to reach; anything else is foreign."""
        return frozenset({self.rpc_url, self.database_url})

    @property
    def start_block(self) -> int:
        """The first block of the traffic. The reserve that the deployment gave the vault came before."""
        return self.deployment.head + 1

    def facts(self) -> dict[str, Any]:
        """What sandbox.json says."""
        stage = self.deployment.stage
        contracts = {
            "timelock": self.deployment.timelock,
            "vault": stage.vault,
            "distributor": self.deployment.distributor,
            "claims": self.deployment.claims,
            **stage.contracts,
        }
        return {
            "seed": self.settings.seed,
            "scene": self.deployment.scene.name,
            "chain_id": CHAIN_ID,
            "rpc_url": self.rpc_url,
            "database_url": self.database_url,
            "start_block": self.start_block,
            "genesis_timestamp": self.miner.timestamp(0),
            "block_time": self.settings.block_time_s,
            "epoch_seconds": self.settings.epoch_s,
            "contracts": {name: format_address(contract.address) for name, contract in contracts.items()},
            "tokens": {
                token.symbol: {"address": format_address(token.contract.address), "decimals": token.decimals}
                for token in stage.tokens
            },
            "operator": format_address(self.deployment.operator.address),
            "approver": format_address(self.deployment.approver.address),
            "admin": format_address(self.deployment.admin.address),
            "participants": [format_address(wallet.address) for wallet in stage.participants],
            "beneficiaries": [format_address(wallet.address) for wallet in stage.beneficiaries],
        }

    async def mine(self, blocks: int = 1) -> list[TrafficBlock]:
        """Make `blocks` blocks at once; their traffic."""
        return [await self.miner.mine() for _ in range(blocks)]

    async def reorganise(self, depth: int) -> None:
        """Replace the newest `depth` blocks (see Miner.reorganise)."""
        await self.miner.reorganise(depth)

    async def watch(self) -> None:
        """Never returns. Raises RetryableError when a part of the sandbox dies, or what stopped the mining."""
        servers = [self.anvil.process, self.postgres.process]
        tasks = [asyncio.create_task(server.ended(), name=server.name) for server in servers]
        try:
            done, _ = await asyncio.wait(
                [*tasks, *([self._mining] if self._mining else [])], return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            for task in tasks:
                task.cancel()
        if self._mining in done:
            await self._mining
        names = ", ".join(task.get_name() for task in done)
        raise RetryableError(f"the sandbox broke: {names} ended")


async def _build(directory: Path, settings: Settings, stack: AsyncExitStack) -> Sandbox:
    genesis = settings.genesis_timestamp
    if genesis is None:
        now = int(time.time())
        genesis = now - now % settings.epoch_s
    step_s = step_of(settings.block_time_s or 0)
    starting_postgres = asyncio.create_task(Postgres.start(directory / "postgres.log"))
    stack.push_async_callback(_stopped, starting_postgres)
    anvil = await Anvil.start(directory / "anvil.log", genesis_timestamp=genesis)
    stack.push_async_callback(anvil.stop)
    deployer = Deployer(anvil, settings.seed, genesis_timestamp=genesis, step_s=step_s, epoch_s=settings.epoch_s)
    deployment = await deployer.deploy(settings.participants, find_scene(settings.rule))
    traffic = Traffic(settings.seed, settings.traffic_rate, deployment.cast)
    miner = Miner(anvil, traffic, head=deployment.head, genesis_timestamp=genesis, step_s=step_s)
    while not traffic.opened:
        await miner.mine()
    postgres = await starting_postgres
    return Sandbox(directory, settings, anvil=anvil, postgres=postgres, deployment=deployment, miner=miner)


async def _stopped(starting: asyncio.Task[Postgres]) -> None:
    """Stop a server, also one that is still starting."""
    await _cancelled(starting)
    if not starting.cancelled() and starting.exception() is None:
        await starting.result().stop()


async def _cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait for its end. How it ended was somebody else's to hear of."""
    task.cancel()
    await asyncio.wait([task])
