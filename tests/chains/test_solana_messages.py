"""What a payout transaction on Solana says and weighs: memos, markers, payloads, packing. No chain is needed."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.pubkey import Pubkey
from solders.system_program import TransferParams, transfer

from bridge.chains.solana.markers import (
    CANCELLED,
    INDEX_MAX,
    MARKER_OWNER,
    Deed,
    Step,
    create_marker,
    marker_of,
    marker_seed,
    read_deed,
    read_memo,
)
from bridge.chains.solana.messages import TRANSACTION_BYTES_MAX, Coin, Purse, Transfer, draft
from bridge.chains.solana.packing import capacity
from bridge.chains.solana.payloads import (
    AMOUNT_MAX,
    BATCHES_MAX,
    PayBatch,
    Proposal,
    alone,
    derive_id,
    mint_of,
    plan_push,
    read_payload,
)
from bridge.chains.solana.programs import MEMO, NATIVE, SYSTEM, TOKEN, TOKEN_2022
from bridge.domain.errors import HoldError
from bridge.domain.payouts import Order, Payout, pack_batches
from bridge.domain.units import Address, AssetId, format_address

ids = st.binary(min_size=32, max_size=32)
addresses = ids.map(Address)
indexes = st.integers(0, INDEX_MAX)
left_outs = st.lists(addresses, unique=True, max_size=14).map(lambda found: tuple(sorted(found)))
deeds = st.one_of(
    st.builds(Deed, ids, st.none(), ids.filter(any), room=st.none() | st.integers(1, 999)),
    st.builds(Deed, ids, indexes, left_out=left_outs),
    st.builds(Deed, ids, indexes).map(lambda deed: deed.cancelled),
    st.builds(Deed, ids, st.none(), ids).map(lambda deed: deed.cancelled),
)
OPERATOR, VAULT, OTHER = (Address(hashlib.sha256(name).digest()) for name in (b"operator", b"vault", b"other"))
REFERENCE = "solana:" + "1" * 32


few = settings(max_examples=30)


# ── Memos ───────────────────────────────────────────────────────────────────────────────────────────────────────────
@given(deeds)
def test_memo__any_deed__is_read_back(deed: Deed):
    assert read_memo(deed.memo) == deed


@given(deeds, st.data())
def test_memo__one_character_more_less_or_other__is_no_deed_or_another_one(deed: Deed, data: st.DataObject):
    """One text for each deed, so nobody can say the same in another way."""
    text = deed.memo
    at = data.draw(st.integers(0, len(text)))
    more = data.draw(st.sampled_from(["", "0", "a", ":", ",", "x", " ", "\n", "é"]))
    changed = text[:at] + more + text[at + data.draw(st.integers(0, 1)) :]
    found = read_memo(changed)
    assert found is None or found.memo == changed
    assert changed == text or found != deed


@pytest.mark.parametrize(
    "tail",
    [
        "0:x#0",
        "0:x#01",
        "0:x#1000",
        "0:x#1:c",
        f"p:{'1' * 64}:k=0",
        f"p:{'1' * 64}:k=01",
        f"p:{'1' * 64}:k=1000",
        "p:c:k=1",
        "0:k=1",
        "01",
        "-1",
        "+1",
        "1 ",
        "2147483647",
        "99999999999",
        "0:x=",
        "0:x=1,1",
        "0:c:c",
        "p:",
        "p:" + "0" * 64,
        "0:x=I",
    ],
)
def test_memo__number_or_list_in_another_spelling__is_no_deed(tail: str):
    assert read_memo(f"bridge:1:{'ab' * 32}:{tail}") is None


def test_memo__recipients_out_of_order__is_no_deed():
    low, high = sorted((OPERATOR, VAULT))
    texts = [
        f"bridge:1:{'ab' * 32}:0:x={format_address(one)},{format_address(two)}"
        for one, two in ((low, high), (high, low))
    ]
    assert read_memo(texts[0]) is not None
    assert read_memo(texts[1]) is None


def test_memo__as_written_down__these_very_texts():
    """Markers and memos of old transactions must be found for ever: these may not change."""
    id_ = hashlib.sha256(b"id").digest()
    assert Deed(id_, 7).memo == "bridge:1:a56145270ce6b3bebd1dd012b73948677dd618d496488bc608a3cb43ce3547dd:7"
    assert marker_seed(id_, 7) == hashlib.sha256(b"bridge:" + id_ + b":7").hexdigest()[:32]
    assert marker_seed(id_, None) == hashlib.sha256(b"bridge:" + id_ + b":proposal").hexdigest()[:32]
    assert str(MARKER_OWNER) == "1v1GUdg2Sw5NeZyw3HuPMwcQgkc1JdgVaa8GgA5M1mJ"
    assert not MARKER_OWNER.is_on_curve()


# ── Deeds ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def steps_of(deed: Deed, operator: Address = OPERATOR, *, memo: str | None = None) -> list[Step]:
    purse = Purse(operator, VAULT)
    steps = [
        Step(bytes(one.program_id), tuple(bytes(meta.pubkey) for meta in one.accounts), bytes(one.data))
        for one in draft(purse, deed, 1).instructions
    ]
    return [
        dataclasses.replace(step, data=memo.encode()) if memo is not None and step.program == bytes(MEMO) else step
        for step in steps
    ]


@given(deeds)
@few
def test_deed__our_transaction__is_read_with_its_operator(deed: Deed):
    assert read_deed(steps_of(deed), [OTHER, OPERATOR]) == (OPERATOR, deed)
    assert read_deed(steps_of(deed), [OTHER]) is None, "another account's marker is no deed of ours"


def test_deed__memo_that_does_not_fit_the_marker__is_none():
    deed = Deed(bytes(32), 1)
    for other in (Deed(bytes(32), 2), Deed(b"\1" * 32, 1), Deed(bytes(32), None, b"\1" * 32)):
        assert read_deed(steps_of(deed, memo=other.memo), [OPERATOR]) is None


def test_deed__memo_alone_or_twice__is_none():
    deed = Deed(bytes(32), 1)
    steps = steps_of(deed)
    memo = Step(bytes(MEMO), (), deed.memo.encode())
    assert read_deed([memo], [OPERATOR]) is None
    assert read_deed([*steps, memo], [OPERATOR]) is None
    assert read_deed([*steps, Step(bytes(MEMO), (), b"\xff thank you")], [OPERATOR]) == (OPERATOR, deed)
    assert read_deed([step for step in steps if step.program == bytes(MEMO)], [OPERATOR]) is None


def test_deed__marker_of_another_size_or_owner__is_none():
    deed = Deed(bytes(32), 1)
    [marker] = [step for step in steps_of(deed) if step.data[:4] == (9).to_bytes(4, "little")]
    for place in (40, -40, -1):
        data = bytearray(marker.data)
        data[place] ^= 1
        steps = [dataclasses.replace(step, data=bytes(data)) if step == marker else step for step in steps_of(deed)]
        assert read_deed(steps, [OPERATOR]) is None


@given(ids, indexes)
@few
def test_marker__address__is_the_instruction_s_and_nobody_else_s(distribution_id: bytes, index: int):
    created = create_marker(OPERATOR, distribution_id, index).accounts[0].pubkey
    assert bytes(created) == marker_of(OPERATOR, distribution_id, index)
    assert len({marker_of(who, distribution_id, what) for who in (OPERATOR, OTHER) for what in (index, None)}) == 4


# ── Payloads ────────────────────────────────────────────────────────────────────────────────────────────────────────
payouts = st.builds(Payout, addresses, st.integers(1, AMOUNT_MAX))
sets = st.lists(payouts, min_size=1, max_size=20, unique_by=lambda payout: payout.recipient)


def order_of(found: list[Payout]) -> Order:
    total = sum(payout.amount for payout in found)
    asset = AssetId(f"{REFERENCE}/token:{format_address(OTHER)}")
    return Order(b"\2" * 32, "here", "fees", asset, 0, 1, total, tuple(found))


def plan(order: Order, room: int = 6):
    return plan_push(order, pack_batches(order.payouts, room), genesis=bytes(32), vault=VAULT, mint=OTHER)


@given(sets, st.integers(1, 14))
@few
def test_plan__any_set__payloads_say_it_all_and_the_same_every_time(found: list[Payout], room: int):
    order = order_of(found)
    distribution, (propose, *calls) = plan(order, room)
    assert (distribution, (propose, *calls)) == plan(order_of(found[::-1]), room) or found != found[::-1]
    proposal = read_payload(propose.payload)
    assert proposal == Proposal(distribution.distribution_id, distribution.content_hash, OTHER, order.total, len(calls))
    plans = [read_payload(call.payload) for call in calls]
    assert [one.index for one in plans if isinstance(one, PayBatch)] == list(range(len(calls)))
    paid = [payout for one in plans if isinstance(one, PayBatch) for payout in one.payouts]
    assert paid == sorted(found, key=lambda payout: payout.recipient)
    assert all(call.target == VAULT for call in calls)


@given(sets, sets)
@few
def test_plan__other_content__same_id_and_other_content_hash(one: list[Payout], other: list[Payout]):
    (first, _), (second, _) = plan(order_of(one)), plan(order_of(other))
    assert first.distribution_id == second.distribution_id
    same = sorted(map(dataclasses.astuple, one)) == sorted(map(dataclasses.astuple, other))
    assert (first.content_hash == second.content_hash) == same


def test_plan__other_batches_of_the_same_payouts__other_content():
    order = order_of([Payout(OPERATOR, 1), Payout(VAULT, 2)])
    assert plan(order, 1)[0].content_hash != plan(order, 2)[0].content_hash


def test_id__says_what_is_paid__and_nothing_else():
    given_ = (bytes(32), VAULT, "fees", (0, 1), OTHER)
    others = [(b"\1" * 32, *given_[1:]), (bytes(32), OPERATOR, *given_[2:]), (*given_[:2], "other", *given_[3:])]
    others += [(*given_[:3], (0, 2), OTHER), (*given_[:3], (1, 2), OTHER), (*given_[:4], NATIVE)]
    assert len({derive_id(*one) for one in (given_, *others)}) == 7


@given(sets, st.integers(0, BATCHES_MAX - 1), st.data())
@few
def test_alone__recipient_that_was_left_out__has_an_index_of_its_own(
    found: list[Payout], index: int, data: st.DataObject
):
    batch = PayBatch(bytes(32), index, OTHER, tuple(sorted(found, key=lambda payout: payout.recipient)))
    position = data.draw(st.integers(0, len(found) - 1))
    single = alone(batch, position)
    assert single.payouts == (batch.payouts[position],)
    assert BATCHES_MAX <= single.index <= INDEX_MAX
    assert read_payload(single.encode()) == single


@given(sets, st.data())
@few
def test_payload__damaged__is_refused_or_another(found: list[Payout], data: st.DataObject):
    _, (propose, *calls) = plan(order_of(found))
    payload = data.draw(st.sampled_from([propose, *calls])).payload
    at = data.draw(st.integers(0, len(payload) - 1))
    for damaged in (payload[:at], payload + b"\0", payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]):
        try:
            assert read_payload(damaged) != read_payload(payload)
        except ValueError:
            continue


def test_plan__more_than_a_token_account_holds__waits_for_a_person():
    with pytest.raises(HoldError, match="an account holds at most"):
        plan(order_of([Payout(OPERATOR, AMOUNT_MAX + 1)]))


def test_plan__recipient_of_another_kind_of_chain__waits_for_a_person():
    with pytest.raises(HoldError, match="no address of this chain"):
        plan(order_of([Payout(Address(b"\1" * 20), 1)]))


@pytest.mark.parametrize(
    ("asset", "mint"),
    [(f"/token:{format_address(OTHER)}", OTHER), ("/slip44:501", NATIVE), ("/token:11", None), ("/slip44:60", None)],
)
def test_mint__of_an_asset__or_cannot_be_paid(asset: str, mint: Address | None):
    if mint is not None:
        assert mint_of(AssetId(REFERENCE + asset), REFERENCE) == mint
        with pytest.raises(HoldError):
            mint_of(AssetId(f"solana:{'2' * 32}{asset}"), REFERENCE)
        return
    with pytest.raises(HoldError):
        mint_of(AssetId(REFERENCE + asset), REFERENCE)


# ── Packing ─────────────────────────────────────────────────────────────────────────────────────────────────────────
COINS = {
    "SOL": Coin(NATIVE, SYSTEM, 9),
    "SPL": Coin(OTHER, TOKEN, 6),
    "Token-2022": Coin(OTHER, TOKEN_2022, 6),
    "Token-2022 that may take fees": Coin(OTHER, TOKEN_2022, 6, may_take_fees=True),
}
ROOM = {  # (the vault pays itself, by its delegate or with a key beside the operator's; with account creation)
    "SOL": (14, 12, 14),
    "SPL": (12, 12, 6),
    "Token-2022": (12, 12, 6),
    "Token-2022 that may take fees": (10, 10, 6),
}


@pytest.mark.parametrize("name", COINS)
def test_capacity__of_each_kind__as_measured(name: str):
    own, other = Purse(VAULT, VAULT), Purse(OPERATOR, VAULT)
    coin = COINS[name]
    found = (capacity(own, coin, create_accounts=False), capacity(other, coin, create_accounts=False))
    assert (*found, capacity(own, coin, create_accounts=True)) == ROOM[name]


@given(st.sampled_from(sorted(COINS)), st.booleans(), st.booleans(), st.data())
@few
def test_capacity__full_batch_of_strangers__fits_and_one_more_does_not(
    name: str, creates: bool, own: bool, data: st.DataObject
):
    coin, purse = COINS[name], Purse(VAULT if own else OPERATOR, VAULT)
    creates = creates and not coin.is_native
    room = capacity(purse, coin, create_accounts=creates)
    first, index = data.draw(st.integers(0, 2**32)), data.draw(st.integers(0, BATCHES_MAX - 1))
    strangers = [Address(hashlib.sha256(b"%d" % (first + place)).digest()) for place in range(room + 1)]

    def size(count: int, without: int, at: int) -> int:
        transfers = [Transfer(stranger, AMOUNT_MAX, creates) for stranger in strangers[without:count]]
        deed = Deed(bytes(32), at, left_out=tuple(sorted(strangers[:without])))
        return draft(purse, deed, 2**63, coin, transfers).size

    assert size(room, 0, index) <= TRANSACTION_BYTES_MAX
    assert size(room, data.draw(st.integers(0, room - 1)), index) <= TRANSACTION_BYTES_MAX, "a memo takes less room"
    assert size(room + 1, 0, BATCHES_MAX - 1) > TRANSACTION_BYTES_MAX
    assert size(1, 0, INDEX_MAX) <= TRANSACTION_BYTES_MAX, "one alone has the longest of indexes"


def test_draft__of_any_kind__money_moves_after_the_marker():
    """So whoever reads the instructions in order meets the guard first; the runtime does not care."""
    steps = steps_of(Deed(bytes(32), 1))
    assert [step.program for step in steps] == [bytes(SYSTEM), bytes(SYSTEM), bytes(MEMO)]
    fund = transfer(
        TransferParams(from_pubkey=Pubkey(OPERATOR), to_pubkey=Pubkey(marker_of(OPERATOR, bytes(32), 1)), lamports=1)
    )
    assert steps[0].data == bytes(fund.data)


def test_cancelled__proposal__binds_what_nothing_hashes_to():
    deed = Deed(bytes(32), None, b"\1" * 32).cancelled
    assert (deed.content_hash, deed.memo) == (CANCELLED, f"bridge:1:{'00' * 32}:p:c")
    assert marker_of(OPERATOR, deed.distribution_id, deed.index) == marker_of(OPERATOR, bytes(32), None)
