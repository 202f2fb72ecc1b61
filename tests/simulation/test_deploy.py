"""`bridge deploy` on a real chain: what it makes, how it goes on, and what a daemon refuses to work with."""

import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from eth_hash.auto import keccak

from bridge.chains.evm.abi import selector
from bridge.chains.evm.deployment import contract_address
from bridge.chains.evm.rpc import EvmRpc
from bridge.chains.evm.signer import KeystoreSigner
from bridge.deploy import check_governance, deploy, journal_path
from bridge.domain.errors import ChainDisagrees, ConfigError, RefusedError
from bridge.domain.units import Address, format_address
from bridge.runtime.config import load_config
from bridge.simulation.sandbox import Sandbox, Settings
from bridge.simulation.wallets import Wallet
from tests.crash.proxy import Proxy

CHAIN = "anvil"
PASSWORD = "sesame"  # of a key that is good for nothing
DEPLOYER, STRANGER = Wallet.derive(5, "fresh deployer"), Wallet.derive(5, "stranger")


class Stop(Exception):
    pass


class World:
    """A sandbox whose chain goes on by itself, and the configuration of somebody who has not deployed yet."""

    def __init__(self, sandbox: Sandbox, rpc: EvmRpc) -> None:
        self.sandbox = sandbox
        self.rpc = rpc
        self.operator = sandbox.deployment.operator.address
        self.path = sandbox.directory / "mine.toml"
        text = sandbox.config_path.read_text()
        for table in (f"chains.{CHAIN}.contracts", f"chains.{CHAIN}.governance.code"):
            text = re.sub(rf"^\[{re.escape(table)}\]\n(?:.+\n)*", "", text, flags=re.MULTILINE)
        # Without rules: they name contracts that are not deployed by us.
        self.text = re.sub(r"\[\[rules\]\]\n(?:.+\n)*", "", text).replace("admin_delay_s = 0", "admin_delay_s = 3600")
        self.path.write_text(self.text)

    @property
    def signer(self) -> KeystoreSigner:
        keystore = self.sandbox.directory / "deployer.json"
        keystore.write_text(DEPLOYER.keystore(PASSWORD))
        return KeystoreSigner.load(keystore, PASSWORD)

    async def deploy(self, stop_after: int | None = None) -> str:
        """The lines for the configuration. Raises Stop after so many steps."""
        done: list[str] = []

        def tell(line: str) -> None:
            done.append(line)
            if len(done) == stop_after:
                raise Stop

        config = load_config(self.path, deployed=False)
        return await deploy(config, CHAIN, self.rpc, self.signer, operator=self.operator, tell=tell)

    async def check(self) -> None:
        await check_governance(load_config(self.path), CHAIN, self.rpc, self.operator)

    async def nonce(self, account: Address) -> int:
        return int(await self.rpc.call("eth_getTransactionCount", [format_address(account), "latest"]), 16)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with Sandbox.start(tmp_path / "sandbox", Settings(seed=3, block_time_s=0.05)) as sandbox:
        for wallet in (DEPLOYER, STRANGER):
            await sandbox.anvil.call("anvil_setBalance", format_address(wallet.address), hex(10**20))
        rpc = EvmRpc([sandbox.rpc_url])
        yield World(sandbox, rpc)
        await rpc.close()


async def impersonate(world: World, account: Address, target: Address, data: bytes) -> None:
    """A transaction of an account whose key nobody has; it must succeed."""
    anvil = world.sandbox.anvil
    await anvil.call("anvil_setBalance", format_address(account), hex(10**20))
    await anvil.call("anvil_impersonateAccount", format_address(account))
    parties = {"from": format_address(account), "to": format_address(target)}
    tx_id = await anvil.call("eth_sendTransaction", parties | {"data": "0x" + data.hex(), "gas": hex(300_000)})
    await world.sandbox.mine()
    assert (await anvil.call("eth_getTransactionReceipt", tx_id))["status"] == "0x1"


@pytest.mark.slow
async def test_deploy__cut_off_and_begun_again__one_deployment_as_configured_and_none_of_it_the_deployers(world: World):
    for stop_after in (1, 4):
        with pytest.raises(Stop):
            await world.deploy(stop_after)
    lines = await world.deploy()
    assert await world.deploy() == lines, "once more changes nothing"
    attempts = len(re.findall('"raw"', journal_path(load_config(world.path, deployed=False), CHAIN).read_text()))
    assert await world.nonce(DEPLOYER.address) == attempts
    assert f'timelock = "{format_address(contract_address(DEPLOYER.address, 0))}"' in lines
    world.path.write_text(world.text + "\n" + lines + "\n")
    await world.check()

    # That everybody who should has a role is not enough.
    config = load_config(world.path)
    contracts = config.chains[CHAIN].contracts
    distributor = world.sandbox.deployment.distributor.artifact
    grant = distributor.call("grantRole", keccak(b"PROPOSER_ROLE"), format_address(STRANGER.address))
    await impersonate(world, contracts["timelock"], contracts["distributor"], grant)
    with pytest.raises(ConfigError, match=f"{format_address(STRANGER.address)} has PROPOSER_ROLE and should not"):
        await world.check()
    with pytest.raises(ConfigError) as caught:
        world.path.write_text(world.path.read_text().replace("delay_s = 3600", "delay_s = 7200"))
        await world.check()
    assert "timelock: getMinDelay is 3600, not 7200" in str(caught.value)
    assert "distributor: delay is 3600, not 7200" in str(caught.value)


