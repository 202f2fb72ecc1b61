"""A simulation with the real daemon in a process of its own, on a chain and a database of its own; and its verdict."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from bridge.chains.evm.payer import BATCH_EXECUTED_TOPIC, CREDITED_TOPIC, ROOT_ACTIVATED_TOPIC
from bridge.daemon import open_services
from bridge.domain.units import format_address
from bridge.runtime.config import load_config
from bridge.simulation.sandbox import Sandbox, Settings
from bridge.simulation.simulate import Order, Simulation, judge, reconcile
from bridge.store.database import Database
from bridge.store.migrations import migrate

GENESIS = 1_800_000_000  # a multiple of EPOCH_S
EPOCH_S = 40
EPOCHS = 2
PATIENCE_S = 60
SceneKind = TypeVar("SceneKind", bound=Simulation)
DAEMON = "outage_daemon"  # what the daemon's connections call themselves


@asynccontextmanager
async def staged(
    directory: Path,
    *,
    kind: type[SceneKind],
    rpc: Callable[[str], Sequence[str]] = lambda url: [url],
    lease_ms: int = 3000,
    epochs: int = EPOCHS,
) -> AsyncIterator[SceneKind]:
    """A simulation that is about to begin; the daemon is to reach the node at the URLs `rpc(its own)`."""
    order = Order(
        *(directory / "sandbox", directory / "report"),
        seed=11,
        epochs=epochs,
        reorgs=0,
        block_time_s=0.15,
        epoch_s=EPOCH_S,
        genesis_timestamp=GENESIS,
    )
    settings = Settings(
        seed=order.seed, block_time_s=None, epoch_s=order.epoch_s, genesis_timestamp=order.genesis_timestamp
    )
    async with Sandbox.start(order.directory, settings) as sandbox:
        text = sandbox.config_path.read_text().replace(f'["{sandbox.rpc_url}"]', json.dumps(rpc(sandbox.rpc_url)))
        text = text.replace(sandbox.database_url, f"{sandbox.database_url}&application_name={DAEMON}")
        text, count = re.subn(r"(?m)^lease_duration_ms = .*$", f"lease_duration_ms = {lease_ms}", text)
        assert count == 1
        sandbox.config_path.write_text(text)
        database = await Database.open(sandbox.database_url)
        try:
            await migrate(database)
            yield kind(order, sandbox, load_config(sandbox.config_path), database, lambda progress: None)
        finally:
            await database.close()


async def undisturbed_run(directory: Path) -> Result:
    async with staged(directory, kind=Simulation) as scene:
        async with scene.daemon_running():
            await scene.traffic()
            await settle(scene)
        return await check_outcome(scene)


async def settle(scene: Simulation) -> None:
    """Until nothing is left to do; also of windows beyond those that were ordered, for a long run closes more."""

    async def decided() -> bool:
        final = await scene.sandbox.anvil.call("eth_getBlockByNumber", "finalized", False)
        closed = int(final["timestamp"], 16) // EPOCH_S * EPOCH_S
        async with scene.database.snapshot() as transaction:
            rules = (await transaction.status.read()).rules
        return all(rule.decided_until >= closed for rule in rules)

    await scene.settle()
    await until(decided, "decided")
    await scene.settle()


async def started(scene: Simulation) -> None:
    """Until the daemon has found its node: one that finds none at its start says so and ends."""

    async def registered() -> bool:
        async with scene.database.snapshot() as transaction:
            return bool((await transaction.status.read()).chains)

    await until(registered, "started")


async def until(done: Callable[[], Awaitable[object]], what: str, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not await done():
        assert time.monotonic() < deadline, f"not {what} within {within_s} s"
        await asyncio.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to, as far as its seed decides it: no hashes, no gas, and only the windows that were ordered."""

    payouts: list[tuple[Any, ...]]  # rule, window, recipient, asset, atoms, outcome
    executed: list[tuple[str, ...]]  # topics and data of what contracts said of batches and trees, on the final chain
    journals: Counter[tuple[Any, ...]]  # kind, then account codes, asset, atoms and phase of each transfer


async def check_outcome(scene: Simulation) -> Result:
    """Every payout once, every unit explained, every finalized log there."""
    outcome = await judge(scene, await reconcile(scene.config), 0)
    assert outcome.reasons == (), "\n".join(outcome.reasons)
    assert outcome.figures["payouts"] > 0
    assert await stored_logs(scene) == await logs_of_the_chain(scene)
    return await result_of(scene)


async def result_of(scene: Simulation) -> Result:
    connection = await asyncpg.connect(scene.sandbox.database_url)
    try:
        payouts = await connection.fetch(PAYOUTS, scene.windows_end)
        late = await connection.fetch(LATE, scene.windows_end)
        journals = await connection.fetch(JOURNALS)
    finally:
        await connection.close()
    return Result(
        [tuple(row) for row in payouts], await _executed(scene, {row["ref"] for row in late}), _booked(journals, late)
    )


