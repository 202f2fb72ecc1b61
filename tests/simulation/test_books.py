"""What the books, the report and the audit say of things that no payout of ours explains, on the real chain."""

import asyncio
from pathlib import Path

import pytest
from eth_hash.auto import keccak

from bridge.chains.evm.contracts import Artifact, Contract
from bridge.domain.breaks import Break, Reconciliation
from bridge.domain.interventions import InterventionKind
from bridge.domain.ledger import FEES, SUSPENSE_OUT, UNALLOCATED, sender_code
from bridge.domain.reports.report import Report, Waterfall
from bridge.domain.units import Address, AssetId, format_address
from bridge.simulation.deploy import CREATION_GAS_LIMIT
from bridge.simulation.scenario import weights
from bridge.stages.correct import approve, ask_classification
from bridge.stages.intervene import intervene
from tests.chains.tokens import compile_tokens, token_artifact
from tests.simulation.meddling import EPOCH_S, World, found

ETH = AssetId("eip155:31337/slip44:60")
DESTROYS_ITSELF = b"\x73"
"""PUSH20 heir, SELFDESTRUCT: a contract that gives what it is made with to the heir at once, and leaves no log."""


def waterfall(content: Report, asset: AssetId) -> Waterfall:
    [fall] = [fall for fall in content.waterfalls if fall.asset.id == asset]
    return fall


def owed_on_chain(content: Report, asset: AssetId) -> int:
    [bridge] = [bridge for bridge in content.pending if bridge.asset.id == asset]
    return bridge.owed.atoms


async def classify(world: World, item: Break, account: str) -> None:
    number = await ask_classification(world.scene.database, item.break_id, account, reason="a test", by="ann")
    await approve(world.scene.database, number, by="bob")


async def reconciled(world: World) -> Reconciliation:
    """With nothing skipped, if that can be: windows go on closing, and the last decision may not be booked yet."""
    result = await world.reconcile()
    for _ in range(40):
        if not result.skipped:
            break
        await asyncio.sleep(0.5)
        result = await world.reconcile()
    return result


async def held(world: World, account: Address) -> int:
    """As the chain says now, asked without the code under test."""
    return int.from_bytes(await world.sandbox.anvil.view(world.usdx, "balanceOf", format_address(account)))


