"""Assembling: sums that must meet, the verdict, ages and limitations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.figures import Spread
from bridge.domain.ledger import Asset
from bridge.domain.reports.assembly import assemble
from bridge.domain.reports.balances import roll_forward, waterfalls
from bridge.domain.reports.canonical import to_json
from bridge.domain.reports.facts import (
    BalanceCheck,
    BreakFact,
    ChainScope,
    CheckCount,
    CutOff,
    Facts,
    FinalizedSpan,
    Flow,
    GasFact,
    HeldFact,
    Reconciliation,
)
from bridge.domain.reports.report import Amount, Report, Verdict, Waterfall
from bridge.domain.reports.wording import count_of
from bridge.domain.units import Address, AssetId
from bridge.domain.windows import Window

USDX = Asset(AssetId("eip155:1/erc20:0xaa"), "main", Address(b"\xaa" * 20), "USDX", 6)
ETH = Asset(AssetId("eip155:1/slip44:60"), "main", None, "ETH", 18)
ASSETS = {USDX.id: USDX, ETH.id: ETH}
VAULT, DISTRIBUTOR, OPERATOR = "vault:0x01", "distributor:0x02", "operator:gas:0x03"
HASH = b"\x01" * 32


def flow(
    debit: str, credit: str, atoms: int, source: str = "log", *, reverses: bool = False, asset: Asset = USDX
) -> Flow:
    return Flow(debit, credit, asset.id, source, reverses, atoms)


FLOWS = (
    flow(VAULT, "surplus:opening", 50, "opening"),
    flow(VAULT, "suspense:in", 100),
    flow("suspense:in", "surplus:unallocated", 100),
    flow("surplus:unallocated", "payable", 90, "decision"),
    flow("surplus:unallocated", "surplus:carried", 4, "decision"),
    flow(DISTRIBUTOR, VAULT, 70),
    flow("suspense:out", DISTRIBUTOR, 60),
    flow("payable", "suspense:out", 60, "batch"),
    flow("payable", "owed_on_chain", 10, "batch"),
    flow(OPERATOR, "surplus:opening", 1000, "opening", asset=ETH),
    flow("expense:gas", OPERATOR, 7, "attempt", asset=ETH),
)
CHECKS = (
    BalanceCheck(VAULT, USDX.id, 80),
    BalanceCheck(DISTRIBUTOR, USDX.id, 10),
    BalanceCheck(OPERATOR, ETH.id, 993),
)


def facts(**changed: object) -> Facts:
    chain = ChainScope("main", "evm", "eip155:1", HASH, 0, CutOff(9, HASH, 1_000), 9, 0, 0)
    values: dict[str, object] = {
        "chains": (chain,),
        "assets": (USDX, ETH),
        "reconciliation": Reconciliation(1, 5_000, "balanced"),
        "flows": FLOWS,
        "balance_checks": CHECKS,
        "checks": (),
        "spans": (FinalizedSpan("main", 0, 9, 1, 3, "a", "b"),),
        "rules": (),
        "distributions": (),
        "breaks": (),
        "gas": (GasFact("main", 1, 0, 21_000, 7),),
        "attention": (),
        "decided": {USDX.id: 90},
        **changed,
    }
    return Facts(**values)  # type: ignore[arg-type]


def open_break(**changed: object) -> BreakFact:
    values: dict[str, object] = {
        "break_id": 1,
        "kind": "unexpected_in",
        "chain": "main",
        "subject": "suspense:in",
        "asset": USDX.id,
        "amount": 7,
        "state": "open",
        "opened_at": 1_400,
        "resolved_at": None,
        "resolution": None,
        "block_number": 3,
        "block_hash": HASH,
        "evidence": "{}",
        **changed,
    }
    return BreakFact(**values)  # type: ignore[arg-type]


def test_assemble__books_equal_chain__balanced_with_every_sum():
    report = assemble(facts())
    assert report.verdict is Verdict.BALANCED
    assert report.sentence == "Books and chain agree: 3 watched balances equal to the last unit, no break is open."
    assert report.generated_at == 1_000
    (fall,) = report.waterfalls
    named = (fall.opening, fall.earned, fall.allocated, fall.paid, fall.credited, fall.in_flight, fall.carried)
    assert [amount.atoms for amount in named] == [50, 100, 90, 60, 10, 20, 4]
    assert fall.unallocated.atoms == 56
    assert fall.undecided.atoms == 0
    (bridge,) = report.pending
    assert (bridge.free.atoms, bridge.in_flight.atoms, bridge.owed.atoms) == (60, 20, 10)
    assert (bridge.ledger.atoms, bridge.difference and bridge.difference.atoms) == (90, 0)
    (gas,) = report.gas
    assert (gas.fees.atoms, gas.booked.atoms, gas.difference.atoms) == (7, 7, 0)


def test_assemble__nothing_reconciled__says_so():
    report = assemble(facts(reconciliation=None, balance_checks=()))
    assert report.verdict is Verdict.UNRECONCILED
    assert "Nothing has been reconciled" in report.sentence
    assert {row.difference for row in report.roll_forward} == {None}


def test_assemble__one_atom_off_though_the_run_said_balanced__breaks():
    off = (BalanceCheck(VAULT, USDX.id, 81), *CHECKS[1:])
    report = assemble(facts(balance_checks=off))
    assert report.verdict is Verdict.BREAKS
    assert report.sentence == "Books and chain do not agree: 1 watched balance differs from the chain."
    assert [row.difference.atoms for row in report.roll_forward if row.difference] == [0, 0, 1]


def test_assemble__break_open_since_the_run__breaks_with_its_age():
    report = assemble(facts(breaks=(open_break(),)))
    assert report.verdict is Verdict.BREAKS
    assert report.sentence == "Books and chain do not agree: 1 break open."
    assert report.open_breaks[0].age_s == 3_600


def test_assemble__resolved_break__balanced_and_listed_last():
    resolved = open_break(state="resolved", resolved_at=1_430, resolution="landed")
    report = assemble(facts(breaks=(resolved,)))
    assert report.verdict is Verdict.BALANCED
    assert report.breaks[0].age_s == 30
    both = assemble(facts(breaks=(resolved, open_break(break_id=2))))
    assert [item.break_id for item in both.breaks] == [2, 1]


def test_assemble__decision_not_booked__difference_shown():
    (fall,) = assemble(facts(decided={USDX.id: 95})).waterfalls
    assert fall.undecided.atoms == -5


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"spans": (FinalizedSpan("main", 0, 9, 1, 3, "a", "a"),)}, "same provider"),
        ({"spans": (FinalizedSpan("main", 0, 3, 1, 3, "a", "b"),)}, "blocks 4 to 9 were not read"),
        ({"spans": (FinalizedSpan("main", 2, 9, 1, 3, "a", "b"),)}, "blocks 0 to 1 were not read"),
        ({"balance_checks": CHECKS[1:]}, "1 watched balance had no on-chain reading"),
    ],
)
def test_assemble__less_than_certain__named_as_limitation(changed: dict[str, object], said: str):
    assert not any(said in limitation for limitation in assemble(facts()).limitations)
    assert any(said in limitation for limitation in assemble(facts(**changed)).limitations)


def test_assemble__ledger_behind_the_cut_off__named_as_limitation():
    chain = ChainScope("main", "evm", "eip155:1", HASH, 0, CutOff(9, HASH, 1_000), 7, 0, 0)
    assert any("booked through block 7" in text for text in assemble(facts(chains=(chain,))).limitations)


def test_roll_forward__reversal__is_an_adjustment_and_neither_received_nor_sent():
    (row,) = roll_forward([flow(VAULT, "suspense:in", 9), flow("suspense:in", VAULT, 9, reverses=True)], [], ASSETS)
    assert (row.received.atoms, row.sent.atoms, row.adjustments.atoms, row.closing.atoms) == (9, 0, -9, 0)


def test_roll_forward__checked_but_never_moved__zero_row():
    (row,) = roll_forward([], [BalanceCheck(VAULT, USDX.id, 0)], ASSETS)
    assert (row.closing.atoms, row.difference and row.difference.atoms) == (0, 0)


def test_roll_forward__asset_the_ledger_never_saw__whole_atoms_under_its_id():
    (row,) = roll_forward([], [BalanceCheck(VAULT, AssetId("eip155:1/erc20:0xbb"), 3)], ASSETS)
    assert str(row.difference) == "3 erc20:0xbb"


CODES = [
    "surplus:unallocated",
    "surplus:carried",
    "surplus:opening",
    "payable",
    "owed_on_chain",
    "suspense:in",
    "suspense:out",
    "expense:gas",
    "external",
    VAULT,
    DISTRIBUTOR,
]
any_flow = st.builds(
    Flow,
    debit=st.sampled_from(CODES),
    credit=st.sampled_from(CODES),
    asset=st.just(USDX.id),
    source=st.sampled_from(["opening", "log", "decision", "batch", "adjustment"]),
    reverses=st.booleans(),
    atoms=st.integers(1, 2**256 - 1),
).filter(lambda item: item.debit != item.credit)


@given(st.lists(any_flow, max_size=12), st.lists(st.integers(1, 2**256 - 1), max_size=3), st.integers(0, 2**256 - 1))
def test_reports__any_flows__every_statement_adds_up(flows: list[Flow], held: list[int], given_up: int):
    # The assertions are in the dataclasses; any flow that a step forgets or counts twice breaks one of them.
    waiting = tuple(HeldFact(HASH, "main", "r", n, 1, HASH, USDX.id, held[n], "frozen", 7) for n in range(len(held)))
    changed = assemble(facts(flows=tuple(flows), decided={}, held=waiting, given_up={USDX.id: given_up}))
    told = [(item.held.atoms, item.given_up.atoms) for item in changed.waterfalls]
    told += [(item.held.atoms, item.given_up.atoms) for item in changed.pending if item.asset == USDX]
    assert set(told) <= {(sum(held), given_up)}
    report = assemble(facts(flows=tuple(flows), decided={}))
    assert sum(row.closing.atoms for row in report.roll_forward if row.account == VAULT) == sum(
        (item.debit == VAULT) * item.atoms - (item.credit == VAULT) * item.atoms for item in flows
    )
    assert waterfalls(flows, {}, ASSETS) == report.waterfalls


def test_waterfall__does_not_add_up__refused():
    zero, one = Amount(0, USDX), Amount(1, USDX)
    with pytest.raises(AssertionError, match="leaks"):
        Waterfall(USDX, zero, one, *[zero] * 12)


def test_to_json__amounts__strings_of_atoms():
    assert to_json(Amount(2**256 - 1, USDX)) == str(2**256 - 1)
    assert to_json((b"\x0a", None, {"a": 1})) == ["0x0a", None, {"a": 1}]


def test_to_json__float__refused():
    with pytest.raises(TypeError, match="float"):
        to_json({"amount": 1.5})


def test_count_of__one_and_more__agrees():
    assert [count_of(1, "batch"), count_of(2, "batch"), count_of(0, "break")] == ["1 batch", "2 batches", "0 breaks"]


def test_assemble__exempt_checks__counted_apart_and_no_gap_in_coverage():
    checks = (
        CheckCount("balance", "main", "agreed", None, 8),
        CheckCount("balance", "main", "broken", "unexplained_balance", 1),
        CheckCount("balance", "main", "skipped", "no state", 1),
        CheckCount("balance", "main", "skipped", "exempt: by configuration", 90),
    )
    told = assemble(facts(checks=checks)).key_figures.checks
    assert (told.agreed, told.broken, told.skipped, told.exempt) == (8, 1, 1, 90)
    assert (told.agreed_ppm, told.coverage_ppm) == (888_888, 900_000)
    assert any("1 check skipped" in text for text in assemble(facts(checks=checks)).limitations)


def test_assemble__breaks__times_ages_and_what_is_left_to_match():
    closed = open_break(break_id=2, state="resolved", resolved_at=1_430, resolution="landed", detected_s=-4)
    told = assemble(
        facts(breaks=(open_break(detected_s=40), closed), entries_automatic=97, entries_by_hand=2)
    ).key_figures
    assert (told.detect_s, told.resolve_s) == (Spread(2, 0, 40), Spread(1, 30, 30))
    assert [(band.band, band.breaks) for band in told.open_by_age if band.breaks] == [("<24 h", 1)]
    assert told.entries.matched_ppm == 970_000


# ── Periods ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def over(flows: tuple[Flow, ...], earlier: tuple[Flow, ...], **changed: object) -> Report:
    values = {"period": Window(1, 2), "flows": flows, "earlier": earlier, "decided": {}, "balance_checks": ()}
    return assemble(facts(**{**values, **changed}))


def test_assemble__two_periods__the_second_opens_with_what_the_first_closed_with():
    first, second = over(FLOWS[:6], ()), over(FLOWS[6:], FLOWS[:6])
    closing = {(row.account, row.closing.asset): row.closing for row in first.roll_forward}
    opening = {(row.account, row.opening.asset): row.opening for row in second.roll_forward}
    assert closing == {key: opening[key] for key in closing}
    assert {row.account: row.closing.atoms for row in second.roll_forward} == {
        VAULT: 80,
        DISTRIBUTOR: 10,
        OPERATOR: 993,
    }
    (fall,), (before,) = second.waterfalls, first.waterfalls
    assert fall.opening.atoms == before.carried.atoms + before.unallocated.atoms == 60
    assert fall.promised == before.in_flight == Amount(90, USDX)
    assert (fall.earned.atoms, fall.allocated.atoms, fall.paid.atoms, fall.in_flight.atoms) == (0, 0, 60, 20)


@given(st.lists(any_flow, max_size=12), st.integers(0, 12))
def test_assemble__cut_anywhere__periods_follow_each_other_and_end_where_the_whole_ends(flows: list[Flow], cut: int):
    earlier, later = tuple(flows[:cut]), tuple(flows[cut:])
    parts, whole = over(later, earlier), assemble(facts(flows=tuple(flows), decided={}, balance_checks=()))
    assert [row.closing for row in parts.roll_forward] == [row.closing for row in whole.roll_forward]
    assert [(fall.carried, fall.in_flight) for fall in parts.waterfalls] == [
        (fall.carried, fall.in_flight) for fall in whole.waterfalls
    ]
    assert (parts.pending, parts.suspense) == (whole.pending, whole.suspense)


def test_assemble__period_without_any_movement__closes_as_it_opened():
    report = over((), FLOWS, gas=())
    assert all(row.opening == row.closing for row in report.roll_forward)
    assert {row.closing.atoms for row in report.roll_forward} == {80, 10, 993}
    assert report.verdict is Verdict.BALANCED
    assert report.sentence.startswith("This period was reconciled to its end")


def test_assemble__period_not_reconciled_to_its_end__says_so():
    report = over(FLOWS, (), reconciliation=None)
    assert report.verdict is Verdict.UNRECONCILED
    assert report.sentence.startswith("This period has not been reconciled")


def test_assemble__period_with_an_open_break__not_balanced_until_it_is_resolved():
    run = Reconciliation(1, 5_000, "breaks")
    assert over(FLOWS, (), reconciliation=run, breaks=(open_break(),)).verdict is Verdict.BREAKS
    resolved = open_break(state="resolved", resolved_at=6_000, resolution="explained")
    assert over(FLOWS, (), reconciliation=run, breaks=(resolved,)).verdict is Verdict.BALANCED


def test_assemble__period_that_goes_on__named_as_limitation():
    chain = ChainScope("main", "evm", "eip155:1", HASH, 0, CutOff(9, HASH, 1_000), 9, 0, 0, ended=False)
    assert any("may still grow" in text for text in over(FLOWS, (), chains=(chain,)).limitations)
    assert not any("may still grow" in text for text in over(FLOWS, ()).limitations)


def test_assemble__period__gaps_are_looked_for_within_it():
    chain = ChainScope("main", "evm", "eip155:1", HASH, 0, CutOff(9, HASH, 1_000), 9, 0, 0, CutOff(5, HASH, 500))
    (item,) = over(FLOWS, (), chains=(chain,), spans=(FinalizedSpan("main", 4, 7, 1, 3, "a", "b"),)).completeness
    assert item.gaps == ((8, 9),)
