"""What a scene says that its rule must find and give to whom, by hand-made traffic whose sums are easily done."""

from dataclasses import replace

from bridge.domain.units import Address
from bridge.simulation.audit import audit_rule
from bridge.simulation.scenario import Decided, amounts_of, fixed, window_ends
from bridge.simulation.scenes import SCENES
from bridge.simulation.scenes.scene import SceneRule
from bridge.simulation.traffic import Act, Kind, TrafficBlock

ANN, BOB, CAROL, PAYER = (Address(bytes([index]) * 20) for index in range(1, 5))
OPERATOR = Address(bytes(19) + b"\xa1")
DOLLAR, ETHER = 10**6, 10**18


def block(timestamp: int, *acts: Act) -> TrafficBlock:
    return TrafficBlock(timestamp, timestamp, acts, (b"",) * len(acts))


def act(kind: Kind, amount: int, who: Address = PAYER, volume: int = 0, *about: Address, token: str = "USDX") -> Act:
    return Act(kind, who, token, amount, volume, about)


def windows(count: int = 2) -> list[Decided]:
    """[10, 20), [20, 30), …: nothing is said of what was found in them."""
    return [Decided((10 * index, 10 * index + 10), 0, 0, {}) for index in range(1, count + 1)]


def of(name: str) -> SceneRule:
    [rule] = SCENES[name].rules
    return rule


def test_inflow_smoothing__members_at_the_end__share_alike_beside_the_operator():
    history = [
        block(9, act(Kind.INFLOW, 1), act(Kind.REGISTER, 0, ANN), act(Kind.REGISTER, 0, BOB)),
        block(10, act(Kind.INFLOW, 20), act(Kind.FEE, 7)),
        block(19, act(Kind.INFLOW, 300), act(Kind.BAN, 0, PAYER, 0, ANN)),
        block(20, act(Kind.LEAVE, 0, BOB), act(Kind.REGISTER, 0, CAROL)),
    ]
    rule = of("inflow_smoothing")
    assert rule.surplus is not None
    assert rule.surplus(history, windows()) == [320, 0]
    assert rule.weights is not None
    assert rule.weights(history, windows()) == [{BOB: 9_500, OPERATOR: 500}, {CAROL: 9_500, OPERATOR: 500}]


def test_price_improvement__the_smaller_of_both_parts__for_trader_and_partner():
    history = [
        block(10, act(Kind.TRADE, 101, PAYER, 100_000, ANN, CAROL)),  # half of it, rounded down
        block(11, act(Kind.TRADE, 900, PAYER, 7_000, BOB, CAROL)),  # a hundredth of the volume
        block(20, act(Kind.TRADE, 8, PAYER, 100_000, BOB, CAROL), act(Kind.GAIN, 5, ANN)),
    ]
    rule = of("price_improvement")
    assert rule.surplus is not None
    assert rule.surplus(history, windows()) == [120, 4]
    assert rule.weights is not None
    assert rule.weights(history, windows()) == [
        {ANN: 50 * 7_000, BOB: 70 * 7_000, CAROL: 120 * 3_000},
        {BOB: 4 * 7_000, CAROL: 4 * 3_000},
    ]


def test_signed_buffer__short_in_one_window__made_good_in_the_next():
    history = [
        block(9, act(Kind.SHORTFALL, 1_000, ANN)),  # before the first window
        block(10, act(Kind.GAIN, 50, ANN), act(Kind.SHORTFALL, 80, BOB), act(Kind.GAIN, 30, BOB)),
        block(20, act(Kind.GAIN, 60, BOB), act(Kind.SHORTFALL, 5, ANN)),
        block(30, act(Kind.GAIN, 6, ANN)),
    ]
    rule = of("signed_buffer")
    assert rule.surplus is not None
    assert rule.surplus(history, windows(3)) == [50, 10, 1]
    assert rule.weights is not None
    assert rule.weights(history, windows(3)) == [{ANN: 50}, {BOB: 10}, {ANN: 1}]


