"""A replay in memory comes to the very decisions of the stage, and a decision can be made again from its record."""

import json
import random
from typing import Any, cast

import pytest

from bridge.domain.errors import ChainUnavailable, ConfigError
from bridge.domain.rules import RuleStart
from bridge.ports.reading import PriceFeeds
from bridge.replay.replay import Follower, Replay
from bridge.replay.verify import Answer, Claim, file_claim, stored_claim, verify
from bridge.runtime.clock import SystemClock
from bridge.stages.binding import BoundRule, log_filters, versions_of
from bridge.stages.prices import PriceSources
from bridge.store.database import Database
from bridge.store.leases import Leases
from tests.stages.deciding import BUFFER, FEES, TOKENS, VAULT, World
from tests.stages.history import LivelyChain, ScriptedHistory, UnevenChain, populate

BLOCKS = 130
GUARDED = FEES.replace(
    "split:", "guardrails: {cap_per_epoch: 900, minimum_total: 100, minimum_per_recipient: 40, cooldown: 150 s}\nsplit:"
)


@pytest.fixture
async def world(database: Database) -> World:
    async with database.begin() as transaction:
        await transaction.chains.register("test", "evm", "eip155:31337", bytes(32), 0)
    lease = await Leases(database).acquire("decide:test", "a test", 60_000)
    assert lease is not None
    return World(database, UnevenChain(start=3), lease)


@pytest.fixture
def seed() -> int:
    return random.randrange(2**32)


async def replayed(chain: LivelyChain, rules: tuple[BoundRule, ...], *, width: int) -> list[bytes]:
    start = chain.at(chain.start)
    replay = Replay([Follower.of(versions, start) for versions in versions_of(rules).values()], chain.reader, start)
    found = []
    async for added in ScriptedHistory(chain, width).ranges(chain.start, chain.final, log_filters(rules)):
        found += [step.decision async for step in replay.feed(added)]
    return [each.artifact for each in sorted(found, key=lambda each: (each.window.end, each.rule))]


BY_BLOCKS = GUARDED.replace("{every: 100 s}", "{blocks: 9}")
BY_EVENT = GUARDED.replace("{every: 100 s}", "{each: release}").replace(
    "inputs:", "  release: {contract: vault, event: 'Released(address token, uint256 amount)'}\ninputs:"
)
MADE = GUARDED.replace(
    "    contract: vault\n",
    '    factory: {contract: obligations, event: "Created(address pool)", address: pool}\n',
    1,
)
LASTING = """
rule: gains
version: 1
description: what is above the mark, by those who are in
asset: USDX
window: {blocks: 6}
events:
  fee:
    contract: vault
    event: "FeePaid(address token, address payer, uint256 amount)"
    units: {amount: amount<USDX>}
  deposit: {contract: pool, event: "Deposited(address account, uint256 amount)"}
  withdrawal: {contract: pool, event: "Withdrawn(address account, uint256 amount)"}
inputs:
  newest: {last: fee.amount}
  mark: {high_water: newest + liabilities}
  liabilities: {read: {contract: obligations, function: total, returns: amount<USDX>}}
  stake: {balances: {add: deposit.amount, subtract: withdrawal.amount, by: account, at: before}}
  players: {members: {add: [deposit.account], remove: [withdrawal.account]}}
  signed: {sums: {of: 500 - deposit.amount, by: account}}
surplus: max(newest + liabilities - mark, 0)
carry: surplus
guardrails: {cap_total: 600, cap_per_recipient: 150}
split:
  legs:
    - {bps: 5000, pro_rata: signed}
    - {bps: 4000, equal: players}
    - {bps: 1000, pro_rata: stake}
"""


@pytest.mark.parametrize("width", [1, 7, 1000])
@pytest.mark.parametrize(
    "texts",
    [(GUARDED, BUFFER), (BY_BLOCKS,), (BY_EVENT,), (LASTING,), (MADE,)],
    ids=["two of one asset", "by blocks", "by event", "lasting", "made by a factory"],
)
async def test_replay__any_history__the_decisions_of_the_stage(
    world: World, seed: int, texts: tuple[str, ...], width: int
):
    chain = cast("UnevenChain", world.chain)
    populate(chain, seed, BLOCKS, made=MADE in texts)
    chain.stored_every = 11
    await world.run(world.stage(*texts, logs_max=3), 900)
    live = [row["artifact"] for row in await world.decisions()]
    assert live
    assert await replayed(chain, world.bound(*texts), width=width) == live, f"seed {seed}"


