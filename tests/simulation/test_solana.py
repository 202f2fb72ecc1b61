"""The same daemon, rules, books and report on a local Solana chain: a frozen recipient, a rollback, a lost send."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from solders.keypair import Keypair

from bridge.chains.solana.programs import is_on_curve
from bridge.chains.solana.signer import KeystoreSigner
from bridge.compose.chain import open_chain
from bridge.compose.keystores import encrypt_keypair
from bridge.domain.errors import ConfigError
from bridge.domain.reports.wording import count_of
from bridge.domain.rules import Token
from bridge.domain.units import Address, base58, format_address, format_amount, format_tx, from_base58, parse_address
from bridge.runtime.config import load_config
from bridge.runtime.rulefile import load_configured
from bridge.simulation.alone import simulate_alone
from bridge.simulation.anvil import REPOSITORY
from bridge.simulation.cluster import FINALIZED_DEPTH, Cluster
from bridge.simulation.outcome import Outcome
from bridge.simulation.rules import with_shares
from bridge.simulation.simulate import Order, Progress
from bridge.simulation.svm.files import CHAIN, write_alone
from bridge.stages.binding import bind_rules
from bridge.store.database import Database
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
    decided: dict[str, list[bytes]] = {}
    backtested, bare = tmp_path / "backtest", tmp_path / "bare"

    async def finished(outcome: Outcome) -> None:
        config, rules = outcome.directory / "bridge.toml", outcome.directory / "rules" / "svm"
        summary = next(each for each in outcome.run.distributions if each.rule == "fee_window")
        buffer = next(each for each in outcome.run.distributions if each.rule == "reserve_buffer")
        transaction = format_tx(summary.tx_ids[-1])
        url = outcome.sandbox["solana"]["rpc_url"]
        for name, arguments in {
            "explain": ("explain", transaction, "--config", config),
            "show": ("payouts", "show", summary.distribution_id.hex(), "--config", config),
            "verify": ("verify", summary.decision_id.hex(), "--config", config),
            "report": ("verify", outcome.report_directory, "--rpc", url),
            "reconcile": ("reconcile", "--config", config),
            "status": ("status", "--config", config),
            "held": ("explain", buffer.distribution_id.hex(), "--config", config),
            "backtest": ("rules", "backtest", rules / "reserve_buffer.yaml", "--config", config, "--out", backtested),
            "bare": (*backtest_bare(outcome, rules / "fee_window.yaml"), "--out", bare),
            # The operator is not named, and the record's rule asks what it has paid.
            "unknown": (*backtest_bare(outcome, rules / "reserve_buffer.yaml"), "--out", tmp_path / "unknown"),
            "tables": ("lookup-tables", "list", CHAIN, "--config", config),
        }.items():
            told = await run_beside(*arguments)
            assert told.returncode == (2 if name == "unknown" else 0), (name, told.stdout, told.stderr)
            said[name] = told.stdout or told.stderr
        said["refused"] = await keep_tables(outcome, "operator", "extend", CHAIN, returncode=2)
        said["extend"] = await keep_tables(outcome, "keeper", "extend", CHAIN)
        [table] = outcome.sandbox["solana"]["lookup_tables"]
        said["retire"] = await keep_tables(outcome, "keeper", "retire", CHAIN, table, returncode=1)
        database = await Database.open(outcome.sandbox["database_url"], connections_max=1)
        async with database.snapshot() as snapshot:
            rows = await snapshot.connection.fetch("SELECT rule, artifact FROM decisions ORDER BY window_start")
        await database.close()
        for rule in ("fee_window", "reserve_buffer"):
            decided[rule] = [row["artifact"] for row in rows if row["rule"] == rule]

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
    assert outcome.verification.balances >= 3
    assert {each.rule for each in outcome.run.distributions} == {"fee_window", "reserve_buffer"}
    assert "was frozen" in " ".join(outcome.happened)
    assert "with up to 9 recipients where 6 fit without" in " ".join(outcome.happened)
    assert "USDX: 11 of 13 recent recipients covered" in said["tables"]
    assert "SOL: 0 of 2 recent recipients covered" in said["tables"]
    assert said["tables"].splitlines()[0].endswith("  24 entries, room for 232, deposit 0.00662592 SOL: in use")
    assert ": 6 entries more" in said["extend"]
    assert "all recent recipients are in the configured tables" in said["extend"]
    assert "is in lookup_tables: take it out" in said["retire"]
    assert "is the operator, whose coins the books account for" in said["refused"]
    program, poor = (parse_address(one) for one in outcome.sandbox["solana"]["beneficiaries"])
    outcomes = {who: {each.outcome for each in outcome.run.payouts if each.recipient == who} for who in (program, poor)}
    assert outcomes == {program: {"paid"}, poor: {None}}
    assert not is_on_curve(program)
    assert "equal" in said["verify"].splitlines()
    assert said["report"].splitlines()[-1] == "whole, and as on the chain"
    for rule, folder in (("reserve_buffer", backtested), ("fee_window", bare)):
        lines = [line.removesuffix(b",") for line in (folder / "decisions.json").read_bytes().splitlines()[1:-1]]
        assert decided[rule]
        assert lines[: len(decided[rule])] == decided[rule]
    assert "add --contract operator=ADDRESS" in said["unknown"]
    document = json.loads((outcome.report_directory / "report.json").read_text())
    [chain] = document["chains"]
    assert (chain["kind"], document["verdict"]) == ("solana", "balanced")
    assert {row["difference"] for row in document["roll_forward"]} == {"0"}
    [native] = [each["id"] for each in document["assets"] if each["symbol"] == "SOL"]
    assert native.endswith("/slip44:501")
    assert any(each["asset"] == native for each in document["distributions"])
    held = [each["reason"] for each in document["attention"]]
    assert held
    assert all(f"{format_address(poor)} would hold less than the 890880 lamports" in reason for reason in held)
    [fall] = [row for row in document["waterfalls"] if row["asset"]["id"] == native]
    kept = sum(int(row["amount"]) for row in document["held"])
    assert {row["recipient"] for row in document["held"]} == {format_address(poor)}
    assert (fall["held"], fall["in_flight"], fall["given_up"]) == (str(kept), "0", "0")
    [named] = re.findall("held: payout of batches held: exempt: .*", said["reconcile"])
    assert f"{len(held)} batch" in named
    assert "would hold less than" in named
    assert "in flight" not in said["reconcile"]
    assert f"{len(held)} held" in said["status"]
    assert f"{format_amount(kept, 9)} SOL on {CHAIN}, to {count_of(len(held), 'recipient')}" in said["status"]
    assert f"held: {format_address(poor)} would hold less" in said["held"]
    signs = "[1-9A-HJ-NP-Za-km-z]{32,44}\n"
    assert re.search(rf"pinned to +block \d+ {signs}", said["explain"])
    assert re.search(rf"at block [\d,]+ of svm, {signs}", said["reconcile"])
    cut_off = chain["cut_off"]["hash"]
    assert len(from_base58(cut_off)) == 32
    assert f"{chain['cut_off']['number']:,} {cut_off}" in said["report"]
    assert cut_off[:8] in (outcome.report_directory / "report.html").read_text()


def backtest_bare(outcome: Outcome, rule: Path) -> tuple[str | Path, ...]:
    """From a node and addresses alone."""
    facts = outcome.sandbox["solana"]
    tokens = facts["tokens"]
    named = [f"--contract={name}={address}" for name, address in facts["contracts"].items()]
    named += [f"--token={symbol}={tokens[symbol]}" for symbol in ("USDX", "SOL")]
    return "rules", "backtest", rule, "--rpc", facts["rpc_url"], "--from", str(facts["start_block"]), *named


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
        write_alone(path, running.site, "postgresql://nobody@127.0.0.1:1/none")
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
    named = re.match(rf"{changed}:(\d+): \[([\w.]+)\]", caught.value.where or "")
    assert named is not None, caught.value.where
    line = changed.read_text().splitlines()[int(named[1]) - 1]
    assert line.startswith((f"[{named[2]}", new.partition(" ")[0])), (line, caught.value.where)
    assert caught.value.mend
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
@pytest.mark.parametrize(
    ("old", "new", "field", "said"),
    [
        ("decimals = 9", "decimals = 6", "tokens.SOL", "has 9 decimals, configured are 6"),
        ('keystore = "svm-vault.json"', 'keystore = "svm-operator.json"', "vault_key", "the password does not open"),
        (
            'svm-vault.json"\npassword_file = "svm-vault',
            'svm-operator.json"\npassword_file = "svm-operator',
            "vault_key",
            "is the key of",
        ),
    ],
)
async def test_open_solana__what_does_not_fit__field_and_mend(
    cluster: tuple[Cluster, Path], old: str, new: str, field: str, said: str
):
    error = await mistake(cluster, old, new)
    assert field in (error.where or "")
    assert said in error.problem


@pytest.mark.asyncio(loop_scope="module")
async def test_rules__of_the_catalogue__bind_as_they_are_but_for_addresses(cluster: tuple[Cluster, Path]):
    """`fee_window` from its very file; `reserve_buffer` needs recipients of this chain."""
    running, path = cluster
    shipped = [REPOSITORY / "rules" / name / "rule.yaml" for name in ("fee_window", "reserve_buffer")]
    mine = path.parent / "reserve_buffer.yaml"
    mine.write_text(with_shares(shipped[1].read_text(), [Address(bytes(key)) for key in running.beneficiaries]))
    config = load_config(path)
    async with AsyncExitStack() as stack:
        opened = await open_chain(config, CHAIN, stack, sending=False)
        section = config.chains[CHAIN]
        tokens = {name: Token(section.asset(each.address), each.address) for name, each in section.tokens.items()}
        plans = [load_configured(config, CHAIN, shipped[0]), load_configured(config, CHAIN, mine)]
        for plan in plans:
            [bound] = bind_rules([plan], chain=opened.reader, contracts=section.contracts, tokens=tokens)
            assert {decoder.topic0 for decoder in bound.decoders.values()}
    assert plans[0].rule.body == shipped[0].read_text()


@pytest.mark.asyncio(loop_scope="module")
async def test_open_solana__rule_with_addresses_of_another_kind_of_chain__its_line(cluster: tuple[Cluster, Path]):
    _, path = cluster
    shipped = (REPOSITORY / "rules" / "reserve_buffer" / "rule.yaml").read_text()
    (path.parent / "shipped.yaml").write_text(shipped.replace("USDX", "SOL"))
    with pytest.raises(ConfigError, match="is no address of the chain that this rule is for") as caught:
        load_configured(load_config(path), CHAIN, path.parent / "shipped.yaml")
    assert str(caught.value).startswith(f"{path.parent / 'shipped.yaml'}:35:12: ")


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
    running.stage.approve(running.fees, running.pool, running.clerk.pubkey(), 1)
    running.chain.advance_blocks(FINALIZED_DEPTH + 1)
    with pytest.raises(ConfigError, match=f"is delegated to {running.clerk.pubkey()}, not to") as caught:
        async with AsyncExitStack() as stack:
            await open_chain(config, CHAIN, stack, sending=True)
    assert "spl-token approve" in str(caught.value)


@pytest.mark.asyncio(loop_scope="module")
async def test_open_solana__table_that_is_none__named_with_its_mend(cluster: tuple[Cluster, Path]):
    [table] = cluster[0].tables
    line = 'lookup_tables = ["{}"]'
    error = await mistake(cluster, line.format(format_address(table)), line.format(cluster[0].fees.mint))
    assert error.problem == f"{cluster[0].fees.mint} is no lookup table of this cluster, or not in a final block yet"
    assert "lookup_tables" in str(error)
    assert error.mend is not None
    assert "bridge lookup-tables list" in error.mend


def with_pool_as_vault(running: Cluster, path: Path) -> Path:
    """The pool has an account of the first token only."""
    text = path.read_text()
    sol = text[text.index(f"[chains.{CHAIN}.tokens.SOL]") : text.index(f"[chains.{CHAIN}.operator]")]
    vault_key = text[text.index(f"[chains.{CHAIN}.vault_key]") : text.index(f"[chains.{CHAIN}.spending]")]
    pool = f'pool = "{running.pool.pubkey()}"'
    text = (
        text.replace(sol, "")
        .replace(vault_key, "")
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
