"""What waits for a person, and what was given up, as every view of the books tells it: by its name, and to the atom."""

import itertools
import json

import pytest

from bridge.domain.ledger import SUSPENSE_OUT, payable_code
from bridge.domain.reports.report import PendingBridge, Report, Waterfall
from bridge.stages.correct import approve, ask_adjustment
from bridge.stages.report import render_json, report
from bridge.stages.report_files.sums import disagreements
from bridge.stages.report_html import render_html
from bridge.store.database import Database
from bridge.store.metrics import read_metrics
from bridge.store.status import HeldStatus, Status
from tests.stages.books import (
    ALICE,
    CHAIN,
    DISTRIBUTION,
    USDX,
    VAULT,
    Chain,
    advance,
    batch,
    bookkeeper,
    decide,
    fee,
    land,
    plan,
    run,
    start,
    transfer,
)
from tests.stages.test_reconcile import AMOUNTS, follow, reconcile, sql


@pytest.fixture
async def chain(database: Database) -> Chain:
    chain = await start(database)
    await chain.mine(*fee(1_500))
    await decide(chain, 1, AMOUNTS)
    await run(await bookkeeper(chain))
    return chain


async def told(chain: Chain) -> tuple[Waterfall, PendingBridge, Report]:
    """What a report says after one more reconciliation; it must agree in itself."""
    await run(await bookkeeper(chain))
    await reconcile(chain)
    made = await report(chain.database)
    assert list(disagreements(json.loads(render_json(made)))) == []
    [fall], [bridge] = made.waterfalls, [item for item in made.pending if item.asset.id == USDX]
    assert (fall.held, fall.given_up, fall.in_flight) == (bridge.held, bridge.given_up, bridge.in_flight)
    assert bridge.difference is not None
    assert bridge.difference.atoms == 0
    return fall, bridge, made


def shares(fall: Waterfall) -> tuple[int, int, int, int]:
    return fall.in_flight.atoms, fall.held.atoms, fall.given_up.atoms, fall.paid.atoms


async def status_of(chain: Chain) -> Status:
    async with chain.database.snapshot() as tx:
        return await tx.status.read()


async def test_held__and_released_and_paid__each_view_follows(chain: Chain):
    assert shares((await told(chain))[0]) == (999, 0, 0, 0)  # decided, and not planned yet
    action_id = await plan(chain, AMOUNTS)
    assert shares((await told(chain))[0]) == (999, 0, 0, 0)
    assert (await status_of(chain)).payouts == {"in_flight": 2}

    await advance(chain, action_id, "held")
    fall, bridge, made = await told(chain)
    assert shares(fall) == (0, 999, 0, 0)
    assert (bridge.free.atoms, bridge.owed.atoms, bridge.ledger.atoms) == (501, 0, 1_500)
    [held] = made.held
    assert (held.distribution_id, held.batch_index, held.recipients, held.recipient) == (DISTRIBUTION, 0, 2, None)
    assert (held.amount.atoms, held.reason) == (999, "test")
    page = render_html(made)
    assert "Payouts that are held" in page
    assert "of which held: it waits for a person" in page
    status = await status_of(chain)
    assert status.payouts == {"held": 2}
    assert status.held == (HeldStatus(CHAIN, USDX, "USDX", 6, 1, 2, 999),)
    async with chain.database.snapshot() as tx:
        samples = {sample.name: sample.value for sample in await read_metrics(tx, {})}
    assert samples["bridge_held_atoms"] == 999

    await advance(chain, action_id, "planned")
    assert shares((await told(chain))[0]) == (999, 0, 0, 0)
    await chain.mine(*batch(AMOUNTS, {}))
    await land(chain, action_id, 2, gas=0)
    fall, _, made = await told(chain)
    assert (shares(fall), made.held) == ((0, 0, 0, 999), ())


async def test_given_up__then_one_paid_by_hand__what_is_left_is_still_owed(chain: Chain):
    action_id = await plan(chain, AMOUNTS)
    await advance(chain, action_id, "held", "void")
    fall, bridge, _ = await told(chain)
    assert shares(fall) == (0, 0, 999, 0)
    assert bridge.free.atoms == 501
    assert (await status_of(chain)).payouts == {"given_up": 2}

    await follow(chain, [transfer(VAULT, ALICE, 600)])
    by_hand = await ask_adjustment(
        chain.database, payable_code(ALICE), SUSPENSE_OUT, "USDX", 600, reason="paid by hand", by="alice"
    )
    await approve(chain.database, by_hand, by="bob")
    fall, bridge, _ = await told(chain)
    assert (fall.given_up.atoms, bridge.free.atoms, bridge.ledger.atoms) == (399, 501, 900)


async def test_held__as_of_a_block_before_it_was_put_aside__not_counted_there(chain: Chain):
    """Rows say what is held now; how much of it there was at the cut-off, the books do."""
    await run(await bookkeeper(chain))
    await reconcile(chain)
    before = await report(chain.database)
    for _ in range(3):
        await chain.mine()
    action_id = await plan(chain, AMOUNTS)
    await advance(chain, action_id, "held")
    assert render_json(await report(chain.database)) != render_json(before)  # its state is as of now
    assert (await report(chain.database)).held == ()  # but nothing of it is booked yet
    assert shares((await told(chain))[0]) == (0, 999, 0, 0)


async def test_held__every_state_of_two_batches__each_amount_is_in_one_place(chain: Chain):
    """All that is payable is in flight, held or given up: one batch in each state beside another in each."""
    action_id = await plan(chain, AMOUNTS)
    async with chain.database.begin() as tx:
        await tx.connection.execute("UPDATE payouts SET batch_index = 1 WHERE recipient = $1", ALICE)
        await tx.connection.execute(
            "INSERT INTO actions (distribution_id, ordinal, kind, chain, payload, target) "
            "SELECT distribution_id, 2, kind, chain, payload, target FROM actions"
        )
    await run(await bookkeeper(chain))
    for state, other in itertools.product(("broadcast", "quarantined", "held"), repeat=2):
        change = "UPDATE actions SET state = $2, reason = 'test' WHERE (action_id = $1) = $3"
        await sql(chain.database, change, action_id, state, True)
        await sql(chain.database, change, action_id, other, False)
        held = 399 * (state == "held") + 600 * (other == "held")
        fall, _, _ = await told(chain)
        assert shares(fall) == (999 - held, held, 0, 0), (state, other)