@pytest.mark.parametrize("begins", [(0, 40, 80), (20, 60, 61), (25, 70, 99)])
async def test_replay__versions_that_begin_with_blocks__the_decisions_of_the_stage(
    world: World, seed: int, begins: tuple[int, ...]
):
    """Of which each has windows of another kind."""
    chain = cast("UnevenChain", world.chain)
    populate(chain, seed, BLOCKS)
    # The last version decides by event: one comes after it began, whatever the seed has drawn.
    release = "Released(address token, uint256 amount)"
    chain.emit(BLOCKS - 9, VAULT, release, token=TOKENS["USDX"].address, amount=1)
    texts = (
        GUARDED,
        BY_BLOCKS.replace("version: 1", "version: 2"),
        BY_EVENT.replace("version: 1", "version: 3"),
    )
    await world.run(world.stage(*texts, from_blocks=begins, logs_max=3), 900)
    rows = await world.decisions()
    assert len({row["version"] for row in rows}) > 1, f"seed {seed}"
    live = [row["artifact"] for row in rows]
    assert await replayed(chain, world.bound(*texts, from_blocks=begins), width=7) == live, f"seed {seed}"
    last = await again(chain, await stored_claim(world.port, rows[-1]["decision_id"]))
    assert last.difference is None, f"seed {seed}"


# ── Verify ──────────────────────────────────────────────────────────────────────────────────────────────────────────
async def again(chain: LivelyChain, claim: Claim) -> Answer:
    final = chain.at(chain.final)
    prices = PriceSources(cast("PriceFeeds", None), {}, SystemClock())  # no rule here asks for a price
    return await verify(claim, chain=chain.reader, history=ScriptedHistory(chain), prices=prices, final=final)


@pytest.fixture
async def decided(world: World) -> World:
    populate(cast("LivelyChain", world.chain), 4, BLOCKS)
    await world.run(world.stage(GUARDED, BUFFER), 500)
    return world


async def test_verify__every_stored_decision__equal(decided: World):
    chain = cast("LivelyChain", decided.chain)
    for row in await decided.decisions():
        answer = await again(chain, await stored_claim(decided.port, row["decision_id"]))
        assert (answer.difference, answer.trusted) == (None, ())


async def test_verify__newer_version_took_over__equal(world: World):
    """Its cap was raised and its window made longer halfway."""
    chain = cast("LivelyChain", world.chain)
    populate(chain, 9, BLOCKS)
    chain.final = 45
    await world.run(world.stage(GUARDED, BUFFER), 500)
    newer = GUARDED.replace("version: 1", "version: 2").replace("cap_per_epoch: 900", "cap_per_epoch: 5000")
    newer = newer.replace("every: 100 s", "every: 200 s")
    chain.final = BLOCKS - 1
    await world.run(world.stage(newer), 500)
    rows = await world.decisions()
    assert {row["version"] for row in rows} == {1, 2}
    for row in rows:
        answer = await again(chain, await stored_claim(world.port, row["decision_id"]))
        assert answer.difference is None, row["window_start"]


async def test_verify__rule_was_added_late__equal(world: World):
    chain = cast("LivelyChain", world.chain)
    populate(chain, 11, BLOCKS)
    chain.final = 40
    await world.run(world.stage(BUFFER, FEES.replace("rule: fees", "rule: other")), 500)
    stage = world.stage(BUFFER, FEES.replace("rule: fees", "rule: other"), GUARDED)
    await stage.step()
    chain.final = BLOCKS - 1
    await world.run(stage, 500)
    rows = [row for row in await world.decisions() if row["rule"] == "fees"]
    assert rows
    for row in rows:
        answer = await again(chain, await stored_claim(world.port, row["decision_id"]))
        assert answer.difference is None


async def test_verify__other_rule_was_paused__its_word_is_named(world: World):
    """What one rule owed when the other decided is not what it owes in the order of time."""
    chain = cast("LivelyChain", world.chain)
    populate(chain, 4, BLOCKS)
    async with world.database.begin() as transaction:
        await transaction.decisions.pause("test", "fees", "to look at it")
    stage = world.stage(GUARDED, BUFFER)
    await world.run(stage, 500)
    async with world.database.begin() as transaction:
        await transaction.decisions.resume("test", "fees", "all is well")
    await world.run(stage, 500)
    answers = [
        await again(chain, await stored_claim(world.port, row["decision_id"]))
        for row in await world.decisions()
        if row["rule"] == "reserve" and row["window_start"] < 1300
    ]
    assert [answer.difference for answer in answers] == [None] * len(answers)
    assert any("for a rule was paused meanwhile" in text for answer in answers for text in answer.trusted)


