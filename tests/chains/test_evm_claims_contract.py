"""A tree made here pays everyone through the real Claims contract, each what the leaf says and nobody more."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_hash.auto import keccak

from bridge.chains.evm.claimed import CALLS_AT_ONCE, ClaimedAmounts
from bridge.chains.evm.claims import Claim, ClaimSet
from bridge.chains.evm.contracts import Artifact, Contract
from bridge.chains.evm.rpc import EvmRpc
from bridge.domain.errors import RefusedError, StateUnavailable
from bridge.domain.units import UINT256_MAX, Address, BlockStamp, format_address
from bridge.simulation.anvil import CHAIN_ID, Anvil
from bridge.simulation.wallets import DEPLOYER_KEY, Wallet

GENESIS_TIMESTAMP = 1_700_000_000
DAY_S = 86_400


class Chain:
    """A vault full of a token, and Claims that may take all of it at once."""

    token: Contract
    claims: Contract

    def __init__(self, anvil: Anvil) -> None:
        self.anvil = anvil
        self.wallet = Wallet(DEPLOYER_KEY)
        self._timestamp = GENESIS_TIMESTAMP

    async def deploy(self) -> None:
        admin = format_address(self.wallet.address)
        self.token = await self._create("TestToken", "Token", "TOK", 18)
        vault = await self._create("SurplusVault", admin, DAY_S)
        self.claims = await self._create("Claims", admin, format_address(vault.address), 0, DAY_S, 0)
        token = format_address(self.token.address)
        await self.send(vault, "grantRole", keccak(b"DISTRIBUTOR_ROLE"), format_address(self.claims.address))
        await self.send(vault, "setLimits", token, 0, UINT256_MAX)
        await self.send(self.claims, "grantRole", keccak(b"PROPOSER_ROLE"), admin)
        await self.send(self.claims, "setAutoLimit", token, UINT256_MAX)
        await self.send(self.token, "mint", format_address(vault.address), 2**200)

    async def accept(self, claims: ClaimSet, epoch: int, total: int) -> None:
        """Propose and activate the root; `total` is what it adds."""
        rule, artifact = keccak(b"rule"), keccak(b"artifact")
        token = format_address(claims.token)
        tree = (total, len(claims), claims.root, claims.total, artifact, "")
        proposed = await self.send(self.claims, "proposeRoot", rule, epoch, epoch + 1, token, *tree)
        await self.send(self.claims, "activate", bytes.fromhex(proposed["logs"][0]["topics"][1][2:]))

    async def claim(self, claim: Claim) -> None:
        """Raises RefusedError where the contract refuses."""
        arguments = (format_address(claim.account), format_address(self.token.address), claim.cumulative, claim.proof)
        await self.anvil.view(self.claims, "claim", *arguments)
        await self.send(self.claims, "claim", *arguments)

    async def balance(self, account: Address) -> int:
        return int.from_bytes(await self.anvil.view(self.token, "balanceOf", format_address(account)))

    async def stamp(self, block: str) -> BlockStamp:
        header = await self.anvil.call("eth_getBlockByNumber", block, False)
        return BlockStamp("anvil", int(header["number"], 16), bytes.fromhex(header["hash"][2:]))

    async def send(self, contract: Contract, function: str, *arguments: object) -> dict[str, Any]:
        return await self._mine(self.wallet.sign(contract.address, contract.call(function, *arguments), gas=1_000_000))

    async def _create(self, name: str, *arguments: object) -> Contract:
        artifact = Artifact.load(name)
        receipt = await self._mine(self.wallet.sign(None, artifact.creation(*arguments), gas=8_000_000))
        return Contract(Address(bytes.fromhex(receipt["contractAddress"][2:])), artifact)

    async def _mine(self, raw: bytes) -> dict[str, Any]:
        self._timestamp += 1
        [receipt] = await self.anvil.mine(self._timestamp, [raw])
        return receipt


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    anvil = await Anvil.start(tmp_path / "anvil.log", genesis_timestamp=GENESIS_TIMESTAMP)
    try:
        chain = Chain(anvil)
        await chain.deploy()
        yield chain
    finally:
        await anvil.stop()


def draw(count: int) -> list[tuple[Address, int]]:
    chance = random.Random(count)
    return [(Address(chance.randbytes(20)), chance.randrange(1, 1 << chance.randrange(1, 150))) for _ in range(count)]


async def test_claims_contract__every_leaf_of_two_trees__is_paid_exactly(chain: Chain):
    given = dict(draw(11))
    first = ClaimSet.build(CHAIN_ID, chain.claims.address, chain.token.address, given.items())
    assert len({len(first.tree.proof(index)) for index in range(11)}) == 2  # long proofs and short ones
    await chain.accept(first, epoch=1, total=first.total)
    for account in given:
        await chain.claim(first.claim(account))
    assert {account: await chain.balance(account) for account in given} == given

    more = {**given, Address(b"\xff" * 20): 2**158}
    more[next(iter(given))] += 5
    second = ClaimSet.build(CHAIN_ID, chain.claims.address, chain.token.address, more.items())
    await chain.accept(second, epoch=2, total=second.total - first.total)
    changed = [account for account in more if more[account] != given.get(account)]
    for account in changed:
        await chain.claim(second.claim(account))
    assert {account: await chain.balance(account) for account in more} == more
    await _claimed_is_told(chain, more)


async def _claimed_is_told(chain: Chain, given: dict[Address, int]) -> None:
    """Of all at once, in several requests; of a block before there was a contract; and of none that there is."""
    rpc = EvmRpc([chain.anvil.rpc_url, chain.anvil.rpc_url])
    claimed = ClaimedAmounts(rpc, chain.claims.address)
    strangers = [account for account, _ in draw(2 * CALLS_AT_ONCE)]
    wanted = [(chain.token.address, account) for account in (*strangers, *given)]
    try:
        told = await claimed.claimed(wanted, await chain.stamp("latest"))
        assert told == [0] * len(strangers) + [*given.values()]
        assert await claimed.claimed(wanted[-3:], await chain.stamp("0x0")) == [0, 0, 0]
        with pytest.raises(StateUnavailable, match="no endpoint has the state of"):
            await claimed.claimed(wanted[-3:], BlockStamp("anvil", 7, b"\x66" * 32))
    finally:
        await rpc.close()


async def test_claims_contract__anything_but_the_leaf__is_refused(chain: Chain):
    entries = draw(5)
    claims = ClaimSet.build(CHAIN_ID, chain.claims.address, chain.token.address, entries)
    await chain.accept(claims, epoch=1, total=claims.total)
    claim, other = (claims.claim(account) for account, _ in entries[:2])
    for wrong in (
        Claim(claim.account, claim.cumulative + 1, claim.proof),
        Claim(other.account, claim.cumulative, claim.proof),
        Claim(claim.account, claim.cumulative, other.proof),
        Claim(claim.account, claim.cumulative, claim.proof[:-1]),
        Claim(claim.account, claim.cumulative, ()),
    ):
        with pytest.raises(RefusedError, match="revert"):
            await chain.claim(wrong)
    await chain.claim(claim)
    assert await chain.balance(claim.account) == claim.cumulative
