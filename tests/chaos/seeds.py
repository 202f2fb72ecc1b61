"""Run many seeds on all cores, and say which of them failed and how much went wrong in all."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from multiprocessing.queues import Queue
from pathlib import Path
from queue import Empty

import structlog

from tests.chaos.run import WORLDS, Outcome, Track
from tests.chaos.servers import start_server
from tests.chaos.trouble import Fault

CRASHES = (Fault.CRASH, Fault.CRASH_POINT)
PROBLEMS_SHOWN = 5
SIGNED_AGAIN = {"evm": "fee bumps", "solana": "attempts expired and signed again"}


def main() -> int:
    arguments = _arguments()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    asked = range(arguments.first, arguments.first + arguments.seeds)
    started = time.monotonic()
    outcomes = asyncio.run(_run(asked, arguments.chain, min(arguments.processes, arguments.seeds)))
    if arguments.trace:
        print(*(line for outcome in outcomes for line in outcome.trace), sep="\n")
    return _report(outcomes, arguments.chain, time.monotonic() - started)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--chain", choices=sorted(WORLDS), default="evm", help="the kind of chain (evm)")
    parser.add_argument("--seeds", type=_positive, default=100, help="how many seeds to run (100)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first of them (0)")
    parser.add_argument("--processes", type=_positive, default=os.cpu_count() or 1, help="how many at once (all cores)")
    parser.add_argument("--trace", action="store_true", help="print everything that happened, in order")
    return parser.parse_args()


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


async def _run(seeds: range, chain: str, processes: int) -> list[Outcome]:
    """One Postgres and one Python process for each of `processes`; outcomes in order of seeds."""
    context = multiprocessing.get_context("spawn")
    results: Queue[Outcome] = context.Queue()
    outcomes: list[Outcome] = []
    async with _servers(processes) as urls:
        workers = [
            context.Process(target=_work, args=(url, chain, seeds[at::processes], results), daemon=True)
            for at, url in enumerate(urls)
        ]
        for worker in workers:
            worker.start()
        while len(outcomes) < len(seeds):
            try:
                outcomes.append(results.get(timeout=1))
            except Empty:
                if all(worker.exitcode is not None for worker in workers):
                    sys.exit("chaos: a process ended before its seeds did")
                continue
            _progress(outcomes[-1], chain, len(outcomes), len(seeds))
    return sorted(outcomes, key=lambda outcome: outcome.seed)


@contextlib.asynccontextmanager
async def _servers(count: int) -> AsyncIterator[list[str]]:
    async with AsyncExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bridge-chaos-")))
        urls = []
        for number in range(count):
            postgres = await start_server(logs / f"postgres-{number}.log")
            stack.push_async_callback(postgres.stop)
            urls.append(postgres.url)
        yield urls


def _work(url: str, chain: str, seeds: range, results: Queue[Outcome]) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    track = Track(url, chain)
    for seed in seeds:
        results.put(track.run(seed))
    track.close()


def _progress(outcome: Outcome, chain: str, done: int, total: int) -> None:
    if outcome.problems:
        again = f"scripts/chaos --chain {chain} --seeds 1 --from {outcome.seed}"
        print(f"seed {outcome.seed} fails; again with: {again}", flush=True)
        for problem in outcome.problems[:PROBLEMS_SHOWN]:
            print(f"  {problem}", flush=True)
    if sys.stderr.isatty():
        print(f"\r{done} of {total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _report(outcomes: list[Outcome], chain: str, seconds: float) -> int:
    counts: Counter[Fault] = Counter()
    for outcome in outcomes:
        counts.update(outcome.counts)
    failed = [str(outcome.seed) for outcome in outcomes if outcome.problems]
    figures = [outcome.figures for outcome in outcomes]
    print(
        f"{len(outcomes)} seeds in {seconds:.0f} s: {sum(one.blocks for one in figures)} blocks, "
        f"{sum(one.batches for one in figures)} batches paid, "
        f"{sum(counts[kind] for kind in CRASHES)} crashes, {counts[Fault.REORG]} reorgs, "
        f"{sum(one.replacements for one in figures)} {SIGNED_AGAIN[chain]}, "
        f"{sum(one.trees for one in figures)} trees activated, "
        f"{sum(outcome.instances > 1 for outcome in outcomes)} seeds with two instances"
    )
    print(", ".join(f"{counts[kind]} {kind}" for kind in WORLDS[chain][1]))
    print(f"{len(failed)} failed: {', '.join(failed)}" if failed else "all clean")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
