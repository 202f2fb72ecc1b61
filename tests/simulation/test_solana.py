"""The same daemon, rules, books and report on a local Solana chain: a frozen recipient, a rollback, a lost send."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from solders.keypair import Keypair

from bridge.chains.solana.signer import KeystoreSigner
from bridge.compose.chain import open_chain
from bridge.compose.keystores import encrypt_keypair
from bridge.domain.errors import ConfigError
from bridge.domain.units import base58, format_address, format_tx
from bridge.runtime.config import load_config
from bridge.simulation.alone import simulate_alone
from bridge.simulation.cluster import CHAIN, FINALIZED_DEPTH, Cluster
from bridge.simulation.cluster_run import write_configuration
from bridge.simulation.outcome import Outcome
from bridge.simulation.simulate import Order, Progress
from tests.cli.program import bridge

EPOCH_S = 30
GENESIS = 1_800_000_000
SEED = 5


# ── From end to end ─────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_simulate__solana_alone__balanced_and_told_by_the_same_commands(tmp_path: Path):
    """A run of two windows; the commands of an operator are asked about it while chain and database are there."""
    said: dict[str, str] = {}

    async def finished(outcome: Outcome) -> None:
        config = outcome.directory / "bridge.toml"
        summary = next(each for each in outcome.run.distributions if each.rule == "solana_fees")
        transaction = format_tx(summary.tx_ids[-1])
        url = outcome.sandbox["solana"]["rpc_url"]
        for name, arguments in {
            "explain": ("explain", transaction, "--config", config),
            "show": ("payouts", "show", summary.distribution_id.hex(), "--config", config),
            "verify": ("verify", summary.decision_id.hex(), "--config", config),
            "report": ("verify", outcome.report_directory, "--rpc", url),
            "reconcile": ("reconcile", "--config", config),
            "tables": ("lookup-tables", "list", CHAIN, "--config", config),
        }.items():
            told = await run_beside(*arguments)
            assert told.returncode == 0, (name, told.stdout, told.stderr)
            said[name] = told.stdout
        said["refused"] = await keep_tables(outcome, "operator", "extend", CHAIN, returncode=2)
        said["extend"] = await keep_tables(outcome, "keeper", "extend", CHAIN)
        [table] = outcome.sandbox["solana"]["lookup_tables"]
        said["retire"] = await keep_tables(outcome, "keeper", "retire", CHAIN, table, returncode=1)

    def watch(progress: Progress) -> None:
        pass

    outcome = await simulate_alone(
        Order(
            tmp_path / "sandbox",
            tmp_path / "report",
            seed=SEED,
            epochs=2,
            reorgs=1,
            block_time_s=0.15,
            epoch_s=EPOCH_S,
            genesis_timestamp=GENESIS,
        ),
        watch,
        finished,
    )
    assert outcome.balanced, outcome.reasons
    assert outcome.verification is not None
    assert outcome.verification.balances >= 4
    assert {each.rule for each in outcome.run.distributions} == {"solana_fees", "solana_buffer"}
    assert "was frozen" in " ".join(outcome.happened)
    assert "with up to 9 recipients where 6 fit without" in " ".join(outcome.happened)
    assert "USDX: 11 of 13 recent recipients covered" in said["tables"]
    assert "PTSX: 0 of 2 recent recipients covered" in said["tables"]
    assert said["tables"].splitlines()[0].endswith("  24 entries, room for 232, deposit 0.00662592 SOL: in use")
    assert ": 8 entries more" in said["extend"]
    assert "all recent recipients are in the configured tables" in said["extend"]
    assert "is in lookup_tables: take it out" in said["retire"]
    assert "is the operator, whose coins the books account for" in said["refused"]
    assert "equal" in said["verify"].splitlines()
    assert said["report"].splitlines()[-1] == "whole, and as on the chain"
    document = json.loads((outcome.report_directory / "report.json").read_text())
    [chain] = document["chains"]
    assert (chain["kind"], document["verdict"]) == ("solana", "balanced")
    assert {row["difference"] for row in document["roll_forward"]} == {"0"}


async def keep_tables(outcome: Outcome, key: str, *arguments: str, returncode: int = 0) -> str:
    """What the command said, while slots pass."""
    folder, control = outcome.directory, outcome.sandbox["solana"]["control_url"]
    environment = {"PW": (folder / f"{CHAIN}-{key}.password").read_text().strip()}
    command: list[str | Path] = [
        *arguments,
        "--keystore",
        folder / f"{CHAIN}-{key}.json",
        "--config",
        folder / "bridge.toml",
    ]

    def work() -> subprocess.CompletedProcess[str]:
        return bridge("lookup-tables", *command, "--password-env", "PW", environment=environment)

    running = asyncio.create_task(asyncio.to_thread(work))
    async with aiohttp.ClientSession() as http:
        while not running.done():
            await http.post(control, json={"do": "advance"})
            await asyncio.sleep(0.02)
    told = await running
    assert told.returncode == returncode, (told.stdout, told.stderr)
    return told.stdout + told.stderr


async def run_beside(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The program, while this process goes on answering as the chain."""
    return await asyncio.to_thread(bridge, *arguments)


# ── What does not fit ───────────────────────────────────────────────────────────────────────────────────────────────
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def cluster(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Cluster, Path]]:
    """A chain that nobody lives on, and the configuration of a daemon for it."""
    path = tmp_path_factory.mktemp("solana") / "bridge.toml"
    async with Cluster.start(SEED, epoch_s=EPOCH_S, epochs=1, genesis_time=GENESIS) as running:
        running.chain.advance_blocks(FINALIZED_DEPTH + 1)
        write_configuration(path, running, "postgresql://nobody@127.0.0.1:1/none")
        yield running, path


