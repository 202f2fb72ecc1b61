"""The local Solana chain as a program: `python -m bridge.simulation.svm --port 8899` prints its URLs as a JSON line."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import orjson

from bridge.domain.errors import ConfigError
from bridge.simulation.svm.chain import Chain
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.settings import (
    BLOCKS_KEPT,
    CONFIRMED_DEPTH,
    FINALIZED_DEPTH,
    FIRST_SLOT,
    RECORDS_KEPT,
    SLOT_MS,
    Settings,
)
from bridge.simulation.svm.stage import Stage


def main(arguments: list[str]) -> int:
    """Serve until we are told to end."""
    parser = argparse.ArgumentParser(prog="python -m bridge.simulation.svm", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1, help="endpoints of the one chain, each with its own faults")
    parser.add_argument("--participants", type=int, default=0, help="build a world with so many people (see stage.py)")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slot-ms", type=int, default=SLOT_MS)
    parser.add_argument("--by-hand", action="store_true", help="slots pass only when ordered to")
    parser.add_argument("--confirmed-depth", type=int, default=CONFIRMED_DEPTH, metavar="BLOCKS")
    parser.add_argument("--finalized-depth", type=int, default=FINALIZED_DEPTH, metavar="BLOCKS")
    parser.add_argument("--skipped-per-mille", type=int, default=0)
    parser.add_argument("--skip-slot", type=int, action="append", default=[])
    parser.add_argument("--first-slot", type=int, default=FIRST_SLOT)
    parser.add_argument("--genesis-time", type=int, metavar="SECONDS")
    parser.add_argument("--blocks-kept", type=int, default=BLOCKS_KEPT)
    parser.add_argument("--records-kept", type=int, default=RECORDS_KEPT)
    given = parser.parse_args(arguments)
    settings = Settings(
        seed=given.seed,
        slot_ms=given.slot_ms,
        timer=not given.by_hand,
        confirmed_depth=given.confirmed_depth,
        finalized_depth=given.finalized_depth,
        skipped_per_mille=given.skipped_per_mille,
        skipped_slots=frozenset(given.skip_slot),
        first_slot=given.first_slot,
        genesis_time=given.genesis_time,
        blocks_kept=given.blocks_kept,
        records_kept=given.records_kept,
    )
    try:
        asyncio.run(_serve(settings, given.port, given.nodes, given.participants))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


async def _serve(settings: Settings, port: int, nodes: int, participants: int) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(Node.serve(settings, port=port))
        others = [await stack.enter_async_context(first.join()) for _ in range(nodes - 1)]
        world = _build(first.chain, participants) if participants else None
        facts = {**first.facts(), "others": [node.facts() for node in others], "world": world}
        print(orjson.dumps(facts).decode(), flush=True)
        await stop.wait()


def _build(chain: Chain, participants: int) -> dict[str, Any]:
    """A world and a treasury, all of it final, and the first slot after that."""
    stage = Stage(chain)
    world = stage.build_world(participants)
    treasury = stage.build_treasury(world)
    [block] = chain.advance_blocks(1)
    chain.advance_blocks(chain.settings.finalized_depth)
    return {**world.facts(), **treasury.facts(), "start_slot": block.slot}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
