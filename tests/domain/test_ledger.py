"""Which journal each fact becomes; what a journal is."""

import hashlib
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.events import Event, Log, Value
from bridge.domain.ledger import (
    CARRIED,
    SUSPENSE_IN,
    SUSPENSE_OUT,
    UNALLOCATED,
    Asset,
    Decided,
    Due,
    GasPaid,
    IntendedBatch,
    Intent,
    Journal,
    Phase,
    Share,
    Transfer,
    Watched,
    book_decision,
    book_event,
    book_gas,
    book_intent,
    book_opening,
    book_settlement,
    book_void,
    owed_code,
    payable_code,
    sender_code,
)
from bridge.domain.units import UINT256_MAX, Address, AssetId, BlockStamp

VAULT, DISTRIBUTOR, OPERATOR = (Address(bytes([n]) * 20) for n in (0xAA, 0xDD, 0x0E))
ALICE, BOB, TOKEN, OTHER_TOKEN = (Address(bytes([n]) * 20) for n in (1, 2, 0x70, 0x71))
USDX = AssetId("eip155:31337/erc20:0x" + "70" * 20)
ETH = AssetId("eip155:31337/slip44:60")
VAULT_CODE, DISTRIBUTOR_CODE = "vault:0x" + "aa" * 20, "distributor:0x" + "dd" * 20
WATCHED = Watched(
    chain="anvil",
    vault=VAULT,
    distributor=DISTRIBUTOR,
    operator=OPERATOR,
    tokens=(Asset(USDX, "anvil", TOKEN, "USDX", 6),),
    native=Asset(ETH, "anvil", None, "ETH", 18),
)
AT = BlockStamp("anvil", 7, b"\x07" * 32)
LOG = Log(AT, 3, b"\x33" * 32, 0, TOKEN, (), b"", timestamp=1_700_000_000)
ID = b"\x1d" * 32

amounts = st.integers(min_value=1, max_value=UINT256_MAX)


def event(source: str, address: Address = TOKEN, **fields: Value) -> Event:
    return Event(source, replace(LOG, address=address), fields)


def moved(source: str, address: Address = TOKEN, **fields: Value) -> list[tuple[str, str, int]]:
    journal = book_event(event(source, address, **fields), WATCHED)
    return [(transfer.debit, transfer.credit, transfer.amount) for transfer in journal.transfers]


def transfer_log(source: Address, target: Address, value: int, token: Address = TOKEN) -> list[tuple[str, str, int]]:
    fields: dict[str, Value] = {"from": source, "to": target, "value": value}
    return moved("token.Transfer", token, **fields)


# ── Logs ────────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        (ALICE, VAULT, [(VAULT_CODE, SUSPENSE_IN, 5)]),
        (VAULT, ALICE, [(SUSPENSE_OUT, VAULT_CODE, 5)]),
        (VAULT, DISTRIBUTOR, [(DISTRIBUTOR_CODE, VAULT_CODE, 5)]),
        (VAULT, VAULT, []),
        (ALICE, BOB, []),
    ],
)
def test_transfer_log__ours_and_theirs__books_what_moved(source, target, expected):
    assert transfer_log(source, target, 5) == expected


PARTIES = [VAULT, DISTRIBUTOR, OPERATOR, ALICE, BOB]


@given(st.lists(st.tuples(st.sampled_from(PARTIES), st.sampled_from(PARTIES), st.integers(0, UINT256_MAX))))
def test_transfer_logs__any__accounts_of_ours_hold_what_the_chain_says_and_suspense_what_strangers_moved(moves):
    booked: defaultdict[str, int] = defaultdict(int)
    held: defaultdict[Address, int] = defaultdict(int)
    for source, target, value in moves:
        held[source] -= value
        held[target] += value
        for debit, credit, amount in transfer_log(source, target, value):
            booked[debit] += amount
            booked[credit] -= amount
    for code, holder in ((VAULT_CODE, VAULT), (DISTRIBUTOR_CODE, DISTRIBUTOR), (sender_code(OPERATOR), OPERATOR)):
        assert booked[code] == held[holder]
    ours = {VAULT, DISTRIBUTOR}
    for code, sign, theirs, own in ((SUSPENSE_IN, -1, 0, 1), (SUSPENSE_OUT, 1, 1, 0)):
        # What came to us from elsewhere, or went there; to our contracts the operator is elsewhere too.
        crossed = sum(
            move[2]
            for move in moves
            if (move[own] in ours and move[theirs] not in ours)
            or (move[own] == OPERATOR and move[theirs] not in {*ours, OPERATOR})
        )
        assert booked[code] == sign * crossed


def test_transfer_log__zero_or_unwatched_token__one_journal_that_moves_nothing():
    assert transfer_log(ALICE, VAULT, 0) == []
    assert transfer_log(ALICE, VAULT, 5, OTHER_TOKEN) == []