@pytest.mark.slow
async def test_deploy__begun_with_other_values__refused(world: World):
    with pytest.raises(Stop):
        await world.deploy(stop_after=1)
    world.path.write_text(world.text.replace("approval_lifetime_s = 86400", "approval_lifetime_s = 86401"))
    with pytest.raises(ConfigError, match="begun with another plan"):
        await world.deploy()


@pytest.mark.slow
async def test_deploy__nonce_spent_elsewhere__refused_and_nothing_more_is_sent(world: World):
    with pytest.raises(Stop):
        await world.deploy(stop_after=1)
    await impersonate(world, DEPLOYER.address, STRANGER.address, b"")
    spent = await world.nonce(DEPLOYER.address)
    with pytest.raises(RefusedError, match="has spent nonce 1 on something else"):
        await world.deploy()
    assert await world.nonce(DEPLOYER.address) == spent


@pytest.mark.slow
async def test_deploy__operator_may_approve__refused_before_anything_is_sent(world: World):
    approver = format_address(world.sandbox.deployment.approver.address)
    world.path.write_text(world.text.replace(approver, format_address(world.operator)))
    with pytest.raises(ConfigError, match="is one of the approvers"):
        await world.deploy()
    assert await world.nonce(DEPLOYER.address) == 0


@pytest.mark.slow
async def test_sandbox__its_configuration__is_what_the_chain_says(world: World):
    await check_governance(load_config(world.sandbox.config_path), CHAIN, world.rpc, world.operator)


# ── Two endpoints ───────────────────────────────────────────────────────────────────────────────────────────────────
Change = Callable[[dict[str, Any], Any], Any]  # (call, honest result) → what is said instead


class Altered(Proxy):
    """Before a node: answers that are not its own."""

    def __init__(self, node: str, change: Change) -> None:
        super().__init__(node)
        self.change = change

    async def _ask(self, body: bytes) -> bytes:
        asked, answered = json.loads(body), json.loads(await super()._ask(body))
        several = isinstance(asked, list)
        for call, answer in zip(asked if several else [asked], answered if several else [answered], strict=True):
            if "result" in answer:
                answer["result"] = self.change(call, answer["result"])
        return json.dumps(answered).encode()


def other_code(call: dict[str, Any], result: Any) -> Any:
    return result + "00" if call["method"] == "eth_getCode" else result


def other_delay(call: dict[str, Any], result: Any) -> Any:
    is_delay = call["method"] == "eth_call" and call["params"][0]["data"] == "0x" + selector("delay()").hex()
    return "0x" + "00" * 31 + "01" if is_delay else result


def other_blocks(call: dict[str, Any], result: Any) -> Any:
    return result | {"hash": "0x" + "ab" * 32} if call["method"] == "eth_getBlockByNumber" else result


def far_head(call: dict[str, Any], result: Any) -> Any:
    return "0xffffff" if call["method"] == "eth_blockNumber" else result


LIES = pytest.mark.parametrize("lie", [other_code, other_delay, other_blocks])


async def check_with(world: World, *changes: Change) -> None:
    """Against one endpoint for each."""
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Altered(world.sandbox.rpc_url, one).running()) for one in changes]
        rpc = EvmRpc([proxy.url for proxy in proxies])
        stack.push_async_callback(rpc.close)
        await check_governance(load_config(world.sandbox.config_path), CHAIN, rpc, world.operator)


def honest(call: dict[str, Any], result: Any) -> Any:
    return result


@LIES
@pytest.mark.slow
async def test_governance__one_of_two_endpoints_tells_it_otherwise__no_start_and_both_named(
    world: World, monkeypatch: pytest.MonkeyPatch, lie: Change
):
    monkeypatch.setattr("bridge.chains.evm.governance.PAUSE_S", 0.01)
    for changes in ((lie, honest), (honest, lie)):
        with pytest.raises(ChainDisagrees, match=r"no two endpoints said the same .* 127.0.0.1:\d+, 127.0.0.1:\d+"):
            await check_with(world, *changes)


@pytest.mark.parametrize("lie", [other_code, other_delay, other_blocks, far_head])
@pytest.mark.slow
async def test_governance__one_of_three_endpoints_tells_it_otherwise__outvoted(world: World, lie: Change):
    for changes in ((lie, honest, honest), (honest, honest, lie)):
        await check_with(world, *changes)


@pytest.mark.slow
async def test_governance__endpoints_that_differ_for_a_moment__asked_again(
    world: World, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("bridge.chains.evm.governance.PAUSE_S", 0.01)
    told: list[str] = []

    def at_first(call: dict[str, Any], result: Any) -> Any:
        if call["method"] != "eth_getBlockByNumber" or len(told) == 2:
            return result
        told.append(call["method"])
        return other_blocks(call, result)

    await check_with(world, honest, at_first)
    assert len(told) == 2


@pytest.mark.slow
async def test_governance__one_of_two_endpoints_lags__read_at_a_block_that_both_have(world: World):
    def lagging(call: dict[str, Any], result: Any) -> Any:
        return hex(int(result, 16) - 3) if call["method"] == "eth_blockNumber" else result

    await check_with(world, honest, lagging)
