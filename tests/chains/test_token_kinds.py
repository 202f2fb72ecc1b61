"""What the sender does with tokens that misbehave, on a real chain: it pays, credits, or refuses with a reason.

Each kind is named with the one answer that is expected; the contracts' own tests say the same of the contracts.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.chains.evm.contracts import Contract
from bridge.domain.payouts import Action, Distribution, Order, Payout, Refusal, pack_batches
from bridge.domain.units import Address, AssetId, format_address
from bridge.simulation.deploy import CREATION_GAS_LIMIT
from tests.chains.test_payer_contract import ALICE, BOB, CAROL, CHAIN, AnvilScene, Sender, action_of, start_anvil
from tests.chains.tokens import compile_tokens, token_artifact

FUNDS, AMOUNT = 10**12, 1_000

pytestmark = pytest.mark.slow  # each has a chain of its own


@dataclass(frozen=True)
class Kind:
    """`answer`: what becomes of a batch to ALICE, BOB and CAROL. `calls`: made on the token first."""

    contract: str
    answer: str
    constructor: tuple[object, ...] = ()
    calls: tuple[tuple[object, ...], ...] = ()
    credited: frozenset[Address] = field(default=frozenset())


def behaving(name: str, answer: str, behaviour: int, *credited: Address) -> Kind:
    """A token that is honest to all but BOB."""
    calls = (("behave", format_address(BOB), behaviour),)
    return Kind("MisbehavingToken", answer, calls=calls, credited=frozenset(credited))


KINDS = {
    "returns nothing": Kind("NoReturnToken", "pays"),
    "0 decimals": Kind("StrictToken", "pays", (0,)),
    "2 decimals": Kind("StrictToken", "pays", (2,)),
    "27 decimals": Kind("StrictToken", "pays", (27,)),
    "reverts on zero": Kind("StrictToken", "pays", (18,)),
    "rebased upwards": Kind("RebasingToken", "pays", calls=(("rebase", 2 * 10**18),)),
    "takes a fee of what arrives": Kind("FeeToken", "refuses for good: would revert: TokenTakesFee", (False,)),
    "takes a fee on top": Kind("FeeToken", "refuses for good: would revert: TokenTakesFee", (True,)),
    "paused": Kind("PausableToken", "waits: the vault or the token is paused", calls=(("pause",),)),
    "refuses a recipient": behaving("Reverts", "pays", 3, BOB),
    "returns false": behaving("ReturnsFalse", "pays", 4, BOB),
    "bombs with its answer": behaving("ReturnsBomb", "pays", 5, BOB),
    "bombs with its error": behaving("RevertsBomb", "pays", 6, BOB),
    "burns all gas": behaving("BurnsGas", "pays", 7, BOB),
}


@pytest.fixture(scope="session")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the compiled test tokens are."""
    return compile_tokens(tmp_path_factory.mktemp("tokens"))


@pytest.fixture
async def anvil(tmp_path: Path) -> AsyncIterator[AnvilScene]:
    scene = await start_anvil(tmp_path)
    yield scene
    await scene.stop()


class Trial:
    """One token on the chain, with the vault full of it."""

    def __init__(self, scene: AnvilScene, token: Contract) -> None:
        self.scene = scene
        self.token = token

    @classmethod
    async def begin(cls, scene: AnvilScene, tokens: Path, kind: Kind) -> "Trial":
        artifact = token_artifact(tokens, kind.contract)
        wallet = scene.deployer.wallet
        creation = wallet.sign(None, artifact.creation(*kind.constructor), gas=CREATION_GAS_LIMIT)
        stamp, _ = await scene.mine(creation)
        [receipt] = await scene.anvil.call("eth_getBlockReceipts", "0x" + stamp.hash.hex())
        token = Contract(Address(bytes.fromhex(receipt["contractAddress"][2:])), artifact)
        address = format_address(token.address)
        await scene.as_admin("vault", "setLimits", address, 0, FUNDS)
        await scene.as_admin("distributor", "setAutoLimit", address, FUNDS)
        trial = cls(scene, token)
        vault = format_address(scene.deployment.stage.vault.address)
        for function, *arguments in (("mint", vault, FUNDS), *kind.calls):
            await scene.mine(wallet.sign(token.address, token.call(str(function), *arguments)))
        return trial

    def plan(self) -> tuple[Distribution, list[Action]]:
        asset = AssetId(f"eip155:31337/erc20:{format_address(self.token.address)}")
        payouts = tuple(Payout(recipient, AMOUNT) for recipient in (ALICE, BOB, CAROL))
        order = Order(b"\1" * 32, CHAIN, "fees", asset, 0, 1, 3 * AMOUNT, payouts)
        distribution, calls = self.scene.payer.plan(order, pack_batches(order.payouts, 3))
        return distribution, [action_of(distribution, call) for call in calls]

    async def balance(self, account: Address) -> int:
        return int.from_bytes(await self.scene.anvil.view(self.token, "balanceOf", format_address(account)))


@pytest.mark.parametrize("name", KINDS)
async def test_token__of_each_kind__paid_credited_or_refused_with_a_reason(anvil: AnvilScene, tokens: Path, name: str):
    kind = KINDS[name]
    trial = await Trial.begin(anvil, tokens, kind)
    _, (propose, batch) = trial.plan()
    sender = Sender(anvil)
    await sender.land(propose)
    answer = await anvil.payer.preflight(batch, await anvil.head())
    if isinstance(answer, Refusal):
        assert f"{'waits' if answer.temporary else 'refuses for good'}: {answer.reason}".startswith(kind.answer)
        assert [await trial.balance(recipient) for recipient in (ALICE, BOB, CAROL)] == [0, 0, 0]
        return
    assert kind.answer == "pays"
    _, inclusion, logs = await sender.land(batch)
    assert inclusion.succeeded
    settlement = anvil.payer.settlement(batch, logs)
    assert (settlement.executed, settlement.credited) == (True, kind.credited)
    for recipient in (ALICE, BOB, CAROL):
        assert await trial.balance(recipient) == (0 if recipient in kind.credited else AMOUNT)