# What a slow run decides beyond the last ordered window is a matter of its length.
PAYOUTS = """
    SELECT d.rule, e.window_start, p.recipient, d.asset, p.amount::TEXT, p.outcome
      FROM payouts p JOIN distributions d USING (distribution_id) JOIN decisions e USING (decision_id)
     WHERE e.window_end <= $1 ORDER BY 1, 2, 3
"""
LATE = """
    SELECT encode(decision_id, 'hex') AS ref FROM decisions WHERE window_end > $1
    UNION ALL
    SELECT encode(d.distribution_id, 'hex') FROM distributions d JOIN decisions USING (decision_id)
     WHERE window_end > $1
    UNION ALL
    SELECT '0x' || encode(t.tx_id, 'hex')
      FROM attempts t JOIN slots USING (slot_id) JOIN actions USING (action_id)
      JOIN distributions USING (distribution_id) JOIN decisions USING (decision_id)
     WHERE window_end > $1
"""
JOURNALS = """
    SELECT j.kind, j.ref, j.reason, array_agg(
               (debit.code, credit.code, t.asset, t.amount::TEXT, t.phase)::TEXT
               ORDER BY debit.code, credit.code, t.asset, t.amount, t.phase
           ) FILTER (WHERE t.seq IS NOT NULL) AS transfers
      FROM journals j
      LEFT JOIN transfers t USING (chain, block_number, journal_id)
      LEFT JOIN accounts debit ON debit.account_id = t.debit_account
      LEFT JOIN accounts credit ON credit.account_id = t.credit_account
     GROUP BY chain, block_number, journal_id, j.kind, j.ref, j.reason
"""


def _booked(journals: Sequence[asyncpg.Record], late: Sequence[asyncpg.Record]) -> Counter[tuple[Any, ...]]:
    """Gas differs, and a killed daemon may burn more of it; a reverted transaction is found by its kind."""
    beyond = {row["ref"] for row in late}
    named = re.compile("0x[0-9a-f]{64}")
    return Counter(
        (row["kind"], *(row["transfers"] or () if not row["kind"].startswith("gas") else ()))
        for row in journals
        if row["ref"].split(":")[0] not in beyond and not beyond.intersection(named.findall(row["reason"]))
    )


async def _executed(scene: Simulation, late: set[str]) -> list[tuple[str, ...]]:
    ours = (scene.sandbox.deployment.distributor, scene.sandbox.deployment.claims)
    criteria: dict[str, Any] = {"fromBlock": "0x0", "toBlock": "finalized"}
    criteria["address"] = [format_address(contract.address) for contract in ours]
    topics = (BATCH_EXECUTED_TOPIC, CREDITED_TOPIC, ROOT_ACTIVATED_TOPIC)
    criteria["topics"] = [["0x" + topic.hex() for topic in topics]]
    activated = "0x" + ROOT_ACTIVATED_TOPIC.hex()
    return sorted(
        # The last word of an activation is the time at which it may be claimed.
        (*log["topics"], log["data"][:-64] if log["topics"][0] == activated else log["data"])
        for log in await scene.sandbox.anvil.call("eth_getLogs", criteria)
        if log["topics"][1][2:] not in late
    )


async def stored_logs(scene: Simulation) -> list[tuple[int, int, str]]:
    connection = await asyncpg.connect(scene.sandbox.database_url)
    try:
        rows = await connection.fetch(
            """
            SELECT l.block_number, l.log_index, '0x' || encode(l.tx_hash, 'hex') AS tx_hash
              FROM logs l JOIN blocks b ON b.chain = l.chain AND b.number = l.block_number AND b.hash = l.block_hash
             WHERE b.status = 'finalized' ORDER BY 1, 2
            """
        )
    finally:
        await connection.close()
    return [tuple(row) for row in rows]


async def logs_of_the_chain(scene: Simulation) -> list[tuple[int, int, str]]:
    """All that the daemon watches, from its first block to the finalized one, as the node itself tells it."""
    async with open_services(scene.config, sending=False) as services:
        filters = services.chains[0].filters
    found: set[tuple[int, int, str]] = set()
    for each in filters:
        criteria: dict[str, Any] = {"fromBlock": hex(scene.sandbox.start_block), "toBlock": "finalized"}
        criteria["topics"] = [
            None if group is None else ["0x" + topic.hex() for topic in group] for group in each.topics
        ]
        if each.addresses:
            criteria["address"] = [format_address(address) for address in each.addresses]
        for log in await scene.sandbox.anvil.call("eth_getLogs", criteria):
            found.add((int(log["blockNumber"], 16), int(log["logIndex"], 16), log["transactionHash"]))
    return sorted(found)