@given(amount=amounts, decimals=st.integers(0, 77))
def test_decimals__whatever_they_are_said_to_be__same_entry_to_the_byte(amount: int, decimals: int):
    lied = replace(WATCHED, tokens=(replace(WATCHED.tokens[0], decimals=decimals),))
    fields: dict[str, Value] = {"from": ALICE, "to": VAULT, "value": amount}
    moved = event("token.Transfer", TOKEN, **fields)
    assert book_event(moved, lied).payload_hash == book_event(moved, WATCHED).payload_hash


def test_fee_paid__after_its_transfer__leaves_suspense_empty():
    into = transfer_log(ALICE, VAULT, 9) + moved("vault.FeePaid", VAULT, token=TOKEN, payer=ALICE, amount=9)
    assert net(into) == {VAULT_CODE: 9, UNALLOCATED: -9}


def test_fee_paid__in_a_token_nobody_watches__moves_nothing():
    assert moved("vault.FeePaid", VAULT, token=OTHER_TOKEN, payer=ALICE, amount=9) == []


def test_withdrawn__after_its_transfer__releases_what_the_chain_owed():
    out = moved("distributor.Withdrawn", DISTRIBUTOR, token=TOKEN, account=BOB, to=ALICE, amount=4)
    out += transfer_log(DISTRIBUTOR, ALICE, 4)
    assert net(out) == {owed_code(BOB): 4, DISTRIBUTOR_CODE: -4}


@pytest.mark.parametrize("source", ["distributor.BatchExecuted", "distributor.Credited", "vault.other"])
def test_other_log__moves_nothing_by_itself__yet_has_its_journal(source):
    journal = book_event(event(source, DISTRIBUTOR), WATCHED)
    assert (journal.source, journal.ref, journal.transfers) == ("log:anvil", "07" * 32 + ":3", ())


def net(transfers: list[tuple[str, str, int]]) -> dict[str, int]:
    sums: defaultdict[str, int] = defaultdict(int)
    for debit, credit, amount in transfers:
        sums[debit] += amount
        sums[credit] -= amount
    return {code: amount for code, amount in sums.items() if amount}


def posted(*journals: Journal) -> dict[str, int]:
    return net([
        (t.debit, t.credit, t.amount) for j in journals for t in j.transfers if t.phase in (Phase.POSTED, Phase.POST)
    ])  # fmt: skip


def pending(*journals: Journal) -> dict[str, int]:
    sign = {Phase.PENDING: 1, Phase.POSTED: 0, Phase.POST: -1, Phase.VOID: -1}
    return net([(t.debit, t.credit, sign[t.phase] * t.amount) for j in journals for t in j.transfers])


# ── Opening, decisions, gas ─────────────────────────────────────────────────────────────────────────────────────────
def test_opening__some_accounts_empty__books_only_what_is_there():
    held = dict.fromkeys(WATCHED.mirrors, 0)
    held[WATCHED.mirrors[0]] = 11
    opening = book_opening(WATCHED, AT, 1, held)
    assert posted(opening) == {VAULT_CODE: 11, "surplus:opening": -11}
    assert (opening.source, opening.ref) == ("opening", "anvil")


def test_decision__pays_new_and_carried__carry_moves_by_the_difference():
    # 12 were carried in: Alice gets 2 of them, 5 more stay, 15 are carried out.
    decided = Decided(
        decision_id=ID,
        rule="fee_window",
        verdict="pay",
        asset=USDX,
        at=AT,
        valid_at=1,
        carried_in=12,
        carried_out=15,
        shares=(Share(ALICE, 20, 2), Share(BOB, 5, 0)),
    )
    assert posted(book_decision(decided)) == {
        payable_code(ALICE): -20,
        payable_code(BOB): -5,
        CARRIED: 12 - 15,
        UNALLOCATED: 18 + 5 + 5,
    }


