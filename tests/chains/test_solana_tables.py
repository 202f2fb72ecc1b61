"""Lookup tables: what they make room for, who is never lost, and how a lost database finds the same batches again."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.account import Account
from solders.pubkey import Pubkey

from bridge.chains.solana.logs import TRANSFER
from bridge.chains.solana.lookups import ENTRIES_MAX, Shelf, Table
from bridge.chains.solana.markers import Deed, Step, read_deed
from bridge.chains.solana.messages import COMPUTE_UNITS_MAX, Budget, Coin, Draft, Purse, Transfer, draft
from bridge.chains.solana.packing import Person, capacity, measure, widest
from bridge.chains.solana.payloads import BATCHES_MAX
from bridge.chains.solana.programs import MEMO, NATIVE, SYSTEM, TOKEN, TOKEN_2022
from bridge.chains.solana.signer import KeystoreSigner
from bridge.chains.solana.tables import TABLE_PROGRAM, check_tables, read_tables
from bridge.chains.solana.transactions import OPTIONS, parse_transaction
from bridge.domain.errors import ChainDisagrees, ChainUnavailable, ConfigError
from bridge.domain.payouts import Action, Order, Payout
from bridge.domain.units import Address, BlockStamp, format_address
from bridge.ports.reading import LogFilter
from bridge.simulation.svm.stage import transfer_checked
from bridge.simulation.svm.transactions import Moment, load
from tests.chains.consumer import Consumer
from tests.chains.solana_world import TRANSFERRED, SolanaWorld
from tests.chains.svm_scene import CHAIN, SOL, SvmScene, address_of, key_of, payouts_of, svm_scene
from tests.chains.test_payer_contract import action_of
from tests.chains.test_solana_payer import Sender

OPERATOR, VAULT, MINT = (Address(hashlib.sha256(name).digest()) for name in (b"operator", b"vault", b"mint"))
COINS = {
    "SOL": Coin(NATIVE, SYSTEM, 9),
    "SPL": Coin(MINT, TOKEN, 6),
    "Token-2022": Coin(MINT, TOKEN_2022, 6),
    "Token-2022 that may take fees": Coin(MINT, TOKEN_2022, 6, may_take_fees=True),
}
ROOM = {  # (the vault pays itself, by its delegate or with a key beside the operator's); without tables 14 to 6
    "SOL": (38, 33),
    "SPL": (36, 36),
    "Token-2022": (36, 36),
    "Token-2022 that may take fees": (24, 24),
}


def person(number: int) -> Address:
    return Address(hashlib.sha256(b"person %d" % number).digest())


def tables_of(coin: Coin, vault: Address, recipients: Sequence[Address], size: int = ENTRIES_MAX) -> list[Table]:
    """As `bridge lookup-tables extend` fills them: what every transfer names, then each recipient with its account."""
    common = [] if coin.is_native else [coin.account_of(vault), coin.mint]
    found: list[list[Address]] = [[*common]]
    for recipient in recipients:
        more = list(dict.fromkeys([coin.account_of(recipient), recipient]))
        if len(found[-1]) + len(more) > size:
            found.append([*common])
        found[-1] += more
    return [
        Table(Address(hashlib.sha256(b"table %d" % place).digest()), tuple(entries))
        for place, entries in enumerate(found)
    ]


# ── How many fit ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("name", COINS)
def test_widest__all_in_tables__as_measured(name: str):
    coin = COINS[name]
    people = sorted(map(person, range(120)))
    for purse, room in zip((Purse(VAULT, VAULT), Purse(OPERATOR, VAULT)), ROOM[name], strict=True):
        shelf = Shelf(tables_of(coin, VAULT, people))
        for made in (False, True):
            assert widest(purse, coin, people, shelf, create_accounts=made, most=64) == room
        assert widest(purse, coin, people, shelf, create_accounts=True, most=9) == 9
        plain = capacity(purse, coin, create_accounts=True)
        assert widest(purse, coin, people, Shelf(), create_accounts=True, most=64) == plain
        strangers = [person(1000 + number) for number in range(120)]
        assert widest(purse, coin, sorted(strangers), shelf, create_accounts=True, most=64) >= plain


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_widest__any_set_and_tables__every_batch_fits_whoever_is_left_out_or_has_no_account(data: st.DataObject):
    """And one more recipient would not have fit somewhere, at worst."""
    chance = data.draw(st.randoms(use_true_random=False))
    coin = COINS[data.draw(st.sampled_from(sorted(COINS)))]
    purse = Purse(VAULT if data.draw(st.booleans()) else OPERATOR, VAULT)
    creates = data.draw(st.booleans())
    people = sorted(person(chance.randrange(2**32)) for _ in range(data.draw(st.integers(2, 90))))
    share = data.draw(st.sampled_from([0.5, 0.9, 1.0]))
    known = [one for one in people if chance.random() < share]
    if data.draw(st.booleans()):
        chance.shuffle(known)
    tables = tables_of(coin, VAULT, known, data.draw(st.sampled_from([12, 60, ENTRIES_MAX])))
    if data.draw(st.booleans()):  # tables that list accounts only, not who owns them
        owners = set() if coin.is_native else {*people}
        tables = [
            dataclasses.replace(one, entries=tuple(each for each in one.entries if each not in owners))
            for one in tables
        ]
    shelf = Shelf(tables)
    most = data.draw(st.sampled_from([8, 30, 64]))
    room = widest(purse, coin, people, shelf, create_accounts=creates, most=most)
    assert min(most, capacity(purse, coin, create_accounts=creates)) <= room <= most
    for start in range(0, len(people), room):
        batch = people[start : start + room]
        for rate in (0, 0.1, 0.5, 1):
            out = {one for one in batch[1:] if chance.random() < rate}
            drafted = drafted_for(purse, coin, batch, out, creates=creates, shelf=shelf)
            assert drafted.fits, (room, len(out), drafted.size)
            check_keys(drafted, tables)


@pytest.mark.parametrize("name", COINS)
def test_size__at_worst__is_a_transaction_s_to_the_byte(name: str):
    """Where tables list owners it is worst to pay everybody; where they do not, to leave out all whom tables have."""
    coin, purse = COINS[name], Purse(OPERATOR, VAULT)
    known, strangers = [person(number) for number in range(12)], [person(100), person(101)]
    people = sorted([*known, *strangers])
    [table] = tables_of(coin, VAULT, known)

    def at_worst(shelf: Shelf) -> int:
        found = [Person.of(one, coin, shelf, create_accounts=True) for one in people]
        return measure(purse, coin).size(found, shelf)

    shelf = Shelf([table])
    drafted = drafted_for(purse, coin, people, set(), creates=True, shelf=shelf)
    assert (drafted.size, len(drafted.tables)) == (at_worst(shelf), 1)
    if not coin.is_native:
        shelf = Shelf([dataclasses.replace(table, entries=tuple(one for one in table.entries if one not in known))])
        transfers = [Transfer(one, 1, creates=True) for one in strangers]
        deed = Deed(bytes(32), BATCHES_MAX - 1, left_out=tuple(sorted(known))).shortened
        drafted = draft(purse, deed, 1, coin, transfers, shelf=shelf)
        assert drafted.size == at_worst(shelf) - len(":x#999") + len(":x#12")


def drafted_for(
    purse: Purse, coin: Coin, batch: Sequence[Address], out: set[Address], *, creates: bool, shelf: Shelf
) -> Draft:
    """The transaction of a batch at its longest: accounts are made where no table has them."""
    transfers = [
        Transfer(one, 2**64 - 1, creates and not coin.is_native and coin.account_of(one) not in shelf)
        for one in batch
        if one not in out
    ]
    deed = Deed(b"\1" * 32, BATCHES_MAX - 1, left_out=tuple(sorted(out)))
    drafted = draft(purse, deed, 2**63, coin, transfers, shelf=shelf)
    named = read_deed(
        [
            Step(bytes(one.program_id), tuple(bytes(meta.pubkey) for meta in one.accounts), bytes(one.data))
            for one in drafted.instructions
        ],
        [purse.operator],
    )
    assert named is not None
    assert named[1].left_out == deed.left_out, "the chain says who was left out, in the memo or beside it"
    return drafted


def check_keys(drafted: Draft, tables: Sequence[Table]) -> None:
    """They are those that a node finds, in its order."""
    message = drafted.message(bytes(32), Budget(COMPUTE_UNITS_MAX, 0))
    static = [bytes(key) for key in message.account_keys]
    called = {bytes(step.program_id) for step in drafted.instructions}
    assert called <= {*static}, "what is called is never looked up"
    data = {Pubkey(table.address): Account(SOL, table_bytes(table.entries), TABLE_PROGRAM) for table in tables}
    loaded = load(message, data.get, Moment(2, lambda _: False))
    assert drafted.keys == tuple(map(bytes, loaded.keys))
    assert len({*drafted.keys}) == len(drafted.keys)
    named = {bytes(meta.pubkey) for step in drafted.instructions for meta in step.accounts}
    assert named | called <= {*drafted.keys}
    assert all(len(one.writable_indexes) + len(one.readonly_indexes) >= 2 for one in message.address_table_lookups)


def test_draft__one_account_in_a_table__is_not_looked_up():
    coin, purse = COINS["SPL"], Purse(OPERATOR, VAULT)
    alone = Shelf([Table(Address(b"\1" * 32), (coin.account_of(person(1)),))])
    two = Shelf([Table(Address(b"\1" * 32), (coin.account_of(person(1)), MINT))])
    deed, transfers = Deed(bytes(32), 0), [Transfer(person(1), 1)]
    plain = draft(purse, deed, 1, coin, transfers)
    assert draft(purse, deed, 1, coin, transfers, shelf=alone).size == plain.size
    assert draft(purse, deed, 1, coin, transfers, shelf=two).size == plain.size - 2 * 31 + 34
    programs = tuple(Address(bytes(program)) for program in (TOKEN, SYSTEM, MEMO))
    useless = Shelf([Table(Address(b"\1" * 32), (OPERATOR, *programs))])
    made = [Transfer(person(1), 1, creates=True)]
    assert draft(purse, deed, 1, coin, made, shelf=useless).tables == (), "who signs and what is called"


def test_draft__left_out_with_room__named_in_the_memo_as_ever():
    coin, purse = COINS["SPL"], Purse(OPERATOR, VAULT)
    deed = Deed(bytes(32), 0, left_out=(person(1),))
    memo = draft(purse, deed, 1, coin, [Transfer(person(2), 1)]).instructions[2]
    assert bytes(memo.data).decode().endswith(f":x={format_address(person(1))}")


def test_deed__named_elsewhere__only_the_right_number_in_order_counts():
    deed = Deed(bytes(32), 3, left_out=tuple(sorted(map(person, range(3))))).shortened
    steps = [
        Step(bytes(one.program_id), tuple(bytes(meta.pubkey) for meta in one.accounts), bytes(one.data))
        for one in draft(Purse(OPERATOR, VAULT), deed, 1).instructions
    ]
    assert read_deed(steps, [OPERATOR]) == (OPERATOR, deed)
    marker = steps[1]
    for accounts in (marker.accounts[:-1], (*marker.accounts, VAULT), (*marker.accounts[:2], *marker.accounts[:1:-1])):
        changed = [steps[0], dataclasses.replace(marker, accounts=accounts), *steps[2:]]
        assert read_deed(changed, [OPERATOR]) is None


def test_choose__several_tables_with_the_same__fewest_of_them():
    people = list(map(person, range(9)))
    shelf = Shelf(
        [
            Table(Address(b"\1" * 32), tuple(people[:4])),
            Table(Address(b"\2" * 32), tuple(people[2:9])),
            Table(Address(b"\3" * 32), tuple(people[:2])),
        ]
    )
    assert shelf.choose(people) == (1, 0)
    assert shelf.choose(people[:2]) == (0,)
    assert shelf.choose(people[:1]) == ()


# ── On a chain ──────────────────────────────────────────────────────────────────────────────────────────────────────
PEOPLE = 30


def put_table(
    scene: SvmScene,
    name: str,
    entries: Sequence[Address],
    *,
    ended_in: int | None = None,
    authority: str = "keeper",
) -> Address:
    """There at once: making it is tested elsewhere."""
    scene.endow(address_of(name), SOL, table_bytes(entries, ended_in, authority), TABLE_PROGRAM)
    return address_of(name)


def table_bytes(entries: Sequence[Address], ended_in: int | None = None, authority: str = "keeper") -> bytes:
    data = b"\1\0\0\0" + (2**64 - 1 if ended_in is None else ended_in).to_bytes(8, "little")
    return data + (1).to_bytes(8, "little") + b"\0" + b"\1" + address_of(authority) + bytes(2) + b"".join(entries)


def crowd(count: int = PEOPLE) -> tuple[Payout, ...]:
    return payouts_of(*(f"person {number}" for number in range(count)))


def entries_for(scene: SvmScene, payouts: Sequence[Payout]) -> list[Address]:
    [table] = tables_of(scene.coin, address_of("vault"), [payout.recipient for payout in payouts])
    return list(table.entries)


async def plan(scene: SvmScene, payer, payouts: Sequence[Payout], room: int = 64) -> list[Action]:
    order = Order(b"\2" * 32, CHAIN, "fees", scene.asset, 0, 1, sum(one.amount for one in payouts), tuple(payouts))
    distribution, calls = payer.plan(order, await payer.pack(order, room))
    return [action_of(distribution, call) for call in calls]


async def test_payout__through_tables__a_third_of_the_transactions_and_the_same_story():
    """Everybody is paid but who cannot be; who was left out is told without a word in the memo, and paid alone."""
    async with svm_scene(create_accounts=True, nodes=2) as scene:
        people = crowd()
        for payout in people[3:]:
            scene.hold(payout.recipient)
        frozen = [payout.recipient for payout in people[5:20:2]]
        for recipient in frozen:
            scene.hold(recipient, frozen=True)
        table = put_table(scene, "table", entries_for(scene, people))
        scene.node.chain.advance_blocks(8)
        payer = scene.make_payer(lookup_tables=[table])
        propose, batch = await plan(scene, payer, people)
        assert len(await plan(scene, scene.payer, people)) == 1 + PEOPLE // 6
        inclusion, settlement = await Sender.of(scene, propose, payer).land()
        assert settlement.executed
        assert inclusion.deposits == 897_840
        inclusion, settlement = await Sender.of(scene, batch, payer).land()
        assert inclusion.succeeded
        assert settlement.executed
        left = {one.recipient for one in settlement.left_out}
        assert left >= {*frozen}, "and those whose account had no room to be made"
        assert left - {*frozen} <= {payout.recipient for payout in people[:3]}
        made = 3 - len(left - {*frozen})
        assert inclusion.deposits == 897_840 + made * 2_039_280
        assert {*await scene.left_out_of(batch)} == left
        [record] = [
            one
            for block in scene.node.chain.blocks
            for one in block.records
            if len(one.wire.message.account_keys) < len(one.loaded.keys)
        ]
        assert record.memo is not None
        assert record.memo.endswith(f":x#{len(left)}")
        for payout in people:
            scene.hold(payout.recipient, keep=payout.recipient not in left)
        scene.node.chain.advance_blocks(2)
        for one in settlement.left_out:
            single = dataclasses.replace(batch, ordinal=one.call.ordinal, payload=one.call.payload)
            _, alone = await Sender.of(scene, single, payer).land()
            assert alone.executed
        assert [scene.balance(payout.recipient) for payout in people] == [payout.amount for payout in people]


@pytest.mark.parametrize("then", ["tables have grown", "there are none any more", "another operator"])
async def test_lost_database__proposal_on_chain__planned_again_to_the_byte(then: str):
    async with svm_scene() as scene:
        people = crowd(40)
        for payout in people:
            scene.hold(payout.recipient)
        table = put_table(scene, "table", entries_for(scene, people[:26]))
        scene.node.chain.advance_blocks(8)
        payer = scene.make_payer(lookup_tables=[table])
        propose, *batches = await plan(scene, payer, people)
        assert 12 < len(scene.people(batches[0])) < 34
        assert propose.payload[-2:] == len(scene.people(batches[0])).to_bytes(2)
        await Sender.of(scene, propose, payer).land()
        options = {}
        if then == "another operator":
            signer = KeystoreSigner(key_of("new operator"))
            scene.endow(address_of("new operator"), SOL)
            options = {"signer": signer, "former_operators": [address_of("operator")]}
        if then == "tables have grown":
            put_table(scene, "table", entries_for(scene, people))
            options = {"lookup_tables": [table]}
        scene.node.chain.advance_blocks(8)
        again = await plan(scene, scene.make_payer(**options), people, room=13)
        assert [(one.payload, one.content_hash) for one in again[1:]] == [
            (one.payload, one.content_hash) for one in batches
        ]


async def test_lost_database__proposal_without_tables__packed_without_them_again():
    async with svm_scene() as scene:
        people = crowd()
        for payout in people:
            scene.hold(payout.recipient)
        propose, *batches = await plan(scene, scene.payer, people)
        assert len(propose.payload) == len(b"bridge:1:p") + 116, "the same bytes as ever"
        await Sender.of(scene, propose).land()
        table = put_table(scene, "table", entries_for(scene, people))
        scene.node.chain.advance_blocks(8)
        again = await plan(scene, scene.make_payer(lookup_tables=[table]), people)
        assert [one.payload for one in again] == [propose.payload, *(one.payload for one in batches)]


async def test_lost_database__proposal_not_final_yet__waits_for_it():
    async with svm_scene() as scene:
        people = crowd()
        table = put_table(scene, "table", entries_for(scene, people))
        scene.node.chain.advance_blocks(8)
        payer = scene.make_payer(lookup_tables=[table])
        propose, *batches = await plan(scene, payer, people)
        sender = Sender.of(scene, propose, payer)
        await sender.sign()
        await sender.send()
        scene.node.chain.advance_blocks(2)
        with pytest.raises(ChainUnavailable, match="is not final yet"):
            await plan(scene, scene.make_payer(lookup_tables=[table]), people)
        scene.node.chain.advance_blocks(8)
        again = await plan(scene, scene.make_payer(lookup_tables=[table]), people)
        assert [one.payload for one in again] == [propose.payload, *(one.payload for one in batches)]


async def test_saved_plan__tables_grow_or_go_before_it_is_paid__paid_or_waits_with_the_mend():
    async with svm_scene() as scene:
        people = crowd()
        for payout in people:
            scene.hold(payout.recipient)
        entries = entries_for(scene, people)
        table = put_table(scene, "table", entries)
        scene.node.chain.advance_blocks(8)
        payer = scene.make_payer(lookup_tables=[table])
        propose, batch = await plan(scene, payer, people)
        more = put_table(scene, "more", [*entries[:20], *entries_for(scene, payouts_of("others"))])
        await Sender.of(scene, propose, scene.make_payer(lookup_tables=[more, table])).land()
        put_table(scene, "table", entries, ended_in=scene.node.chain.head.slot)
        scene.node.chain.advance_blocks(8)
        for late in (scene.make_payer(lookup_tables=[table]), scene.make_payer()):
            refusal = await Sender.of(scene, batch, late).refusal()
            assert refusal.temporary
            assert "need lookup tables" in refusal.reason
            assert "`bridge lookup-tables extend` makes such" in refusal.reason
        named = await Sender.of(scene, batch, scene.make_payer(lookup_tables=[table])).refusal()
        assert f"{format_address(table)} was deactivated in slot" in named.reason
        other = put_table(scene, "other", entries[:4])
        scene.node.chain.advance_blocks(8)
        late = scene.make_payer(lookup_tables=[table, other])
        assert "none has enough" not in (await Sender.of(scene, batch, late).refusal()).reason
        put_table(scene, "other", entries)
        scene.node.chain.advance_blocks(8)
        inclusion, settlement = await Sender.of(scene, batch, late).land()
        assert inclusion.succeeded
        assert settlement.left_out == ()


async def test_closed_table__still_remembered__found_out_by_the_simulation_and_read_anew():
    async with svm_scene() as scene:
        people = crowd(14)
        for payout in people:
            scene.hold(payout.recipient)
        entries = entries_for(scene, people)
        first, second = put_table(scene, "first", entries), put_table(scene, "second", entries)
        scene.node.chain.advance_blocks(8)
        payer = scene.make_payer(lookup_tables=[first, second])
        propose, batch = await plan(scene, payer, people)
        await Sender.of(scene, propose, payer).land()
        scene.endow(first, 0)
        scene.node.chain.advance_blocks(8)
        inclusion, _ = await Sender.of(scene, batch, payer).land()
        assert inclusion.succeeded


async def test_tables__two_endpoints__what_one_says_alone_does_not_count():
    async with svm_scene(nodes=2) as scene:
        table = put_table(scene, "table", [address_of("alice")])
        scene.node.chain.advance_blocks(8)
        [found] = await read_tables(scene.rpc, [table])
        assert found is not None
        assert found.entries == (address_of("alice"),)
        put_table(scene, "table", [address_of("alice"), address_of("bob")])
        scene.node.chain.advance_blocks(8)
        scene.nodes[1].faults.lag_blocks = 8
        with pytest.raises(ChainDisagrees):
            await read_tables(scene.rpc, [table])


async def test_check__what_is_no_usable_table__named_with_the_mend():
    async with svm_scene() as scene:
        good = put_table(scene, "good", [address_of("alice")])
        ended = put_table(scene, "ended", [address_of("alice")], ended_in=1)
        scene.node.chain.advance_blocks(8)
        await check_tables(scene.rpc, [good], "here")
        for address, problem in {
            ended: "was deactivated in slot 1",
            address_of("nothing"): "is no lookup table of this cluster",
            address_of("vault"): "is no lookup table of this cluster",
        }.items():
            with pytest.raises(ConfigError, match=problem) as caught:
                await check_tables(scene.rpc, [good, address], "[chains.here] lookup_tables")
            assert format_address(address) in str(caught.value)
            assert "lookup_tables" in str(caught.value)


# ── Other people's transactions ─────────────────────────────────────────────────────────────────────────────────────
async def test_stranger__moves_tokens_of_the_vault_through_a_table__seen_by_the_listener():
    """In and out; the vault's account is named by a table alone, in its own bytes nowhere."""
    async with SolanaWorld.start(nodes=2) as world:
        payer, token, vault = world.people[0], world.token, world.vault
        held = token.account_of(vault.pubkey())
        table = world.scene.create_lookup_table([token.mint, held, token.account_of(payer.pubkey())])
        world.node.chain.advance_blocks()
        moves = [
            world.scene.perform([transfer_checked(token, payer.pubkey(), vault.pubkey(), 70)], payer, tables=[table]),
            world.scene.perform(
                [transfer_checked(token, vault.pubkey(), payer.pubkey(), 30)], payer, vault, tables=[table]
            ),
        ]
        assert all(bytes(held) not in bytes(record.wire.transaction) for record in moves)
        answer = await world.rpc.call("getTransaction", [moves[0].signature, OPTIONS])
        parsed = parse_transaction(answer, bytes(moves[0].wire.transaction.signatures[0]))
        assert {one.account: one.after - one.before for one in parsed.holdings} == {
            bytes(held): 70,
            bytes(token.account_of(payer.pubkey())): -70,
        }
        assert {bytes(held), bytes(token.mint)} <= parsed.names
        for spoil in ("writable", "readonly"):
            changed = {**answer, "meta": {**answer["meta"], "loadedAddresses": {**answer["meta"]["loadedAddresses"]}}}
            changed["meta"]["loadedAddresses"][spoil] = []
            with pytest.raises(ChainDisagrees):
                parse_transaction(changed, parsed.signature)
        loaded = answer["meta"]["loadedAddresses"]
        swapped = {"writable": loaded["writable"] + loaded["readonly"], "readonly": []}
        with pytest.raises(ChainDisagrees, match="looks up other accounts to write"):
            parse_transaction({**answer, "meta": {**answer["meta"], "loadedAddresses": swapped}}, parsed.signature)
        world.filters = [LogFilter((address(token.mint),), ((TRANSFER,),))]
        consumer = Consumer(world.first)
        await consumer.listen(world)
        told = TRANSFERRED.decode_columns(consumer.logs, [address(token.mint)]).fields
        ours, theirs = address(vault.pubkey()), address(payer.pubkey())
        assert list(zip(told["from"], told["to"], told["value"], strict=True)) == [
            (theirs, ours, 70),
            (ours, theirs, 30),
        ]
        last = consumer.blocks[-1]
        stamp = BlockStamp("solana", last.number, last.hash)
        assert await world.reader.balance(ours, world.asset, stamp) == 40
        first = world.node.chain.at_slot(moves[0].slot)
        assert first is not None
        before = BlockStamp("solana", first.slot, bytes(first.hash))
        assert await world.reader.balance(ours, world.asset, before) == 70


def address(key: Pubkey) -> Address:
    return Address(bytes(key))