def changed(row: dict[str, Any], **values: Any) -> bytes:
    told = json.loads(row["artifact"]) | values
    return json.dumps(told, sort_keys=True, separators=(",", ":")).encode()


async def file_answer(decided: World, artifact: bytes, *, text: str = GUARDED, trust: bool = False) -> Answer:
    claim = file_claim(artifact, text, since=None, trust_carried=trust, where="--artifact")
    return await again(cast("LivelyChain", decided.chain), claim)


async def last_of(world: World, rule: str) -> dict[str, Any]:
    return [row for row in await world.decisions() if row["rule"] == rule][-1]


async def test_verify__artifact_and_text_alone__equal_with_nothing_trusted(decided: World):
    answer = await file_answer(decided, (await last_of(decided, "fees"))["artifact"])
    assert (answer.difference, answer.trusted) == (None, ())


async def test_verify__tampered__the_first_difference_by_path(decided: World):
    row = await last_of(decided, "fees")
    told = json.loads(row["artifact"])
    told["surplus"]["found"] = str(row["surplus"] + 1)
    told["verdict"] = "hold"
    answer = await file_answer(decided, changed(row, **told))
    assert answer.difference == ("surplus.found", str(row["surplus"]), str(row["surplus"] + 1))


async def test_verify__carried_in_tampered__not_believed_unless_asked(decided: World):
    rows = [row for row in await decided.decisions() if row["rule"] == "fees" and row["carried_in"]]
    told = json.loads(rows[-1]["artifact"])
    owed = {account: str(int(amount) + 1) for account, amount in told["carried_in"]["by"].items()}
    forged = changed(rows[-1], carried_in={"total": str(sum(map(int, owed.values()))), "by": owed})
    answer = await file_answer(decided, forged)
    assert answer.difference is not None
    assert answer.difference[0].startswith("carried_in.by.")
    assert any("--trust-carried" in hint for hint in answer.hints)
    trusting = await file_answer(decided, rows[-1]["artifact"], trust=True)
    assert trusting.difference is None
    assert len(trusting.trusted) == 1
    assert trusting.trusted[0].startswith("what earlier windows left: carried_in, ")
    assert trusting.windows == 1


async def test_verify__others_owe_too__their_word_is_named(decided: World):
    """The buffer asks what all rules owe; with its own text alone that cannot be made again."""
    row = next(row for row in await decided.decisions() if row["rule"] == "reserve" and row["window_start"] > 1200)
    answer = await file_answer(decided, row["artifact"], text=BUFFER, trust=True)
    assert answer.difference is None
    assert [each.partition(" ")[0] for each in answer.trusted] == ["what", "owed"]


async def test_verify__written_otherwise__is_not_equal(decided: World):
    row = await last_of(decided, "fees")
    spaced = json.dumps(json.loads(row["artifact"]), sort_keys=True).encode()
    assert (await file_answer(decided, spaced)).difference == (
        "",
        "canonical JSON",
        "the same JSON, written otherwise",
    )


async def test_verify__another_text_chain_or_head__refused_with_the_reason(decided: World):
    row = await last_of(decided, "fees")
    with pytest.raises(ConfigError, match=r"--rule: has the sha256 [0-9a-f]{16}…, the record names"):
        file_claim(row["artifact"], FEES, since=None, trust_carried=False, where="--artifact")
    with pytest.raises(ConfigError, match="is no record of a decision"):
        file_claim(b"{}", GUARDED, since=None, trust_carried=False, where="--artifact")
    with pytest.raises(ConfigError, match="the node serves eip155:31337, the decision is of eip155:1"):
        await file_answer(decided, changed(row, chain="eip155:1"))
    decided.chain.final = row["block_number"]
    with pytest.raises(ChainUnavailable, match="is not final for the node"):
        await file_answer(decided, row["artifact"])


async def test_verify__since_of_a_late_rule__tells_its_first_window(decided: World):
    """Without it, windows from before the rule was there are decided too."""
    row = await last_of(decided, "fees")
    claim = file_claim(row["artifact"], GUARDED, since=row["window_start"], trust_carried=False, where="--artifact")
    assert claim.began == RuleStart(3, row["window_start"], {})
    answer = await again(cast("LivelyChain", decided.chain), claim)
    assert answer.windows == 1
