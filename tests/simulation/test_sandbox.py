"""A sandbox as a whole: what it makes, that it makes it again from the same seed, and that it cleans up."""

import asyncio
import json
import os
import random
import signal
import stat
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from eth_account import Account

from bridge.domain.errors import ConfigError, RetryableError
from bridge.domain.rules import Shares
from bridge.domain.units import format_address
from bridge.domain.windows import Every
from bridge.runtime.config import load_config
from bridge.runtime.rulefile import load_rule
from bridge.simulation.anvil import FINALITY_DISTANCE
from bridge.simulation.sandbox import Sandbox, Settings
from bridge.simulation.scenario import fees
from bridge.simulation.traffic import Kind

GENESIS = 1_700_000_040
QUIET = Settings(seed=7, block_time_s=None, genesis_timestamp=GENESIS)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(processes: list[int], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while any(map(alive, processes)):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pids(sandbox: Sandbox) -> list[int]:
    return [sandbox.anvil.process.pid, sandbox.postgres.process.pid]


async def logs(sandbox: Sandbox) -> list[tuple[Any, ...]]:
    """All logs of the chain, without what a reorganisation may change: the hashes of blocks."""
    found = await sandbox.anvil.call("eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"})
    fields = ("blockNumber", "blockTimestamp", "transactionHash", "logIndex", "address", "data")
    return [(*(log[field] for field in fields), *log["topics"]) for log in found]


async def block_hash(sandbox: Sandbox, number: int) -> str:
    block = await sandbox.anvil.call("eth_getBlockByNumber", hex(number), False)
    return str(block["hash"])


async def test_sandbox__started__writes_what_an_operator_would(tmp_path):
    async with Sandbox.start(tmp_path / "box", QUIET) as sandbox:
        facts = json.loads((tmp_path / "box" / "sandbox.json").read_text())
        config = load_config(sandbox.config_path)
        chain = config.evm("anvil")
        assert facts["rpc_url"] == sandbox.rpc_url == chain.rpc[0]
        assert facts["database_url"] == sandbox.database_url == config.database.resolve()
        assert sandbox.endpoints == {sandbox.rpc_url, sandbox.database_url}
        assert facts["chain_id"] == chain.chain_id == int(await sandbox.anvil.call("eth_chainId"), 16)
        assert facts["seed"] == 7
        assert len(facts["participants"]) == 12
        for address in (*facts["contracts"].values(), *(token["address"] for token in facts["tokens"].values())):
            assert await sandbox.anvil.call("eth_getCode", address, "latest") != "0x"
        connection = await asyncpg.connect(facts["database_url"])
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()


async def test_sandbox__rules__are_the_shipped_ones_with_its_own_numbers(tmp_path):
    settings = Settings(seed=7, block_time_s=None, epoch_s=45)
    async with Sandbox.start(tmp_path, settings) as sandbox:
        config = load_config(sandbox.config_path)
        rules = [load_rule(config.relative(rule.file)).rule for rule in config.rules]
        assert [(rule.name, rule.asset, rule.trigger) for rule in rules] == [
            ("fee_window", "USDX", Every(45)),
            ("points_window", "PTSX", Every(45)),
            ("reserve_buffer", "DAIX", Every(45)),
        ]
        split = rules[2].split
        assert isinstance(split, Shares)
        recipients = [format_address(recipient) for recipient, _ in split.shares]
        assert recipients == sandbox.facts()["beneficiaries"]


async def test_sandbox__operator__has_gas_money_and_has_sent_nothing(tmp_path):
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        config = load_config(sandbox.config_path)
        keystore = config.relative(config.evm("anvil").operator.keystore).read_text()
        key = Account.decrypt(keystore, config.operator_password("anvil"))
        address = sandbox.facts()["operator"]
        assert Account.from_key(key).address.lower() == address
        assert int(await sandbox.anvil.call("eth_getTransactionCount", address, "latest"), 16) == 0
        assert int(await sandbox.anvil.call("eth_getBalance", address, "latest"), 16) == 100 * 10**18
        for secret in ("operator.json", "operator.password"):
            assert stat.S_IMODE((tmp_path / secret).stat().st_mode) == 0o600


