"""Balances before and after, turned into logs: nothing is lost, and nobody's order matters."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.chains.solana.deltas import NOBODY, payments
from bridge.chains.solana.events import compile_event
from bridge.chains.solana.logs import (
    DEPOSITED,
    FEE_PAID,
    PLACES,
    RECORDED,
    RECORDS,
    TRANSFER,
    WITHDRAWN,
    Watch,
    derive,
    pick,
)
from bridge.chains.solana.markers import Deed, Step, create_marker, marker_of
from bridge.chains.solana.programs import MEMO, NATIVE
from bridge.chains.solana.transactions import Holding, Transaction
from bridge.domain.errors import ChainDisagrees, ConfigError
from bridge.domain.events import Log, pack_logs
from bridge.domain.units import Address, BlockStamp
from bridge.ports.reading import LogFilter

AT = BlockStamp("solana", 7, b"\x07" * 32)


def key(number: int) -> Address:
    return Address(number.to_bytes(32))


VAULT, POOL, OPERATOR, FORMER = key(1), key(2), key(3), key(4)
STRANGERS = [key(number) for number in (10, 11, 12)]
MINTS = [key(100), key(101)]


def account(owner: Address, mint: Address, number: int = 0) -> Address:
    """A token account. The order of these addresses is not that of their owners."""
    digits = int.from_bytes(owner) * 1000 + int.from_bytes(mint) * 10 + number
    return key(digits * 7919 % 99991 + 1000)


WATCH = Watch(
    VAULT,
    (OPERATOR, FORMER),
    frozenset({VAULT, POOL}),
    {account(owner, mint): owner for owner in (VAULT, POOL, OPERATOR) for mint in MINTS},
    native=True,
)
AMOUNTS = st.integers(0, 5) | st.integers(0, 2**64 - 1)


@st.composite
def transactions(draw: st.DrawFn) -> Transaction:
    owners = [VAULT, POOL, OPERATOR, *STRANGERS]
    places = st.tuples(st.sampled_from(owners), st.sampled_from(MINTS), st.integers(0, 1))
    chosen = draw(st.lists(places, unique=True, max_size=10))
    payer = draw(st.sampled_from([OPERATOR, VAULT, *STRANGERS]))
    others = draw(st.lists(st.sampled_from(owners).filter(lambda each: each != payer), unique=True))
    succeeded = draw(st.booleans())
    fee = draw(st.integers(0, 10_000))
    lamports = [draw(st.tuples(AMOUNTS, AMOUNTS)) for _ in others]
    before = draw(st.integers(fee, 2**64 - 1))
    lamports = [(before, draw(AMOUNTS) if succeeded else before - fee), *lamports]
    holdings = []
    for owner, mint, number in chosen:
        held, left = draw(AMOUNTS), draw(AMOUNTS)
        known = draw(st.sampled_from([owner, owner, None]))
        holdings.append(Holding(account(owner, mint, number), mint, known, held, left if succeeded else held))
    keys = [payer, *others, *(holding.account for holding in holdings)]
    lamports += [(0, 0)] * len(holdings)
    if not succeeded:
        lamports[1:] = [(held, held) for held, _ in lamports[1:]]
    memo = draw(st.sampled_from([b"fee", b"fee ", b"gift"]))
    steps = (Step(bytes(MEMO), (), memo),)
    return Transaction(b"\x05" * 64, 7, succeeded, fee, 1, tuple(keys), tuple(lamports), tuple(holdings), steps, b"{}")


def logs_of(transaction: Transaction, watch: Watch = WATCH) -> list[Log]:
    return list(pick(derive(transaction, watch), [LogFilter(())], AT, 1_700_000_000, (transaction.signature, 3)))


@given(transactions())
@settings(max_examples=40)
def test_derive__any_transaction__transfers_add_up_to_what_each_account_gained(transaction: Transaction):
    gained: Counter[tuple[bytes, bytes]] = Counter()
    for log in logs_of(transaction):
        if log.topics[0] == TRANSFER:
            value = int.from_bytes(log.data)
            assert value > 0
            gained[log.topics[1], log.address] -= value
            gained[log.topics[2], log.address] += value
    for owner in (VAULT, POOL, OPERATOR):
        for mint in MINTS:
            ours = [each for each in transaction.holdings if (each.account, each.mint) == (account(owner, mint), mint)]
            assert gained[owner, mint] == sum(holding.after - holding.before for holding in ours)
    assert OPERATOR not in {log.address for log in logs_of(transaction)}  # it is no contract whose events count
    for owner in (VAULT, POOL):
        native = [pair for at, pair in zip(transaction.keys, transaction.lamports, strict=True) if at == owner]
        assert gained[owner, NATIVE] == sum(after - before for before, after in native)


def ordered(source: Address, target: Address, lamports: int) -> Step:
    """A transfer of the native coin, as the transaction itself orders it."""
    return Step(bytes(32), (source, target), (2).to_bytes(4, "little") + lamports.to_bytes(8, "little"))


@pytest.mark.parametrize("marker", [key(5), key(50)])  # before the recipient in the order of addresses, and behind it
def test_derive__native_coin_paid_beside_a_deposit__recipient_got_it_and_the_marker_did_not(marker: Address):
    recipient = STRANGERS[0]
    transaction = Transaction(
        b"\5" * 64, 7, True, 5_000, 1, (OPERATOR, VAULT, marker, recipient),
        ((10_000_000, 9_095_000), (5_000_000, 3_600_000), (0, 900_000), (0, 1_400_000)), (),
        (ordered(OPERATOR, marker, 900_000), ordered(VAULT, recipient, 1_400_000)), b"{}",
    )  # fmt: skip
    [log] = [log for log in logs_of(transaction) if log.topics[0] == TRANSFER]
    assert (log.topics[1:3], int.from_bytes(log.data)) == ((VAULT, recipient), 1_400_000)
    # What a program moved besides is matched as before; what failed ordered nothing.
    more = replace(transaction, lamports=(*transaction.lamports[:2], (0, 899_999), (0, 1_400_001)))
    assert [each.amount for each in payments(more)] == [5_000, 900_000, 1_400_000, 1]
    failed = replace(transaction, succeeded=False, lamports=((10_000_000, 9_995_000), *((n, n) for n in (5, 0, 0))))
    assert [each.amount for each in payments(failed)] == [5_000]


@given(transactions(), st.data())
@settings(max_examples=40)
def test_derive__transfers_that_were_ordered__sums_are_the_chain_s_all_the_same(
    transaction: Transaction, data: st.DataObject
):
    pairs = st.tuples(st.sampled_from(transaction.keys), st.sampled_from(transaction.keys), AMOUNTS)
    steps = tuple(ordered(*pair) for pair in data.draw(st.lists(pairs, max_size=4)))
    found = payments(replace(transaction, steps=(*transaction.steps, *steps)))
    gained: Counter[Address | None] = Counter()
    for payment in found:
        assert payment.amount > 0
        if payment.mint == NATIVE:
            gained[payment.source.account if payment.source else None] -= payment.amount
            gained[payment.target.account if payment.target else None] += payment.amount
    for at, (before, after) in zip(transaction.keys, transaction.lamports, strict=True):
        assert gained[at] == after - before


@given(transactions(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_derive__accounts_in_another_order__the_same_logs(transaction: Transaction, chance):
    order = list(range(1, len(transaction.keys)))
    chance.shuffle(order)
    order = [0, *order]
    holdings = list(transaction.holdings)
    chance.shuffle(holdings)
    other = replace(
        transaction,
        keys=tuple(transaction.keys[index] for index in order),
        lamports=tuple(transaction.lamports[index] for index in order),
        holdings=tuple(holdings),
    )
    assert logs_of(other) == logs_of(transaction)


@given(transactions())
@settings(max_examples=40)
def test_derive__more_is_watched_later__every_log_keeps_its_place(transaction: Transaction):
    less = replace(
        WATCH,
        owners=frozenset({VAULT}),
        accounts={at: owner for at, owner in WATCH.accounts.items() if owner == VAULT},
        native=False,
    )
    more = {log.log_index: (log.address, log.topics[0], log.data) for log in logs_of(transaction)}
    few = logs_of(transaction, less)
    assert all(more[log.log_index] == (log.address, log.topics[0], log.data) for log in few)
    indexes = [log.log_index for log in few]
    assert indexes == sorted(set(indexes))
    assert all(3 * PLACES <= index < 4 * PLACES for index in indexes)


@given(transactions())
@settings(max_examples=40)
def test_derive__fees_deposits_and_withdrawals__say_what_transfers_say(transaction: Transaction):
    into: defaultdict[bytes, int] = defaultdict(int)
    for log in logs_of(transaction):
        value = int.from_bytes(log.data) if log.topics[0] != RECORDED else 0
        match log.topics[0]:
            case t if t == TRANSFER:
                into[log.topics[2]] += value
                into[log.topics[1]] -= value
            case t if t == DEPOSITED:
                assert log.address == POOL
                into[POOL] -= value
            case t if t == WITHDRAWN:
                assert log.address == POOL
                into[POOL] += value
            case t if t == FEE_PAID:
                assert log.address == VAULT
                assert transaction.succeeded
                assert transaction.steps[0].data == b"fee"
    assert into[POOL] == 0


def moved(*holdings: Holding, steps: tuple[Step, ...] = ()) -> Transaction:
    keys = (OPERATOR, *(holding.account for holding in holdings))
    lamports = ((10_000, 5_000), *((1, 1) for _ in holdings))
    return Transaction(b"\x05" * 64, 7, True, 5_000, 1, keys, lamports, holdings, steps, b"{}")


def holding(owner: Address, before: int, after: int, number: int = 0, mint: Address = MINTS[0]) -> Holding:
    return Holding(account(owner, mint, number), mint, owner, before, after)


def described(transaction: Transaction) -> list[tuple[object, ...]]:
    names = {TRANSFER: "Transfer", FEE_PAID: "FeePaid", DEPOSITED: "Deposited", WITHDRAWN: "Withdrawn"}
    return [
        (names[log.topics[0]], log.address, *log.topics[1:], int.from_bytes(log.data))
        for log in logs_of(transaction)
        if log.topics[0] in names
    ]


def test_derive__withheld_by_the_token__the_rest_goes_to_nobody():
    assert described(moved(holding(VAULT, 100, 0), holding(STRANGERS[0], 0, 97))) == [
        ("Transfer", MINTS[0], VAULT, STRANGERS[0], 97),
        ("Transfer", MINTS[0], VAULT, NOBODY, 3),
    ]


def test_derive__minted_into_the_vault_and_burnt_out_of_the_pool():
    minted = moved(holding(VAULT, 1, 5))
    assert described(minted) == [("Transfer", MINTS[0], NOBODY, VAULT, 4)]
    assert described(moved(holding(POOL, 5, 1))) == [
        ("Transfer", MINTS[0], POOL, NOBODY, 4),
        ("Withdrawn", POOL, NOBODY, 4),
    ]


def test_derive__another_account_of_the_vault__is_not_the_vault():
    other = holding(VAULT, 0, 4, number=1)
    assert described(moved(holding(VAULT, 4, 0), other)) == [("Transfer", MINTS[0], VAULT, other.account, 4)]
    assert described(moved(other, holding(STRANGERS[0], 4, 0))) == []


@pytest.mark.parametrize(("memo", "is_fee"), [(b"fee", True), (b"Fee", False), (b" fee", False), (b"", False)])
def test_derive__memo__tells_a_fee_from_a_donation(memo: bytes, is_fee: bool):
    found = described(moved(holding(VAULT, 0, 4), holding(POOL, 4, 0), steps=(Step(bytes(MEMO), (), memo),)))
    fee = [("FeePaid", VAULT, MINTS[0], POOL, 4)] if is_fee else []
    assert found == [("Transfer", MINTS[0], POOL, VAULT, 4), ("Withdrawn", POOL, VAULT, 4), *fee]


def test_payments__fee_of_one_that_failed__is_all_there_is():
    failed = replace(moved(), succeeded=False)
    assert [(each.amount, each.target) for each in payments(failed)] == [(5_000, None)]
    with pytest.raises(ChainDisagrees, match="failed"):
        payments(replace(moved(holding(VAULT, 1, 2)), succeeded=False))


# ── Deeds ───────────────────────────────────────────────────────────────────────────────────────────────────────────
ID = b"\x1d" * 32
EXECUTED = compile_event(
    "BatchExecuted(bytes32 indexed id, uint32 indexed index, address indexed token, uint256 paid, uint256 credited)"
)
RELEASED = compile_event("Released(bytes32 indexed id, address indexed token, uint256 amount, uint256 epoch)")
SKIPPED = compile_event("Skipped(bytes32 indexed id, address indexed token, address indexed to, uint32 index)")
PROPOSED = compile_event("Proposed(bytes32 indexed id, bytes32 contentHash)")
CANCELLED = compile_event("Cancelled(bytes32 indexed id, uint32 indexed index)")
DEEDS = {plan.topic0: plan for plan in (EXECUTED, RELEASED, SKIPPED, PROPOSED, CANCELLED)}


def told(transaction: Transaction) -> list[tuple[str, dict[str, object]]]:
    found: list[tuple[str, dict[str, object]]] = []
    for log in logs_of(transaction):
        if log.topics[0] in DEEDS:
            assert log.address == VAULT
            found.append((DEEDS[log.topics[0]].name, dict(DEEDS[log.topics[0]].decode(log))))
    return found


def steps_of(deed: Deed, operator: Address = OPERATOR, memo: str | None = None) -> tuple[Step, ...]:
    made = create_marker(operator, deed.distribution_id, deed.index)
    accounts = tuple(bytes(meta.pubkey) for meta in made.accounts)
    text = (deed.memo if memo is None else memo).encode()
    return (Step(bytes(made.program_id), accounts, bytes(made.data)), Step(bytes(MEMO), (), text))


def test_derive__batch_of_ours__executed_released_and_who_was_left_out():
    deed = Deed(ID, 4, left_out=(STRANGERS[1],))
    paid = moved(holding(VAULT, 100, 0), holding(STRANGERS[0], 0, 97), steps=steps_of(deed))
    assert told(paid) == [
        ("Skipped", {"id": ID, "token": MINTS[0], "to": STRANGERS[1], "index": 4}),
        ("BatchExecuted", {"id": ID, "index": 4, "token": MINTS[0], "paid": 100, "credited": 0}),
        ("Released", {"id": ID, "token": MINTS[0], "amount": 100, "epoch": 0}),
    ]


def test_derive__proposal_and_cancels():
    assert told(moved(steps=steps_of(Deed(ID, None, b"\x0c" * 32)))) == [
        ("Proposed", {"id": ID, "contentHash": b"\x0c" * 32})
    ]
    assert told(moved(steps=steps_of(Deed(ID, 4).cancelled))) == [("Cancelled", {"id": ID, "index": 4})]
    cancelled = Deed(ID, None, b"\x0c" * 32).cancelled
    assert told(moved(steps=steps_of(cancelled))) == [("Cancelled", {"id": ID, "index": 2**32 - 1})]


@pytest.mark.parametrize(
    "steps",
    [
        steps_of(Deed(ID, 4), operator=STRANGERS[0]),  # somebody else's marker
        steps_of(Deed(ID, 4), memo=Deed(ID, 5).memo),  # another batch's marker
        steps_of(Deed(ID, 4))[1:],  # no marker
        steps_of(Deed(ID, 4))[:1],  # no memo
    ],
)
def test_derive__memo_that_anyone_can_write__proves_nothing(steps: tuple[Step, ...]):
    assert told(moved(holding(VAULT, 100, 0), holding(STRANGERS[0], 0, 100), steps=steps)) == []


def test_derive__batch_that_failed__nothing():
    assert told(replace(moved(steps=steps_of(Deed(ID, 4))), succeeded=False)) == []


def test_derive__batch_of_the_operator_before__counts_too():
    paid = moved(holding(VAULT, 9, 0), holding(STRANGERS[0], 0, 9), steps=steps_of(Deed(ID, 4), FORMER))
    assert [name for name, _ in told(paid)] == ["BatchExecuted", "Released"]


def test_derive__native_coin_from_the_vault__without_what_the_operator_pays():
    keys = (OPERATOR, VAULT, STRANGERS[0], marker_of(OPERATOR, ID, 0))
    lamports = ((10_000_000, 10_000_000 - 5_000 - 897_840), (500, 430), (1, 71), (0, 897_840))
    steps = steps_of(Deed(ID, 0))
    paid = Transaction(b"\x05" * 64, 7, True, 5_000, 2, keys, lamports, (), steps, b"{}")
    assert told(paid)[0] == ("BatchExecuted", {"id": ID, "index": 0, "token": NATIVE, "paid": 70, "credited": 0})


# ── Declarations ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_compile__as_the_rules_declare__the_topics_that_are_derived():
    fee = compile_event("FeePaid(address indexed token, address indexed payer, uint256 amount)")
    assert (fee.topic0, fee.name) == (FEE_PAID, "FeePaid")
    assert fee.fields == {"token": "address", "payer": "address", "amount": "uint256"}
    assert compile_event(" event Deposited( address indexed account , uint amount );").topic0 == DEPOSITED


@pytest.mark.parametrize(
    "declaration",
    [
        "Deposited",
        "Deposited(address)",
        "Deposited(string name)",
        "Deposited(int256 amount)",
        "Deposited(bytes4 amount)",
        "Deposited(uint7 amount)",
        "Deposited(uint256[] amount)",
        "Deposited(address a, uint256 a)",
        "Deposited(address indexed a, address indexed b, address indexed c, address indexed d)",
    ],
)
def test_compile__what_is_never_derived__refused(declaration: str):
    with pytest.raises(ConfigError):
        compile_event(declaration)


@given(st.lists(transactions(), max_size=4))
@settings(max_examples=20)
def test_decode_columns__any_logs__as_one_by_one(found: list[Transaction]):
    logs = [
        log
        for index, each in enumerate(found)
        for log in pick(derive(each, WATCH), [LogFilter(())], AT, 1_700_000_000, (each.signature, index))
    ]
    columns = pack_logs(logs)
    for declaration, emitters in (
        ("Transfer(address indexed from, address indexed to, uint256 value)", [*MINTS, NATIVE]),
        ("Deposited(address indexed account, uint256 amount)", [POOL]),
        ("FeePaid(address indexed token, address indexed payer, uint256 amount)", [VAULT]),
    ):
        plan = compile_event(declaration)
        rows = [row for row, log in enumerate(logs) if log.topics[0] == plan.topic0 and log.address in emitters]
        decoded = plan.decode_columns(columns, emitters)
        assert list(decoded.rows) == rows
        for name in plan.fields:
            assert list(decoded.fields[name]) == [plan.decode(logs[row])[name] for row in rows]


def test_decode__another_shape__refused():
    [log, *_] = [each for each in logs_of(moved(holding(VAULT, 1, 5))) if each.address == MINTS[0]]
    plan = compile_event("Transfer(address indexed from, address to, uint256 value)")
    with pytest.raises(ValueError, match="as declared"):
        plan.decode(log)
    with pytest.raises(ValueError, match="as declared"):
        plan.decode_columns(pack_logs([log]), MINTS)
    narrow = compile_event("Transfer(address indexed from, address indexed to, uint256 value)")
    assert narrow.decode(log) == {"from": NOBODY, "to": VAULT, "value": 4}
    assert RECORDS not in MINTS
