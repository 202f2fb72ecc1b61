"""Makes the blocks of a sandbox's chain, and takes them away again.

Block n has the timestamp genesis + n × step, whatever the time really is: the same seed gives the same chain, and a
chain with a block every 0.2 s lives five times as fast as we do.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from bridge.simulation.anvil import FINALITY_DISTANCE, Anvil
from bridge.simulation.traffic import Traffic, TrafficBlock


class Miner:
    """The only one who mines. `history` is all traffic of the chain as it is, in order of blocks."""

    def __init__(self, anvil: Anvil, traffic: Traffic, *, head: int, genesis_timestamp: int, step_s: int) -> None:
        self.history: list[TrafficBlock] = []
        self.head = head
        self.traffic = traffic
        self._anvil = anvil
        self._genesis_timestamp = genesis_timestamp
        self._step_s = step_s
        # What a reorganisation may have to mine again; nothing final can be taken away.
        self._recent: deque[TrafficBlock] = deque(maxlen=FINALITY_DISTANCE)
        self._mining = asyncio.Lock()

    def timestamp(self, number: int) -> int:
        """When block `number` is said to have been made, in seconds."""
        return self._genesis_timestamp + number * self._step_s

    async def run(self, block_time_s: float) -> None:
        """Mine a block every `block_time_s` of real time, until cancelled. Time lost is not made up for."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            due = max(due + block_time_s, loop.time())
            await asyncio.sleep(due - loop.time())
            await self.mine()

    async def mine(self, others: Sequence[bytes] = ()) -> TrafficBlock:
        """Make the next block of the chain; its traffic. `others` are in the pool already, and come back with the block
        where a reorganisation takes it away."""
        async with self._mining:
            block = self.traffic.block(self.head + 1, self.timestamp(self.head + 1))
            block = replace(block, others=tuple(others))
            await self._anvil.mine(block.timestamp, block.transactions)
            self.head = block.number
            self._recent.append(block)
            self.history.append(block)
            return block

    async def reorganise(self, depth: int) -> None:
        """Replace the newest `depth` blocks, with the traffic and timestamps that they had and nothing else.

        What others had in those blocks is gone, and not in the pool either: it is theirs to send again.
        Raises ValueError where a block to replace is final or was mined before the traffic began.

            … ─ a ─ b ─ c           the chain
                 └─ x ─ y           anvil_reorg: empty blocks, all with the timestamp of a
                 └─ b'─ c'          anvil_rollback, then the traffic of b and c once more
        """
        async with self._mining:
            if not 1 <= depth <= len(self._recent):
                raise ValueError(f"depth {depth} is not between 1 and {len(self._recent)}")
            replaced = list(self._recent)[-depth:]
            await self._anvil.call("anvil_reorg", depth, [])
            await self._anvil.call("anvil_rollback", depth)
            for block in replaced:
                await self._anvil.mine(block.timestamp, (*block.others, *block.transactions))


def step_of(block_time_s: float) -> int:
    """Seconds of chain time between two blocks: timestamps are whole and must grow."""
    return max(1, math.ceil(block_time_s))