async def test_sandbox__traffic__is_what_the_chain_says(tmp_path):
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        await sandbox.mine(40)
        stage = sandbox.deployment.stage
        history = sandbox.miner.history
        assert {act.kind for block in history for act in block.acts} == set(sandbox.deployment.cast.shares)
        paid = fees(history, 0, 2**63)
        for token in stage.tokens:
            held = await sandbox.anvil.view(token.contract, "balanceOf", format_address(stage.vault.address))
            assert int.from_bytes(held) == paid[token.symbol] + 5_000 * token.unit
        signs = {Kind.DEPOSIT: 1, Kind.WITHDRAW: -1, Kind.INCUR: 1, Kind.SETTLE: -1}
        for contract, function, kinds in (
            (stage.contracts["pool"], "totalDeposits", {Kind.DEPOSIT, Kind.WITHDRAW}),
            (stage.contracts["obligations"], "total", {Kind.INCUR, Kind.SETTLE}),
        ):
            acts = [act for block in history for act in block.acts if act.kind in kinds]
            expected = sum(signs[act.kind] * act.amount for act in acts)
            assert int.from_bytes(await sandbox.anvil.view(contract, function)) == expected


async def test_sandbox__same_settings__same_bytes_side_by_side(tmp_path):
    async with (
        Sandbox.start(tmp_path / "one", QUIET) as one,
        Sandbox.start(tmp_path / "two", QUIET) as two,
    ):
        assert one.endpoints.isdisjoint(two.endpoints)
        assert await one.mine(30) == await two.mine(30)
        assert one.miner.history == two.miner.history
        assert await logs(one) == await logs(two)
        same = {"contracts", "tokens", "operator", "participants", "genesis_timestamp", "start_block", "seed"}
        assert {name: one.facts()[name] for name in same} == {name: two.facts()[name] for name in same}


async def test_sandbox__other_seed__other_traffic(tmp_path):
    other = Settings(seed=8, block_time_s=None, genesis_timestamp=GENESIS)
    async with (
        Sandbox.start(tmp_path / "one", QUIET) as one,
        Sandbox.start(tmp_path / "two", other) as two,
    ):
        assert [block.acts for block in await one.mine(10)] != [block.acts for block in await two.mine(10)]


async def test_sandbox__reorganised_at_random__traffic_is_the_same_and_the_blocks_are_not(tmp_path):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        await sandbox.mine(FINALITY_DISTANCE)
        for _ in range(5):
            await sandbox.mine(chance.randint(1, 6))
            depth, head = chance.randint(1, FINALITY_DISTANCE), sandbox.miner.head
            kept, replaced = await block_hash(sandbox, head - depth), await block_hash(sandbox, head - depth + 1)
            before = await logs(sandbox)
            await sandbox.reorganise(depth)
            assert await logs(sandbox) == before
            assert await sandbox.anvil.head() == head
            assert await block_hash(sandbox, head - depth) == kept
            assert await block_hash(sandbox, head - depth + 1) != replaced


async def test_sandbox__reorganised__what_others_sent_is_gone_until_they_send_it_again(tmp_path):
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        await sandbox.mine(FINALITY_DISTANCE)
        operator = sandbox.deployment.operator
        raw = "0x" + operator.sign(operator.address).hex()
        transaction = await sandbox.anvil.call("eth_sendRawTransaction", raw)
        await sandbox.mine(2)
        assert await sandbox.anvil.call("eth_getTransactionReceipt", transaction) is not None
        await sandbox.reorganise(2)
        assert await sandbox.anvil.call("eth_getTransactionReceipt", transaction) is None
        await sandbox.mine()
        assert await sandbox.anvil.call("eth_getTransactionReceipt", transaction) is None
        assert await sandbox.anvil.call("eth_sendRawTransaction", raw) == transaction
        await sandbox.mine()
        assert await sandbox.anvil.call("eth_getTransactionReceipt", transaction) is not None


async def test_sandbox__reorganised__is_a_reorganisation_to_the_chain_itself(tmp_path, monkeypatch):
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        await sandbox.mine(FINALITY_DISTANCE)
        call, calls = sandbox.anvil.call, []

        async def recording_call(method, *parameters):
            calls.append((method, *parameters))
            return await call(method, *parameters)

        monkeypatch.setattr(sandbox.anvil, "call", recording_call)
        await sandbox.reorganise(3)
        assert ("anvil_reorg", 3, []) in calls


