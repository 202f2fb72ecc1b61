"""A payout's story, asked for by each of its ids."""

import json
from dataclasses import replace

import pytest

from bridge.chains.evm.abi import compile_event
from bridge.domain.artifacts import canonical
from bridge.domain.errors import ConfigError
from bridge.domain.stories import Story
from bridge.domain.units import base58, base58_ranges, hexed
from bridge.stages.explain import explain, render_json
from bridge.stages.story_text import ROWS_MAX, columns, render
from bridge.store.database import Database
from tests.stages.world import ALICE, BOB, CAROL, TOKEN, World, build_world, tx


@pytest.fixture
async def world(database: Database) -> World:
    return await build_world(database)


async def tell(database: Database, asked: str, recipient: str | None = None) -> Story:
    return await explain(
        database, asked, decoder=lambda _, declaration: compile_event(declaration), recipient=recipient
    )


async def test_explain__any_of_its_ids__the_same_story(database: Database, world: World):
    ids = (world.paid_decision, world.paid_distribution, world.execute_tx)
    stories = [await tell(database, hexed(one)) for one in ids]
    assert [story.asked.kind for story in stories] == ["decision", "distribution", "transaction"]
    assert len({render_json(replace(story, asked=stories[0].asked)) for story in stories}) == 1


@pytest.mark.parametrize("spelling", ["{:.6}", "{:.7}", "0x{:.9}", "{}", "  0X{} "])
async def test_explain__prefix_of_an_id__found(database: Database, world: World, spelling: str):
    story = await tell(database, spelling.format(world.flying_distribution.hex().upper()))
    assert story.decision.decision_id == world.flying_decision


async def test_explain__paid_distribution__everything_from_log_to_ledger(database: Database, world: World):
    story = await tell(database, world.paid_distribution.hex())
    (fees,) = story.sources
    assert (fees.count, fees.logs[0].log.block.number, fees.logs[0].log.tx_hash) == (1, 5, tx("fee 1"))
    assert fees.logs[0].fields["amount"] == "1000000000"
    assert [(share.recipient, share.amount.text, share.weight, share.outcome) for share in story.shares] == [
        (ALICE, "600", "600000000", "paid"),
        (BOB, "399.4", "399400000", "credited"),
    ]
    assert [step.state for step in story.steps] == ["final", "final"]
    assert [move.to_state for move in story.steps[1].transitions] == [
        *("reserved", "signed", "broadcast", "included", "final"),
    ]
    sources = [journal.source for journal in story.journals]
    assert sources == ["log:anvil", "decision", "distribution", *["log:anvil"] * 5, "batch"]


@pytest.mark.parametrize(("token", "amount"), [(BOB, 10**9), (TOKEN, 10_000)])
async def test_explain__log_that_the_rule_did_not_count__left_out(
    database: Database, world: World, token: bytes, amount: int
):
    """One of another token, one too small, between the first and the last that counted."""
    async with database.begin() as transaction:
        sql = transaction.connection
        await sql.execute(
            "INSERT INTO logs SELECT chain, block_number, block_hash, 2, tx_hash, tx_index, address, topic0, $1, "
            "topic2, topic3, $2 FROM logs WHERE block_number = 5 AND log_index = 1",
            *(token.rjust(32, b"\0"), amount.to_bytes(32)),
        )
        await sql.execute(
            "UPDATE decisions SET artifact = convert_to(replace(convert_from(artifact, 'UTF8'), $1, $2), 'UTF8')",
            *('"last":[5,1]', '"last":[5,2]'),
        )
    (fees,) = (await tell(database, world.paid_decision.hex())).sources
    assert [source.log.log_index for source in fees.logs] == [1]


async def test_explain__two_weighted_inputs__those_of_the_split(database: Database, world: World):
    async with database.begin() as transaction:
        artifact = json.loads(
            await transaction.connection.fetchval(
                "SELECT artifact FROM decisions WHERE decision_id = $1", world.paid_decision
            )
        )
        artifact["inputs"]["another"] = artifact["inputs"]["deposits"] | {"weights": {hexed(ALICE): "1"}}
        await transaction.connection.execute("UPDATE decisions SET artifact = $1", canonical(artifact))
    story = await tell(database, world.paid_decision.hex())
    assert [share.weight for share in story.shares] == ["600000000", "399400000"]


