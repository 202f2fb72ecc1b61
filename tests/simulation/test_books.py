"""What the books, the report and the audit say of things that no payout of ours explains, on the real chain."""

import pytest
from eth_hash.auto import keccak

from bridge.domain.reports import Report, Waterfall
from bridge.domain.units import AssetId, format_address
from bridge.simulation.scenario import weights
from tests.simulation.meddling import EPOCH_S, World, found


def waterfall(content: Report, asset: AssetId) -> Waterfall:
    [fall] = [fall for fall in content.waterfalls if fall.asset.id == asset]
    return fall


def owed_on_chain(content: Report, asset: AssetId) -> int:
    [bridge] = [bridge for bridge in content.pending if bridge.asset.id == asset]
    return bridge.owed.atoms


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_books__credited_donation_theft_and_coin_from_nowhere__each_told_to_the_atom(world: World):
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
    result = await world.reconcile()
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
    result = await world.reconcile()
    assert (found(result), result.skipped) == (set(), ())
    assert owed_on_chain(await world.report(), world.asset) == 0
    assert await world.audit() == []

    donor, vault = world.stage.payers[0], world.stage.vault
    await world.call(donor, world.usdx, "transfer", format_address(vault.address), 123_456_789)
    grant = vault.call("grantRole", keccak(b"DISTRIBUTOR_ROLE"), format_address(world.admin.address))
    for raw in world.sandbox.deployment.as_admin(vault.address, grant):
        await world.send(raw)
    await world.call(world.admin, vault, "release", b"\x66" * 32, format_address(world.usdx.address), 1_000_001)
    operator = sandbox.deployment.operator.address
    await world.send(donor.sign(operator, value=31_337))
    await world.book()
    result = await world.reconcile()
    assert result.skipped == ()
    assert found(result) == {
        ("unexpected_in", "suspense:in", world.asset, 123_456_789),
        ("unexpected_out", "suspense:out", world.asset, -1_000_001),
        ("unexplained_balance", f"operator:gas:{format_address(operator)}", AssetId("eip155:31337/slip44:60"), 31_337),
    }
    fall = waterfall(await world.report(), world.asset)
    assert (fall.credited.atoms, fall.in_flight.atoms, fall.undecided.atoms) == (amount, 0, 0)
    assert await world.audit() == []