async def test_sandbox__reorganised_too_deep__is_refused_and_nothing_changes(tmp_path):
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        await sandbox.mine(10)
        before = await block_hash(sandbox, sandbox.miner.head)
        for depth in (0, FINALITY_DISTANCE + 1):
            with pytest.raises(ValueError, match="depth"):
                await sandbox.reorganise(depth)
        assert await block_hash(sandbox, sandbox.miner.head) == before


async def test_sandbox__traffic_stopped__blocks_go_on_empty(tmp_path):
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        sandbox.miner.traffic.stop()
        assert [block.acts for block in await sandbox.mine(3)] == [(), (), ()]


async def test_sandbox__more_participants_than_fit_a_block__all_deposit_over_several(tmp_path, monkeypatch):
    monkeypatch.setattr("bridge.simulation.traffic.DEBUTS_PER_BLOCK", 5)
    monkeypatch.setattr("bridge.simulation.deploy.TRANSACTIONS_PER_BLOCK", 7)
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        assert [len(block.acts) for block in sandbox.miner.history] == [5, 5, 2]
        depositors = {act.sender for block in sandbox.miner.history for act in block.acts}
        assert depositors == {wallet.address for wallet in sandbox.deployment.stage.participants}


async def test_sandbox__with_a_block_time__mines_by_itself_until_the_end(tmp_path):
    async with Sandbox.start(tmp_path, Settings(seed=7, block_time_s=0.05)) as sandbox:
        started = sandbox.miner.head
        async with asyncio.timeout(20):
            while await sandbox.anvil.head() < started + 5:
                pass
        processes = pids(sandbox)
        assert all(map(alive, processes))
    assert not any(map(alive, processes))


async def test_sandbox__chain_dies__watch_says_so(tmp_path):
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        watching = asyncio.create_task(sandbox.watch())
        os.kill(sandbox.anvil.process.pid, signal.SIGKILL)
        with pytest.raises(RetryableError, match="Anvil ended"):
            await asyncio.wait_for(watching, 20)


async def test_sandbox__used_directory__is_refused_untouched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="not empty and no sandbox"):
        async with Sandbox.start(tmp_path, QUIET):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


async def test_sandbox__running_directory__is_refused_and_goes_on(tmp_path):
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        with pytest.raises(ConfigError, match="a sandbox is running here"):
            async with Sandbox.start(tmp_path, QUIET):
                pass
        await sandbox.mine()


async def test_sandbox__old_directory__is_used_again(tmp_path):
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        old = sandbox.facts()
    async with Sandbox.start(tmp_path, QUIET) as sandbox:
        assert json.loads((tmp_path / "sandbox.json").read_text()) == sandbox.facts() != old


@pytest.mark.parametrize(
    "wrong", [{"participants": 0}, {"traffic_rate": -1.0}, {"block_time_s": 0.0}, {"epoch_s": 0}], ids=str
)
async def test_sandbox__senseless_setting__is_refused_before_anything_starts(tmp_path, wrong):
    with pytest.raises(ConfigError):
        async with Sandbox.start(tmp_path / "box", Settings(seed=7, **wrong)):
            pass
    assert not (tmp_path / "box").exists()


def test_sandbox__killed__leaves_no_process_and_the_directory_usable(tmp_path):
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from bridge.simulation.sandbox import Sandbox, Settings

        async def main():
            async with Sandbox.start(Path(sys.argv[1]), Settings(seed=7, block_time_s=0.05)) as sandbox:
                print(sandbox.anvil.process.pid, sandbox.postgres.process.pid, flush=True)
                await sandbox.watch()

        asyncio.run(main())
    """)
    owner = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    servers = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(servers) == 2
    owner.kill()
    owner.communicate()
    wait_until_gone(servers)
    asyncio.run(_start_and_stop(tmp_path))


async def _start_and_stop(directory: Path) -> None:
    async with Sandbox.start(directory, QUIET):
        pass