async def test_explain__in_flight__every_attempt_of_its_nonce(database: Database, world: World):
    story = await tell(database, world.bumped_tx.hex())
    (slot,) = story.steps[1].slots
    assert (slot.nonce, slot.state, [attempt.max_fee.atoms for attempt in slot.attempts]) == (
        3,
        "live",
        [2 * 10**9, 3 * 10**9],
    )
    assert slot.attempts[-1].tx_id == world.bumped_tx
    assert {share.outcome for share in story.shares} == {None}


@pytest.mark.parametrize(("ordinal", "others"), [(1, "broadcast"), (0, "planned")])
async def test_explain__held__its_share_says_so_and_why(database: Database, world: World, ordinal: int, others: str):
    """Its own step, or the proposal that it waits for."""
    change = "UPDATE actions SET state = $3, reason = $4 WHERE distribution_id = $1 AND (ordinal = $2) = $5"
    async with database.begin() as transaction:
        sql = transaction.connection
        await sql.execute("SET LOCAL session_replication_role = replica")
        await sql.execute(change, world.flying_distribution, ordinal, others, None, False)
        await sql.execute(change, world.flying_distribution, ordinal, "held", "its account is frozen", True)
    story = await tell(database, world.flying_distribution.hex())
    assert [(share.outcome, share.held) for share in story.shares] == [("held", "its account is frozen")]
    assert " held: its account is frozen" in render(story)
    async with database.begin() as transaction:
        await transaction.connection.execute("UPDATE actions SET state = 'void' WHERE state = 'held'")
    outcomes = [share.outcome for share in (await tell(database, world.flying_distribution.hex())).shares]
    assert outcomes == ["given_up" if ordinal == 1 else None]


async def test_explain__one_recipient__its_share_and_its_rows_alone(database: Database, world: World):
    story = await tell(database, world.paid_distribution.hex(), recipient=hexed(BOB))
    assert [share.recipient for share in story.shares] == [BOB]
    codes = {code for journal in story.journals for entry in journal.entries for code in (entry.debit, entry.credit)}
    assert f"payable:{hexed(BOB)}" in codes
    assert not any(code.endswith(hexed(ALICE)) for code in codes)
    # The distributor's transfer to ALICE is no part of it; that of the vault to the distributor is.
    booked = [journal.ref.partition(":")[2] for journal in story.journals if journal.block_number == 24]
    assert booked[:-1] == ["0", "1", "3", "4"]
    assert story.total.text == "999.4"


async def test_explain__one_recipient__only_the_batch_that_pays_it(database: Database, world: World):
    async with database.begin() as transaction:
        await transaction.connection.execute("UPDATE payouts SET batch_index = 3 WHERE recipient = $1", BOB)
    assert len((await tell(database, world.paid_distribution.hex(), recipient=hexed(ALICE))).steps) == 2
    assert len((await tell(database, world.paid_distribution.hex(), recipient=hexed(BOB))).steps) == 1


@pytest.mark.parametrize("asked", ["0x1234", "", "not an id", "0x" + "a" * 129])
async def test_explain__no_id__refused_with_the_mend(database: Database, asked: str):
    with pytest.raises(ConfigError, match="hex digits") as refusal:
        await tell(database, asked)
    assert refusal.value.mend is not None


async def test_explain__unknown_id__says_what_may_be_given(database: Database, world: World):
    with pytest.raises(ConfigError, match="nothing is known") as refusal:
        await tell(database, "00" * 32)
    assert "transaction" in (refusal.value.mend or "")


async def test_explain__ambiguous_prefix__candidates_listed(database: Database, world: World):
    twin = world.paid_decision[:4] + b"\x00" * 28
    async with database.begin() as transaction:
        await transaction.connection.execute(
            "INSERT INTO decisions SELECT $1, chain, rule, version, asset, window_start + 1, window_end, block_number,"
            " block_hash, 'nothing', reason, surplus, 0, 0, 0, artifact, decided_at"
            " FROM decisions WHERE decision_id = $2",
            *(twin, world.paid_decision),
        )
    with pytest.raises(ConfigError, match="several") as refusal:
        await tell(database, world.paid_decision.hex()[:8])
    assert hexed(twin) in refusal.value.problem
    assert hexed(world.paid_decision) in refusal.value.problem


@pytest.mark.parametrize("digits", [8, 20, 88])
async def test_explain__transaction_in_base58__found_by_its_first_digits(database: Database, world: World, digits: int):
    """As chains write ids of 64 bytes; and whoever has it in hex finds it too."""
    signature = bytes(range(200, 255)) + bytes(9)
    async with database.begin() as transaction:
        await transaction.connection.execute(
            "UPDATE attempts SET tx_id = $1 WHERE tx_id = $2", signature, world.execute_tx
        )
    for asked in (base58(signature)[:digits], signature.hex()[:digits]):
        found = (await tell(database, asked)).asked
        assert (found.kind, found.id) == ("transaction", signature)
    wrong = ("A" if base58(signature)[7] != "A" else "B").join((base58(signature)[:7], base58(signature)[8:digits]))
    with pytest.raises(ConfigError, match="nothing is known"):
        await tell(database, wrong)