def test_yield_skim__loss_between_two_harvests__only_what_is_above_the_best_is_skimmed():
    many = 10**30  # so many atoms that the one beside all shares is none
    history = [
        block(10, act(Kind.DEPOSIT, 100 * many, ANN, 100 * many)),
        block(20, act(Kind.HARVEST, 10 * many)),
        block(30, act(Kind.LOSS, 20 * many)),
        block(40, act(Kind.HARVEST, 24 * many)),
    ]
    rule = of("yield_skim")
    assert rule.surplus is not None
    found = rule.surplus(history, windows(4))
    assert [-(-each // many) for each in found] == [0, 5, 0, 2]
    assert rule.weights is not None
    assert rule.weights(history, windows(2)) == [{ANN: 1_000 * many}, {ANN: 1_000 * many}]


def test_liquidation_gain__deposits_of_the_last_second__come_too_late():
    history = [
        block(12, act(Kind.DEPOSIT, 7, ANN)),
        block(18, act(Kind.WITHDRAW, 2, ANN), act(Kind.DEPOSIT, 1, BOB)),
        block(19, act(Kind.DEPOSIT, 100, CAROL), act(Kind.LIQUIDATION, 40), act(Kind.LIQUIDATION, 2)),
    ]
    rule = of("liquidation_gain")
    assert rule.surplus is not None
    assert rule.surplus(history, windows(1)) == [42]
    assert rule.weights is not None
    assert rule.weights(history, windows(1)) == [{ANN: 5, BOB: 1}]


def test_reserve_buffer__what_was_given_away__is_not_found_again():
    history = [
        block(10, act(Kind.FEE, 5 * DOLLAR), act(Kind.FEE, 9 * ETHER, token="DAIX"), act(Kind.INCUR, 3 * DOLLAR)),
        block(20, act(Kind.SETTLE, DOLLAR), act(Kind.FEE, 10 * DOLLAR)),
    ]
    rule = of("reserve_buffer")
    assert rule.surplus is not None
    first, second = windows()
    first = replace(first, paid={ANN: 10_000 * DOLLAR})
    assert rule.surplus(history, [first, second]) == [10_002 * DOLLAR, 13 * DOLLAR]
    assert rule.surplus(history, [replace(first, paid={ANN: 20_000 * DOLLAR}), second])[1] == 0


def test_treasury_over_reserve__the_smaller_of_both__at_the_price_of_the_windows_end():
    price = 10**8
    history = [
        block(10, act(Kind.PRICE, 1_000 * price, token="WETH"), act(Kind.FEE, 100_000 * DOLLAR)),
        block(20, act(Kind.BUDGET, 73_250 * DOLLAR), act(Kind.FEE, ETHER, token="WETH")),
        block(30, act(Kind.PRICE, price, token="WETH")),
    ]
    rule = of("treasury_over_reserve")
    assert rule.surplus is not None
    first, *others = windows(3)
    first = replace(first, paid={ANN: 1_000 * DOLLAR})
    # 400 000 and 40 ether at 1 000, less 6 × 64 000: more than a twentieth of the dollars. Then 399 000 and 41 ether,
    # less 6 × 73 250. Then ether is worth nothing.
    assert rule.surplus(history, [first, *others]) == [20_000 * DOLLAR, 500 * DOLLAR, 0]


# ── Against what the daemon says ────────────────────────────────────────────────────────────────────────────────────
INFLOWS = SceneRule(
    "inflow_smoothing",
    "inflow_smoothing",
    surplus=amounts_of(Kind.INFLOW),
    weights=fixed({ANN: 2, BOB: 1}),
)
INFLOW = [block(10, act(Kind.INFLOW, 100)), block(25, act(Kind.INFLOW, 250))]


def test_audit_rule__as_the_traffic_says__nothing_is_wrong():
    decided = [Decided((10, 20), 100, 0, {ANN: 67, BOB: 33}), Decided((20, 30), 250, 0, {ANN: 166, BOB: 84})]
    assert audit_rule(INFLOWS, INFLOW, decided, [20, 30]) == []


def test_audit_rule__an_atom_too_much_and_a_window_left_out__both_said():
    assert audit_rule(INFLOWS, INFLOW, [Decided((10, 20), 101, 0, {})], [20, 30]) == [
        "inflow_smoothing has no decision for the window until 30",
        "inflow_smoothing found 101 atoms in the window (10, 20), 100 follow from what was done in it",
    ]


def test_audit_rule__given_to_the_wrong_one__said_of_both_unless_something_was_carried():
    decided = Decided((10, 20), 100, 0, {ANN: 67, CAROL: 33})
    first, second = audit_rule(INFLOWS, INFLOW, [decided], [20])
    assert "0202 0 of 100 atoms in the window (10, 20), its share is 1 of 3" in first
    assert "0303 33 of 100 atoms in the window (10, 20), its share is 0 of 3" in second
    assert audit_rule(INFLOWS, INFLOW, [replace(decided, carried=1)], [20]) == []


def test_window_ends__of_epochs__those_within():
    assert window_ends([], None, 10, 20, 45) == [30, 40]
    assert window_ends([], None, 10, 20, 20) == []


def test_window_ends__after_each_liquidation__one_a_second():
    liquidation = act(Kind.LIQUIDATION, 1)
    history = [
        block(9, liquidation),
        block(10, liquidation, liquidation),
        block(11, act(Kind.FEE, 1)),
        block(14, liquidation),
        block(20, liquidation),
    ]
    assert window_ends(history, Kind.LIQUIDATION, 10, 10, 20) == [11, 15]
