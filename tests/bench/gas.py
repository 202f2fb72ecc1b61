"""Gas of pushes and claims, from the receipts of whole transactions on a local chain.

push           Distributor.executeBatch, the first of its epoch: role, pause, gate, content, cap, floor, credits
Disperse       the algorithm of Disperse: transferFrom of the sum, then a transfer each; no guard
loop           transfers out of a contract's own balance; no guard
one by one     a transaction for each transfer

cold: the recipients held nothing before; warm: they held some. All start from the same state of the chain.

first: the account held nothing and had claimed nothing; repeat: it claims from the next tree. The parts of a repeat are
what a trace says that its steps used. Better code of Claims makes only the last one smaller, as long as it leaves none
out.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_hash.auto import keccak

from bridge.chains.evm.contracts import Artifact, Contract
from bridge.domain.units import Address, format_address, hexed
from bridge.simulation.anvil import CHAIN_ID, Anvil
from bridge.simulation.wallets import DEPLOYER_KEY, Wallet

COUNTS = (10, 50, 200)
DEPTHS = (10, 20)
GENESIS_TIMESTAMP = 1_900_000_000
EPOCH_S = 2**32  # the whole run is in one
FUNDS = 10**30
AMOUNT = 1_234_567
UINT256_MAX = 2**256 - 1
INTRINSIC_GAS = 21_000
TRANSACTION_GAS = 2**24  # the most that one may have (EIP-7825)
REPOSITORY = Path(__file__).parents[2]


@dataclass(slots=True)
class Bench:
    anvil: Anvil
    wallet: Wallet
    epochs: itertools.count[int]
    now: int = GENESIS_TIMESTAMP

    async def mine(self, *transactions: bytes) -> list[dict[str, Any]]:
        self.now += 12
        return await self.anvil.mine(self.now, transactions)

    async def create(self, artifact: Artifact, *arguments: object) -> Contract:
        [receipt] = await self.mine(self.wallet.sign(None, artifact.creation(*arguments), gas=8_000_000))
        return Contract(Address(bytes.fromhex(receipt["contractAddress"][2:])), artifact)

    async def gas(self, contract: Contract, function: str, *arguments: object) -> int:
        """What the whole transaction of this call used."""
        data = contract.call(function, *arguments)
        [receipt] = await self.mine(self.wallet.sign(contract.address, data, gas=TRANSACTION_GAS))
        return int(receipt["gasUsed"], 16)


@dataclass(frozen=True, slots=True)
class World:
    token: Contract
    distributor: Contract
    claims: Contract
    disperse: Contract
    loop: Contract


def baselines() -> dict[str, Artifact]:
    """What is compared with, compiled as our contracts are."""
    [forge] = REPOSITORY.glob("node_modules/@foundry-rs/forge-*/bin/forge")
    path = os.pathsep.join([str(REPOSITORY / ".venv/bin"), os.environ["PATH"]])
    command = [str(forge), "build", "test/gas", "--out", "out/bench", "--cache-path", "cache/bench"]
    subprocess.run(
        command, cwd=REPOSITORY / "contracts", env={**os.environ, "PATH": path}, check=True, stdout=subprocess.DEVNULL
    )
    artifacts = {}
    for name in ("PlainToken", "Disperse", "TransferLoop"):
        built = json.loads((REPOSITORY / f"contracts/out/bench/Baselines.sol/{name}.json").read_text())
        artifacts[name] = Artifact(name, built["abi"], bytes.fromhex(built["bytecode"]["object"].removeprefix("0x")))
    return artifacts


async def deploy(bench: Bench) -> World:
    compared = baselines()
    me = format_address(bench.wallet.address)
    token = await bench.create(compared["PlainToken"])
    disperse, loop = await bench.create(compared["Disperse"]), await bench.create(compared["TransferLoop"])
    vault = await bench.create(Artifact.load("SurplusVault"), me, EPOCH_S)
    governed = (me, format_address(vault.address), 0, 86_400)
    distributor = await bench.create(Artifact.load("Distributor"), *governed)
    claims = await bench.create(Artifact.load("Claims"), *governed, 0)
    address = format_address(token.address)
    for owner in (vault, loop):
        await bench.gas(token, "mint", format_address(owner.address), FUNDS)
    await bench.gas(token, "mint", me, FUNDS)
    await bench.gas(token, "approve", format_address(disperse.address), UINT256_MAX)
    await bench.gas(vault, "setLimits", address, 0, UINT256_MAX)
    for leg in (distributor, claims):
        await bench.gas(vault, "grantRole", keccak(b"DISTRIBUTOR_ROLE"), format_address(leg.address))
        await bench.gas(leg, "grantRole", keccak(b"PROPOSER_ROLE"), me)
        await bench.gas(leg, "setAutoLimit", address, UINT256_MAX)
    return World(token, distributor, claims, disperse, loop)


# ── push ──
async def push(bench: Bench, world: World, recipients: Sequence[str], amounts: Sequence[int]) -> tuple[int, int]:
    """(gas of the proposal, gas of the batch)."""
    epoch, token = next(bench.epochs), format_address(world.token.address)
    identity = (keccak(b"rule"), epoch, epoch + 1, token)
    distribution_id = keccak(
        encode(
            ["uint256", "address", "bytes32", "uint64", "uint64", "address"],
            [CHAIN_ID, format_address(world.distributor.address), *identity],
        )
    )
    batch = (distribution_id, 0, recipients, amounts)
    batch_hash = keccak(encode(["bytes32", "uint32", "address[]", "uint256[]"], batch))
    content = (sum(amounts), len(recipients), [batch_hash], keccak(b"artifact"), f"urn:sha256:{'0' * 64}")
    proposal = await bench.gas(world.distributor, "propose", *identity, *content)
    return proposal, await bench.gas(world.distributor, "executeBatch", *batch)


async def measure_push(bench: Bench, world: World, count: int, *, warm: bool) -> tuple[int, dict[str, float]]:
    """Gas of the proposal, and gas per recipient of each way."""
    token = format_address(world.token.address)
    # As real addresses are: without zero bytes, in ascending order.
    recipients = [f"0x{0x1111 + i:04x}{'11' * 18}" for i in range(count)]
    amounts = [AMOUNT + i for i in range(count)]
    state, nonce = await bench.anvil.call("evm_snapshot"), bench.wallet.nonce
    used: dict[str, float] = {}
    proposal = 0
    for way in ("push", "Disperse", "loop", "one by one"):
        if warm:
            data = [world.token.call("mint", recipient, 1) for recipient in recipients]
            await bench.mine(*(bench.wallet.sign(world.token.address, call) for call in data))
        if way == "push":
            proposal, gas = await push(bench, world, recipients, amounts)
        elif way == "Disperse":
            gas = await bench.gas(world.disperse, "disperse", token, recipients, amounts)
        elif way == "loop":
            gas = await bench.gas(world.loop, "pay", token, recipients, amounts)
        else:
            payments = zip(recipients, amounts, strict=True)
            data = [world.token.call("transfer", recipient, amount) for recipient, amount in payments]
            receipts = await bench.mine(*(bench.wallet.sign(world.token.address, call) for call in data))
            gas = sum(int(receipt["gasUsed"], 16) for receipt in receipts)
        used[way] = gas / count
        await bench.anvil.call("evm_revert", state)
        state, bench.wallet.nonce = await bench.anvil.call("evm_snapshot"), nonce
    return proposal, used


# ── claim ──
async def measure_claim(bench: Bench, world: World, depth: int) -> tuple[int, int, dict[str, int]]:
    """(gas of an account's first claim, which held nothing; gas of its next, from the next tree; the parts of that)."""
    token, claims = format_address(world.token.address), format_address(world.claims.address)
    account = "0x" + keccak(b"account %d" % depth)[:20].hex()
    used: list[int] = []
    parts: dict[str, int] = {}
    for cumulative in (AMOUNT, 2 * AMOUNT):
        types = ["uint256", "address", "address", "address", "uint256"]
        node = keccak(keccak(encode(types, [CHAIN_ID, claims, account, token, cumulative])))
        proof = [keccak(b"%d %d" % (depth, i)) for i in range(depth)]
        for sibling in proof:
            node = keccak(min(node, sibling) + max(node, sibling))
        await accept(bench, world, node, depth)
        parts = await claim_parts(bench, world, world.claims.call("claim", account, token, cumulative, proof))
        used.append(await bench.gas(world.claims, "claim", account, token, cumulative, proof))
    first, repeat = used
    return first, repeat, parts


async def claim_parts(bench: Bench, world: World, data: bytes) -> dict[str, int]:
    """What each part of this claim would use now, in the order of a claim; together it is the transaction's gas."""
    sender, claims = format_address(bench.wallet.address), format_address(world.claims.address)
    call = {"from": sender, "to": claims, "data": hexed(data), "gas": hex(TRANSACTION_GAS)}
    trace = await bench.anvil.call("debug_traceCall", call, "latest", {"disableMemory": True})
    steps = [step for step in trace["structLogs"] if step["depth"] == 1]
    parts = {
        "the transaction": INTRINSIC_GAS,
        "its data": sum(16 if byte else 4 for byte in data),
        "is the vault paused": 0,
        "what the account has claimed": 0,
        "the root, and what is unclaimed": 0,
        "the event": 0,
        "the token's transfer": 0,
        "is what is unclaimed covered": 0,
        "proof, guard against reentry, the rest": 0,
    }
    named = {"LOG4": "the event", "CALL": "the token's transfer"}
    slots: dict[str, str] = {}
    for step, following in itertools.pairwise(steps):
        operation, part = step["op"], "proof, guard against reentry, the rest"
        if operation in {"SLOAD", "SSTORE"}:
            # An account that has no policy is one slot, the root another; the account's comes first.
            new = "the root, and what is unclaimed" if slots else "what the account has claimed"
            part = slots.setdefault(step["stack"][-1], new)
        elif operation == "STATICCALL":
            to_token = int(step["stack"][-2], 16) == int.from_bytes(world.token.address)
            part = "is what is unclaimed covered" if to_token else "is the vault paused"
        elif operation in named:
            part = named[operation]
        parts[part] += step["gas"] - following["gas"]  # With all that was called.
    assert len(slots) == 2
    return parts


async def accept(bench: Bench, world: World, root: bytes, depth: int) -> None:
    """Each tree adds more than the account claims, for others that have not claimed yet."""
    epoch, token = next(bench.epochs), format_address(world.token.address)
    total = 10 * AMOUNT
    accepted = int.from_bytes((await bench.anvil.view(world.claims, "latestRoot", token))[3 * 32 : 4 * 32])
    content = (total, 2**depth, root, accepted + total, keccak(b"artifact"), "urn:none")
    rule = keccak(b"rule")
    await bench.gas(world.claims, "proposeRoot", rule, epoch, epoch + 1, token, *content)
    distribution_id = keccak(
        encode(
            ["uint256", "address", "bytes32", "uint64", "uint64", "address"],
            [CHAIN_ID, format_address(world.claims.address), rule, epoch, epoch + 1, token],
        )
    )
    await bench.gas(world.claims, "activate", distribution_id)


async def run() -> None:
    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as name:
        anvil = await Anvil.start(Path(name) / "anvil.log", genesis_timestamp=GENESIS_TIMESTAMP)
        try:
            bench = Bench(anvil, Wallet(DEPLOYER_KEY), itertools.count(1))
            world = await deploy(bench)
            await print_pushes(bench, world)
            await print_claims(bench, world)
        finally:
            await anvil.stop()


async def print_pushes(bench: Bench, world: World) -> None:
    print("gas per recipient           cold   × Disperse       warm   × Disperse")
    proposals = []
    for count in COUNTS:
        proposal, cold = await measure_push(bench, world, count, warm=False)
        _, warm = await measure_push(bench, world, count, warm=True)
        for way in cold:
            print(f"{count:>4} recipients  {way:10} {cold[way]:>8,.0f}   {cold[way] / cold['Disperse']:10.3f}   "
                  f"{warm[way]:>8,.0f}   {warm[way] / warm['Disperse']:10.3f}")  # fmt: skip
        proposals.append(f"{proposal:,}")
    print(f"a proposal of one batch, once a distribution: {', '.join(proposals)} gas")


async def print_claims(bench: Bench, world: World) -> None:
    print("\ngas of a claim        first     repeat")
    parts = {}
    for depth in DEPTHS:
        first, repeat, parts[depth] = await measure_claim(bench, world, depth)
        assert sum(parts[depth].values()) == repeat
        print(f"depth {depth:<14} {first:>7,}    {repeat:>7,}")
    print(f"\nparts of a repeat claim                {''.join(f'   depth {depth}' for depth in DEPTHS)}")
    for part in parts[DEPTHS[0]]:
        print(f"{part:39}{''.join(f'{parts[depth][part]:>11,}' for depth in DEPTHS)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    asyncio.run(run())