async def test_explain__word_that_is_hex_and_base58__both_are_named(database: Database, world: World):
    """A decision whose hex begins as a signature's base58 does."""
    word = "abcdef"
    low, _ = base58_ranges(word, 64)[-1]
    async with database.begin() as transaction:
        connection = transaction.connection
        await connection.execute("UPDATE attempts SET tx_id = $1 WHERE tx_id = $2", low, world.execute_tx)
        await connection.execute(
            "INSERT INTO decisions SELECT $1, chain, rule, version, asset, window_start + 1, window_end, block_number,"
            " block_hash, 'nothing', reason, surplus, 0, 0, 0, artifact, decided_at"
            " FROM decisions WHERE decision_id = $2",
            *(bytes.fromhex(word).ljust(32, b"\1"), world.paid_decision),
        )
    with pytest.raises(ConfigError, match="several") as refusal:
        await tell(database, word)
    assert f"transaction  {base58(low)}" in refusal.value.problem
    assert f"decision     0x{word}" in refusal.value.problem


async def test_explain__foreign_recipient__refused(database: Database, world: World):
    with pytest.raises(ConfigError, match="receives nothing"):
        await tell(database, world.paid_distribution.hex(), recipient=hexed(CAROL))


async def test_render__paid_distribution__a_chapter_for_each_stage(database: Database, world: World):
    text = render(await tell(database, world.paid_distribution.hex()))
    for said in (
        "fee_window v1 on anvil: pay, 999.4 USDX (final)",
        "1. What the chain said",
        "amount=1000000000",
        "minimum_per_recipient",
        "399.4 USDX",
        "credited",
        "in block 24, final",
        "included → final",
        "← owed_on_chain:" + hexed(BOB),
    ):
        assert said in text
    assert not any(line != line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize(
    ("beside", "told"),
    [
        ((0, 0, 0), ""),
        ((100, 0, 0), " (gas 300,000,000,000,023 wei, L1 fee 100 wei)"),
        (
            (100, 20, 3),
            " (gas 300,000,000,000,003 wei, L1 fee 100 wei, operator fee 20 wei), and 3 wei in deposits",
        ),
    ],
)
async def test_render__what_a_transaction_took__each_part_of_it(
    database: Database, world: World, beside: tuple[int, int, int], told: str
):
    async with database.begin() as transaction:
        await transaction.connection.execute(
            "UPDATE attempts SET l1_fee = $1, operator_fee = $2, deposits = $3 WHERE tx_id = $4",
            *(*beside, world.execute_tx),
        )
    story = await tell(database, world.paid_distribution.hex())
    assert f"paid 300,000,000,000,123 wei for 150,000 gas{told}\n" in render(story)
    attempt = json.loads(render_json(story))["steps"][1]["slots"][0]["attempts"][0]
    assert [attempt[name] for name in ("l1_fee", "operator_fee", "deposits")] == [str(amount) for amount in beside]


async def test_render__many_recipients__bounded_and_said(database: Database, world: World):
    story = await tell(database, world.paid_distribution.hex())
    text = render(replace(story, shares=story.shares * 20))
    assert text.count("  paid\n") + text.count("  credited\n") == ROWS_MAX
    assert "… and 28 more; --json shows all" in text


async def test_render__held_decision__told_without_distribution(database: Database, world: World):
    story = await tell(database, world.paid_decision.hex())
    text = render(replace(story, shares=(), distribution=None, steps=(), journals=()))
    assert "nobody: above the minimum" in text
    assert "no distribution is planned" in text
    assert "nothing of it is booked yet" in text


async def test_render_json__paid_distribution__amounts_are_strings(database: Database, world: World):
    document = json.loads(render_json(await tell(database, world.paid_distribution.hex())))
    assert document["total"] == "999400000"
    assert document["shares"][0]["amount"] == "600000000"
    assert document["artifact"]["total"] == "999400000"
    assert document["steps"][1]["slots"][0]["attempts"][0]["fee_paid"] == "300000000000123"


def test_columns__ragged_widths__aligned():
    assert columns([["a", "1"], ["long", "100"]], right={1}) == ["a       1", "long  100"]
