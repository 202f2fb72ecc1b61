"""Each scene by itself: the same acts from the same seed, none of them refused by the real contracts, and what they
bring into the vault is what they say."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import decode
from eth_hash.auto import keccak

from bridge.chains.evm.contracts import Artifact, Contract
from bridge.domain.errors import ConfigError
from bridge.domain.units import Address, format_address
from bridge.simulation.anvil import Anvil
from bridge.simulation.deploy import Deployer
from bridge.simulation.miner import Miner
from bridge.simulation.scenes import SCENES, find_scene
from bridge.simulation.scenes.fee_window import FEE_WINDOW
from bridge.simulation.scenes.market import MARKET
from bridge.simulation.scenes.reserve_buffer import RESERVE_BUFFER
from bridge.simulation.scenes.scene import Ground, Scene
from bridge.simulation.traffic import OF_VAULT, SIGNS, WORTH_PER_SENDER, Act, Stage, Token, Traffic, TrafficBlock
from bridge.simulation.wallets import Wallet

GENESIS = 1_800_000_000
ALL = (MARKET, *SCENES.values())
WITH_CONTRACTS = tuple(scene for scene in SCENES.values() if scene not in (FEE_WINDOW, RESERVE_BUFFER))
"""Of their own; the contracts of the others are those of the market, which test_sandbox.py looks at."""
BLOCKS = 50
FEE_PAID = keccak(b"FeePaid(address,address,uint256)")
THE_SCENE = pytest.mark.parametrize("scene", ALL, ids=[scene.name for scene in ALL])


class Unsigned(Wallet):
    """Says what it would sign: signing takes long, and is tested elsewhere."""

    def sign(self, to: Address | None, data: bytes = b"", *, value: int = 0, gas: int = 0) -> bytes:
        self.nonce += 1
        return b"%d from %s to %s: %d, %s" % (self.nonce, self.address, to, value, data)


def stage_of(scene: Scene) -> Stage:
    """On no chain: addresses are made up."""

    def contract(artifact: str, index: int) -> Contract:
        return Contract(Address(bytes([index]) * 20), Artifact.load(artifact))

    def wallets(role: str, count: int) -> tuple[Wallet, ...]:
        return tuple(Unsigned.derive(1, role, index) for index in range(count))

    tokens = tuple(
        Token(coin.symbol, coin.decimals, contract("TestToken", 1 + index)) for index, coin in enumerate(scene.coins)
    )
    creations = scene.contracts(Ground(tokens, Address(bytes([200]) * 20)))
    return Stage(
        tokens=tokens,
        vault=contract("SurplusVault", 200),
        contracts={
            name: contract(creation.artifact, 100 + index) for index, (name, creation) in enumerate(creations.items())
        },
        participants=wallets("participant", 6),
        payers=wallets("payer", 2),
        outsiders=wallets("outsider", 2),
        bookkeeper=Unsigned.derive(1, "bookkeeper"),
        beneficiaries=wallets("beneficiary", 2),
    )


def traffic(scene: Scene, seed: int, blocks: int = 40) -> list[TrafficBlock]:
    """Of the same people, whatever the seed."""
    generator = Traffic(seed, 3.0, scene.cast(stage_of(scene)))
    return [generator.block(number, GENESIS + number) for number in range(blocks)]


def acts(history: Sequence[TrafficBlock]) -> list[Act]:
    return [act for block in history for act in block.acts]


@THE_SCENE
def test_scene__same_seed__same_bytes_and_another_seed_others(scene: Scene):
    first = traffic(scene, 7)
    assert traffic(scene, 7) == first
    assert [block.acts for block in traffic(scene, 8)] != [block.acts for block in first]


@THE_SCENE
def test_scene__its_kinds__all_come(scene: Scene):
    cast = scene.cast(stage_of(scene))
    assert {act.kind for act in acts(traffic(scene, 7, blocks=400))} == set(cast.shares)


@pytest.mark.slow
@pytest.mark.parametrize("scene", WITH_CONTRACTS, ids=[scene.name for scene in WITH_CONTRACTS])
async def test_scene__on_a_chain__nothing_is_refused_and_all_balances_follow_from_the_acts(
    scene: Scene, tmp_path: Path
):
    anvil = await Anvil.start(tmp_path / "anvil.log", genesis_timestamp=GENESIS)
    try:
        deployer = Deployer(anvil, 3, genesis_timestamp=GENESIS, step_s=1, epoch_s=60)
        deployment = await deployer.deploy(6, scene)
        generator = Traffic(3, 4.0, deployment.cast)
        miner = Miner(anvil, generator, head=deployment.head, genesis_timestamp=GENESIS, step_s=1)
        for _ in range(BLOCKS):
            await miner.mine()  # raises where a transaction did not succeed
        await check_balances(anvil, deployment.scene, deployment.stage, miner.history)
        paid = await fees_of(anvil, deployment.stage)
    finally:
        await anvil.stop()
    expected: Counter[str] = Counter()
    for act in acts(miner.history):
        if act.kind in OF_VAULT:
            expected[act.token] += act.amount
    assert paid == expected


async def check_balances(anvil: Anvil, scene: Scene, stage: Stage, history: Sequence[TrafficBlock]) -> None:
    for coin in scene.coins:
        token = stage.token(coin.symbol)
        gained = sum(act.amount for act in acts(history) if act.kind in OF_VAULT and act.token == coin.symbol)
        assert await held(anvil, token, stage.vault.address) == coin.reserve * token.unit + gained
    dollar = stage.tokens[0]
    for wallet in (*stage.participants, *stage.payers):
        changed = sum(
            SIGNS.get(act.kind, 0) * act.amount
            for act in acts(history)
            if act.sender == wallet.address and act.token == dollar.symbol
        )
        assert await held(anvil, dollar, wallet.address) == WORTH_PER_SENDER * dollar.unit + changed


async def held(anvil: Anvil, token: Token, owner: Address) -> int:
    return int.from_bytes(await anvil.view(token.contract, "balanceOf", format_address(owner)))


async def fees_of(anvil: Anvil, stage: Stage) -> Counter[str]:
    """Atoms by symbol that the vault says it was paid."""
    criteria: dict[str, Any] = {"fromBlock": "0x0", "address": format_address(stage.vault.address)}
    symbols = {token.contract.address: token.symbol for token in stage.tokens}
    found: Counter[str] = Counter()
    for log in await anvil.call("eth_getLogs", criteria | {"topics": ["0x" + FEE_PAID.hex()]}):
        token = Address(bytes.fromhex(log["topics"][1][-40:]))
        found[symbols[token]] += decode(["uint256"], bytes.fromhex(log["data"][2:]))[0]
    return found


def test_find_scene__unknown_rule__refused_with_the_names_that_are_known():
    with pytest.raises(ConfigError, match="no scene for the rule `fee_windw`") as caught:
        find_scene("fee_windw")
    assert all(name in str(caught.value) for name in SCENES)
    assert find_scene(None) is MARKET