async def mistake(cluster: tuple[Cluster, Path], old: str, new: str) -> ConfigError:
    """What the daemon says at its start to the configuration with `old` replaced by `new`."""
    _, path = cluster
    text = path.read_text()
    assert old in text
    changed = path.with_name("changed.toml")
    changed.write_text(text.replace(old, new, 1))
    config = load_config(changed)
    with pytest.raises(ConfigError) as caught:
        async with AsyncExitStack() as stack:
            with config.naming_file():
                await open_chain(config, CHAIN, stack, sending=True)
    assert str(changed) in str(caught.value)
    return caught.value


@pytest.mark.asyncio(loop_scope="module")
async def test_open_solana__nothing_wrong__opened(cluster: tuple[Cluster, Path]):
    running, path = cluster
    async with AsyncExitStack() as stack:
        opened = await open_chain(load_config(path), CHAIN, stack, sending=True)
        assert opened.payer is not None
        assert opened.watched.vault == opened.watched.distributor == bytes(running.world.vault.pubkey())


@pytest.mark.asyncio(loop_scope="module")
async def test_open_solana__other_cluster__named_with_its_hash(cluster: tuple[Cluster, Path]):
    here = str(cluster[0].chain.genesis_hash)
    error = await mistake(cluster, f'genesis_hash = "{here}"', f'genesis_hash = "{base58(bytes([7] * 32))}"')
    assert "genesis_hash" in str(error)
    assert here in str(error)


@pytest.mark.asyncio(loop_scope="module")
async def test_open_solana__wrong_decimals__the_mints_are_told(cluster: tuple[Cluster, Path]):
    assert "has 6 decimals" in str(await mistake(cluster, "decimals = 6", "decimals = 8"))


@pytest.mark.asyncio(loop_scope="module")
async def test_open_solana__no_mint__named(cluster: tuple[Cluster, Path]):
    mint, owner = cluster[0].fees.mint, cluster[0].pool.pubkey()
    error = await mistake(cluster, f'address = "{mint}"', f'address = "{owner}"')
    assert "tokens.USDX" in str(error)
    assert "is no mint" in str(error)


@pytest.mark.asyncio(loop_scope="module")
async def test_open_solana__vault_without_token_account__how_to_create_it(cluster: tuple[Cluster, Path]):
    vault, other = cluster[0].world.vault.pubkey(), Keypair().pubkey()
    error = await mistake(cluster, f'vault = "{vault}"', f'vault = "{other}"')
    assert "no associated account" in error.problem
    assert error.mend is not None
    assert "spl-token create-account" in error.mend


@pytest.mark.asyncio(loop_scope="module")
async def test_open_solana__no_delegate_then_another__opened_then_refused(cluster: tuple[Cluster, Path]):
    """None is what is left of an allowance whose last atom was spent: payouts wait, all else goes on."""
    config = load_config(with_pool_as_vault(*cluster))
    async with AsyncExitStack() as stack:
        assert (await open_chain(config, CHAIN, stack, sending=True)).payer is not None
    running = cluster[0]
    running.approve(running.fees, running.pool, running.clerk.pubkey(), 1)
    running.chain.advance_blocks(FINALIZED_DEPTH + 1)
    with pytest.raises(ConfigError, match=f"is delegated to {running.clerk.pubkey()}, not to") as caught:
        async with AsyncExitStack() as stack:
            await open_chain(config, CHAIN, stack, sending=True)
    assert "spl-token approve" in str(caught.value)


@pytest.mark.asyncio(loop_scope="module")
async def test_open_solana__table_that_is_none__named_with_its_mend(cluster: tuple[Cluster, Path]):
    [table] = cluster[0].tables
    error = await mistake(cluster, format_address(table), str(cluster[0].fees.mint))
    assert error.problem == f"{cluster[0].fees.mint} is no lookup table of this cluster, or not in a final block yet"
    assert "lookup_tables" in str(error)
    assert error.mend is not None
    assert "bridge lookup-tables list" in error.mend


def with_pool_as_vault(running: Cluster, path: Path) -> Path:
    """The pool has an account of the first token only."""
    text = path.read_text()
    points = text[text.index(f"[chains.{CHAIN}.tokens.PTSX]") : text.index(f"[chains.{CHAIN}.operator]")]
    pool = f'pool = "{running.pool.pubkey()}"'
    text = (
        text.replace(points, "")
        .replace(pool, "")
        .replace(f'vault = "{running.world.vault.pubkey()}"', f"vault{pool[4:]}")
    )
    path.with_name("delegate.toml").write_text(text)
    return path.with_name("delegate.toml")


# ── Keys ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_keystore_import__key_of_the_command_line__opens_with_the_password_and_is_not_overwritten(tmp_path: Path):
    key, plain, out = Keypair(), tmp_path / "id.json", tmp_path / "operator.json"
    plain.write_text(json.dumps(list(bytes(key))))
    arguments = ("keystore", "import", plain, "--out", out, "--password-env", "PW")
    said = bridge(*arguments, environment={"PW": "secret words"})
    assert said.returncode == 0, said.stderr
    assert str(key.pubkey()) in said.stdout
    assert KeystoreSigner.load(out, "secret words").account == bytes(key.pubkey())
    assert out.stat().st_mode & 0o077 == 0
    again = bridge(*arguments, environment={"PW": "secret words"})
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    with pytest.raises(ConfigError, match="holds no key"):
        encrypt_keypair("[1, 2, 3]", "secret words", where="id.json")
