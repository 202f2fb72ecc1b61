"""A node from the outside: a transfer by the real client, and the same in a process of its own."""

import asyncio
import itertools
import json
import os
import signal
import stat
import sys
from pathlib import Path

import pytest
from solana.exceptions import SolanaRpcException
from solana.rpc.async_api import AsyncClient
from solana.rpc.commitment import Confirmed, Finalized, Processed
from solana.rpc.models import TxOpts
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction
from solders.transaction_status import TransactionConfirmationStatus as Status

from bridge.domain.errors import ConfigError, RefusedError
from bridge.simulation.svm.node import Node, NodeProcess
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.stage import SOL, derive_key
from tests.cli.program import bridge


async def signed_transfer(client: AsyncClient, payer: Keypair, to: Pubkey, lamports: int) -> VersionedTransaction:
    """A transfer upon the newest confirmed block."""
    blockhash = (await client.get_latest_blockhash(Confirmed)).value.blockhash
    give = transfer(TransferParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=lamports))
    return VersionedTransaction(MessageV0.try_compile(payer.pubkey(), [give], [], blockhash), [payer])


async def test_transfer__from_sent_to_finalized__each_commitment_follows_in_its_time(node: Node, client: AsyncClient):
    payer, to = Keypair(), Keypair().pubkey()
    await client.request_airdrop(payer.pubkey(), 10 * SOL)
    node.chain.advance(6)
    transaction = await signed_transfer(client, payer, to, SOL)
    signature = (await client.send_transaction(transaction, TxOpts(preflight_commitment=Confirmed))).value
    assert signature == transaction.signatures[0]

    async def seen() -> tuple[Status | None, list[int]]:
        status = (await client.get_signature_statuses([signature])).value[0]
        balances = [(await client.get_balance(to, level)).value for level in (Processed, Confirmed, Finalized)]
        return None if status is None else status.confirmation_status, balances

    assert await seen() == (None, [0, 0, 0])
    node.chain.advance()
    assert await seen() == (Status.Processed, [SOL, 0, 0])
    node.chain.advance(2)
    assert await seen() == (Status.Confirmed, [SOL, SOL, 0])
    node.chain.advance(3)
    assert await seen() == (Status.Finalized, [SOL, SOL, SOL])


async def test_node_process__ordered_from_outside__answers_and_ends_with_us(tmp_path: Path):
    settings = Settings(timer=False, finalized_depth=3, seed=7, skipped_slots=frozenset({1002}), genesis_time=5)
    process = await NodeProcess.start(tmp_path / "svm.log", settings, nodes=2)
    try:
        async with AsyncClient(process.rpc_url, http2=False) as client:
            wallet = Keypair().pubkey()
            await client.request_airdrop(wallet, SOL)
            assert await process.order({"do": "advance", "slots": 5}) == [1001, 1003, 1004, 1005]
            assert (await client.get_balance(wallet, Finalized)).value == SOL
            state = await process.order({"do": "state"})
            assert (state["processed"], state["finalized"], state["transactions"]) == (1005, 1001, 1)
            with pytest.raises(RefusedError, match="cannot be rolled back"):
                await process.order({"do": "fork", "depth": 50})
        [other] = process.facts["others"]
        async with AsyncClient(other["rpc_url"], http2=False) as client:
            assert (await client.get_balance(wallet, Finalized)).value == SOL
            assert str((await client.get_genesis_hash()).value) == process.facts["genesis_hash"]
    finally:
        await process.stop()
    assert await process.process.ended() == 0


async def test_timer__of_an_injected_clock__lets_slots_pass_and_makes_up_for_some():
    now, naps = 1000.0, 0
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        nonlocal now, naps
        naps += 1
        now += seconds + (2.1 if naps == 3 else 100.0 if naps == 6 else 0.0)  # busy once, and once stopped
        slots.append(node.chain.next_slot)
        if naps == 9:
            enough.set()
        await asyncio.sleep(0)

    slots: list[int] = []
    settings = Settings(slot_ms=500, finalized_depth=4)
    starting = Node.serve(settings, clock=lambda: now, sleep=sleep)
    async with starting as node:
        assert node.chain.genesis_time == 1000
        await enough.wait()
    passed = [after - before for before, after in itertools.pairwise(slots)]
    assert passed == [1, 1, 5, 1, 1, 11, 1, 1]


async def test_timer__on_the_real_clock__finalizes_by_itself():
    settings = Settings(slot_ms=20, confirmed_depth=1, finalized_depth=3)
    async with Node.serve(settings) as node, AsyncClient(node.rpc_url, http2=False) as client:
        wallet = Keypair().pubkey()
        signature = (await client.request_airdrop(wallet, SOL)).value
        async with asyncio.timeout(20):
            while (await client.get_balance(wallet, Finalized)).value == 0:  # noqa: ASYNC110  # nothing tells us
                await asyncio.sleep(0.02)
        [status] = (await client.get_signature_statuses([signature])).value
        assert status is not None
        assert status.confirmation_status == Status.Finalized


@pytest.mark.parametrize(
    "settings",
    [
        Settings(slot_ms=0),
        Settings(confirmed_depth=5, finalized_depth=4),
        Settings(skipped_per_mille=1000),
        Settings(blocks_kept=100),
        Settings(first_slot=0),
        Settings(records_kept=0),
    ],
)
async def test_settings__that_make_no_sense__are_refused(settings: Settings):
    with pytest.raises(ConfigError):
        async with Node.serve(settings):
            pass


async def test_port__that_is_taken__is_a_config_error(node: Node):
    with pytest.raises(ConfigError, match=str(node.port)):
        async with Node.serve(Settings(timer=False), port=node.port):
            pass


async def test_sandbox__of_solana__prints_where_things_are_and_ends_with_its_chain(tmp_path: Path):
    directory = tmp_path / "sandbox"
    command = (*(sys.executable, "-m", "bridge", "sandbox", str(directory)), "--chain", "solana", "--seed", "7")
    sandbox = await asyncio.create_subprocess_exec(
        *command, "--participants", "2", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert sandbox.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(60):
        while not (lines and lines[-1].startswith("Ctrl-C")):
            line = (await sandbox.stdout.readline()).decode()
            assert line, "it ended"
            lines.append(line)
    facts = json.loads((directory / "solana.json").read_text())
    assert facts["rpc_url"] in lines[0]
    assert facts["ws_url"] in lines[0]
    key_file = directory / facts["keys"]["operator"]
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    operator = Keypair.from_bytes(bytes(json.loads(key_file.read_text())))
    assert operator == derive_key(7, "operator")
    assert str(operator.pubkey()) == facts["operator"]
    async with AsyncClient(facts["rpc_url"], http2=False) as client:
        vault_account = Pubkey.from_string(facts["tokens"]["USDX"]["vault_account"])
        held = (await client.get_token_account_balance(vault_account, Processed)).value
        assert held.amount == str(1_000_000 * 10**6)
        config, said = directory / "bridge.toml", ""
        assert [line.split() for line in lines[-4:-1]] == [
            ["bridge", each, "--config", str(config)] for each in ("migrate", "check", "run")
        ]
        for each in ("migrate", "check"):
            told = await asyncio.to_thread(bridge, each, "--config", config)
            assert told.returncode == 0, (each, told.stdout, told.stderr)
            said = told.stdout
        assert "rules     fee_window v2, reserve_buffer v2" in said
        assert "tokens    USDX, PTSX, SOL" in said
        sandbox.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(sandbox.wait(), 20) == 0
        with pytest.raises(SolanaRpcException):
            await client.get_slot()
    assert os.listdir(directory)  # noqa: PTH208  # the files stay