async def fees_on_transfers(world: World, taking: Artifact) -> None:
    """The issuers put other code behind their tokens, which keeps a hundredth of what arrives: of claims, of what comes
    into the vault; and of what would leave it, so that this is held until they think better of it."""
    anvil, vault, database = world.sandbox.anvil, world.stage.vault, world.scene.database
    raw = world.admin.sign(None, taking.creation(False), gas=CREATION_GAS_LIMIT)
    await world.send(raw)
    made = (await anvil.call("eth_getTransactionReceipt", "0x" + keccak(raw).hex()))["contractAddress"]
    code = await anvil.call("eth_getCode", made, "latest")
    for token in (world.usdx, world.stage.token("PTSX").contract):  # one is pushed, the other claimed
        await anvil.call("anvil_setCode", format_address(token.address), code)

    await world.scene.claim()
    result = await reconciled(world)
    assert (found(result), result.skipped) == (set(), ())
    [claims] = [check for check in result.checks if check.subject == "claimed accounts"]
    assert claims.expected == claims.actual == len(world.stage.participants)

    paid, before = 100_000_000_099, await held(world, vault.address)
    fee = paid // 100
    await world.call(world.stage.payers[0], vault, "payFee", format_address(world.usdx.address), paid)
    assert await held(world, vault.address) == before + paid - fee
    await world.booked()
    result = await world.reconcile()
    assert found(result) == {
        ("unexpected_in", "suspense:in", world.asset, fee),
        ("unexpected_out", "suspense:out", world.asset, -fee),
    }
    [came] = [item for item in result.breaks if item.kind == "unexpected_in"]
    await classify(world, came, SUSPENSE_OUT)
    assert found(await world.reconcile()) == set()

    await world.until(
        "SELECT count(*) FILTER (WHERE state = 'held' AND reason LIKE '%TokenTakesFee%') "
        "* (bool_and(state IN ('held', 'final', 'void')))::INTEGER FROM actions WHERE kind = 'execute'"
    )
    async with database.snapshot() as tx:
        [refused] = [each for each in await tx.summaries.read() if each.state == "held"]
    assert found(await world.reconcile()) == set()  # nothing has left, and nothing is said to have
    await world.call(world.admin, Contract(world.usdx.address, taking), "enable", False)
    await world.booked()  # else what is released may be tried on a block before that
    asked = refused.distribution_id.hex()
    await intervene(database, InterventionKind.RELEASE, asked, None, reason="they take no fee any more", by="ann")
    await world.until(
        f"SELECT count(*) FROM distribution_states WHERE state = 'final' AND encode(distribution_id, 'hex') = '{asked}'"
    )
    await world.book()
    result = await reconciled(world)
    assert (found(result), result.skipped, result.balanced) == (set(), (), True)
    assert await held(world, vault.address) == before + paid - fee - refused.total
    vault_code = f"vault:{format_address(vault.address)}"
    assert await world.balance(vault_code, world.sandbox.miner.head) == await held(world, vault.address)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_books__all_that_moves_on_a_rollup_with_two_providers__told_to_the_atom_and_classified(
    rollup_world: World, tmp_path: Path
):
    world = rollup_world
    sandbox, start = world.sandbox, world.scene.windows_start
    stakes = weights(sandbox.miner.history, start, start + EPOCH_S)
    recipient = max(world.stage.participants, key=lambda wallet: stakes.get(wallet.address, 0))
    owed, payable = (f"{kind}:{format_address(recipient.address)}" for kind in ("owed_on_chain", "payable"))

    # Nothing is final of the window's end yet, so the block comes before the payout.
    await world.call(world.admin, world.usdx, "setBlocked", format_address(recipient.address), True)
    await world.scene.settle()
    await world.book()
    amount, outcome, decided_at = await world.payout(recipient.address)
    head = sandbox.miner.head
    assert outcome == "credited"
    assert (await world.balance(payable, decided_at), await world.balance(owed, decided_at)) == (-amount, 0)
    assert (await world.balance(payable, head), await world.balance(owed, head)) == (0, -amount)
    result = await reconciled(world)
    assert (found(result), result.skipped) == (set(), ())
    content = await world.report()
    fall = waterfall(content, world.asset)
    assert (fall.credited.atoms, fall.in_flight.atoms) == (amount, 0)
    assert fall.allocated.atoms == fall.paid.atoms + amount
    assert owed_on_chain(content, world.asset) == amount
    assert await world.audit() == []

    await world.call(world.admin, world.usdx, "setBlocked", format_address(recipient.address), False)
    await world.call(
        recipient,
        world.distributor,
        "withdraw",
        format_address(world.usdx.address),
        format_address(recipient.address),
    )
    await world.book()
    head = sandbox.miner.head
    assert (await world.balance(payable, head), await world.balance(owed, head)) == (0, 0)
    result = await reconciled(world)
    assert (found(result), result.skipped) == (set(), ())
    assert owed_on_chain(await world.report(), world.asset) == 0
    assert await world.audit() == []

    donor, vault, daix = world.stage.payers[0], world.stage.vault, world.stage.token("DAIX").contract
    kept = AssetId(f"eip155:31337/erc20:{format_address(daix.address)}")
    await world.call(donor, world.usdx, "transfer", format_address(vault.address), 123_456_789)
    grant = vault.call("grantRole", keccak(b"DISTRIBUTOR_ROLE"), format_address(world.admin.address))
    for raw in world.sandbox.deployment.as_admin(vault.address, grant):
        await world.send(raw)
    await world.call(world.admin, vault, "release", b"\x66" * 32, format_address(world.usdx.address), 1_000_001)
    operator = sandbox.deployment.operator.address
    await world.call(donor, daix, "transfer", format_address(operator), 77)
    await world.send(donor.sign(operator, value=31_337))
    await world.send(donor.sign(None, DESTROYS_ITSELF + vault.address + b"\xff", value=11))
    await world.rebase(-5)
    await world.book()
    result = await reconciled(world)
    assert result.skipped == ()
    assert found(result) == {
        ("unexpected_in", "suspense:in", world.asset, 123_456_789),
        ("unexpected_in", "suspense:in", kept, 77),
        ("unexpected_out", "suspense:out", world.asset, -1_000_001),
        ("unexplained_balance", f"operator:gas:{format_address(operator)}", ETH, 31_337),
        ("unexplained_balance", f"vault:{format_address(vault.address)}", ETH, 11),
        ("unexplained_balance", f"vault:{format_address(vault.address)}", world.asset, -5),
    }
    fall = waterfall(await world.report(), world.asset)
    assert (fall.credited.atoms, fall.in_flight.atoms, fall.undecided.atoms) == (amount, 0, 0)
    assert await world.audit() == []

    accounts = {"unexpected_in": UNALLOCATED, "unexpected_out": "expense:theft", "unexplained_balance": "external:it"}
    for item in result.breaks:
        await classify(world, item, "external:donor" if item.asset == kept else accounts[item.kind])
    assert (await world.reconcile()).balanced
    assert await world.balance(sender_code(operator), sandbox.miner.head, kept) == 77
    await fees_on_transfers(world, token_artifact(compile_tokens(tmp_path, "test/tokens/FeeToken.sol"), "FeeToken"))

    # Gas, and what the rollup takes beside it: each in an account of its own, and together all that left the operator.
    taken = world.rollup
    assert taken is not None
    assert (taken.l1_fees > 0, taken.operator_fees > 0) == (True, True)
    [gas] = (await world.report()).gas
    assert gas.difference.atoms == 0
    costs = [await world.balance(code, sandbox.miner.head, ETH) for code in FEES]
    assert costs[1:] == [taken.l1_fees, taken.operator_fees, 0]  # and no deposits on such a chain
    assert (costs[0] > 0, sum(costs)) == (True, gas.booked.atoms)