@given(st.lists(st.tuples(amounts, amounts).map(sorted), max_size=5), st.data())
def test_decision__any_amounts__recipients_get_their_amount_and_carry_ends_at_carried_out(pairs, data):
    shares = tuple(Share(Address(bytes([n]) * 20), high, low) for n, (low, high) in enumerate(pairs))
    carried_in = data.draw(st.integers(min_value=0, max_value=UINT256_MAX // 2))
    carried_out = data.draw(
        st.integers(min_value=0, max_value=UINT256_MAX // 2 - sum(s.carried_in for s in shares) % 7)
    )
    decided = Decided(ID, "r", "pay", USDX, AT, 1, carried_in, carried_out, shares)
    try:
        sums = posted(book_decision(decided))
    except ValueError:  # newly carried beyond uint256: no token can hold that much
        assert carried_out - carried_in + sum(share.carried_in for share in shares) > UINT256_MAX
        return
    assert sums.get(CARRIED, 0) == carried_in - carried_out
    assert all(sums[payable_code(share.recipient)] == -share.amount for share in shares)
    assert sum(sums.values()) == 0


def test_gas__reverted__is_paid_all_the_same():
    paid = GasPaid(ID, OPERATOR, 21_000, succeeded=False, at=AT, valid_at=1, deposits=7)
    journal = book_gas(paid, ETH)
    assert posted(journal) == {"expense:gas": 21_000, "expense:deposits": 7, "operator:gas:0x" + "0e" * 20: -21_007}
    assert journal.kind == "gas.reverted"


def test_gas__on_a_rollup__each_part_is_an_expense_of_its_own():
    paid = GasPaid(ID, OPERATOR, 1_000, succeeded=True, at=AT, valid_at=5, l1_fee=300, operator_fee=7)
    assert posted(book_gas(paid, ETH)) == {
        "expense:gas": 693,
        "expense:l1_fee": 300,
        "expense:operator_fee": 7,
        "operator:gas:0x" + "0e" * 20: -1_000,
    }


# ── Payouts ─────────────────────────────────────────────────────────────────────────────────────────────────────────
DUES = (Due(0, ALICE, 20), Due(0, BOB, 5))
INTENT = book_intent(Intent(ID, "fee_window", USDX, AT, 1, DUES))
BATCH = IntendedBatch(ID, 0, USDX, DUES)


def test_intent__planned__is_pending_and_posts_nothing():
    assert posted(INTENT) == {}
    assert pending(INTENT) == {payable_code(ALICE): 20, payable_code(BOB): 5, SUSPENSE_OUT: -25}


def test_settlement__one_paid_one_credited__nothing_pending_and_both_explained():
    settlement = book_settlement(BATCH, LOG, {BOB})
    assert posted(settlement) == {payable_code(ALICE): 20, SUSPENSE_OUT: -20, payable_code(BOB): 5, owed_code(BOB): -5}
    assert pending(INTENT, settlement) == {}


def test_void__given_up__nothing_pending_and_nothing_posted():
    void = book_void(BATCH, AT, 1)
    assert (posted(void), pending(INTENT, void)) == ({}, {})
    assert (void.source, void.ref) == (book_settlement(BATCH, LOG, ()).source, book_settlement(BATCH, LOG, ()).ref)


# ── Journals ────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("amount", [0, -1, UINT256_MAX + 1, 1.0, True])
def test_transfer__not_a_positive_uint256__refused(amount):
    with pytest.raises(ValueError, match="positive uint256"):
        Transfer("a", "b", USDX, amount)


def test_transfer__one_account__refused():
    with pytest.raises(ValueError, match="twice"):
        Transfer("a", "a", USDX, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "x"},
        {"reason": "x"},
        {"source": "x"},
        {"ref": "x"},
        {"valid_at": 2},
        {"at": replace(AT, hash=b"\x08" * 32)},
        {"transfers": ()},
        {"transfers": (replace(INTENT.transfers[0], amount=21), *INTENT.transfers[1:])},
        {"transfers": INTENT.transfers[::-1]},
        {"transfers": tuple(replace(t, phase=Phase.POSTED) for t in INTENT.transfers)},
    ],
)
def test_payload_hash__any_field_changed__changes(change):
    assert replace(INTENT, **change).payload_hash != INTENT.payload_hash


@given(st.text(max_size=4), st.text(max_size=4), st.text(max_size=4), st.text(max_size=4))
def test_payload_hash__text_moved_between_fields__changes(kind, reason, other_kind, other_reason):
    one, other = replace(INTENT, kind=kind, reason=reason), replace(INTENT, kind=other_kind, reason=other_reason)
    assert (one.payload_hash == other.payload_hash) == (one == other)


# Long ones and ones of more than a byte a character are rare, and packed another way.
any_text = st.one_of(st.text(max_size=8), st.text(min_size=120, max_size=140), st.just("é" * 100))


@given(any_text, any_text, st.lists(st.tuples(any_text, st.integers(1, UINT256_MAX)), max_size=3), st.booleans())
def test_payload_hash__any_text__is_over_each_field_with_its_length(text, other, moved, reverses):
    """What is booked keeps its hash for ever, so its bytes are spelled out here."""
    entry = Journal(
        *("kind", text, "source", other, AT, 7),
        transfers=tuple(Transfer(f"a{code}", f"b{code}", USDX, amount) for code, amount in moved),
        reverses=(other, text) if reverses else None,
    )
    expected = hashlib.sha256(b"\x01")
    for field in (
        *("kind", text, "source", other, AT.chain, str(AT.number), AT.hash, "7", str(len(moved))),
        *(part for code, amount in moved for part in (f"a{code}", f"b{code}", USDX, str(amount), "posted")),
        *((other, text) if reverses else ()),
    ):
        raw = field if isinstance(field, bytes) else field.encode()
        expected.update(len(raw).to_bytes(4) + raw)
    assert entry.payload_hash == expected.digest()
