"""What a run must come to, by hand-made traffic whose sums can be done in the head."""

from bridge.domain.units import Address
from bridge.simulation.scenario import fees, weights
from bridge.simulation.traffic import Act, Kind, TrafficBlock

ANN, BOB, PAYER = (Address(bytes([index]) * 20) for index in range(3))


def block(timestamp: int, *acts: Act) -> TrafficBlock:
    return TrafficBlock(timestamp, timestamp, acts, (b"",) * len(acts))


def fee(amount: int, token: str = "USDX") -> Act:
    return Act(Kind.FEE, PAYER, token, amount)


def deposit(who: Address, amount: int) -> Act:
    return Act(Kind.DEPOSIT, who, "USDX", amount)


def withdraw(who: Address, amount: int) -> Act:
    return Act(Kind.WITHDRAW, who, "USDX", amount)


def test_fees__at_the_edges_of_the_window__start_counts_and_end_does_not():
    history = [block(9, fee(1)), block(10, fee(20)), block(19, fee(300), fee(7, "DAIX")), block(20, fee(4000))]
    assert fees(history, 10, 20) == {"USDX": 320, "DAIX": 7}


def test_fees__other_acts__do_not_count():
    history = [block(10, deposit(ANN, 5), Act(Kind.NOISE, PAYER, "USDX", 6), Act(Kind.INCUR, PAYER, "USDX", 7))]
    assert fees(history, 10, 20) == {}


def test_weights__deposit_before_the_window__counts_for_all_of_it():
    assert weights([block(3, deposit(ANN, 7))], 10, 20) == {ANN: 70}


def test_weights__deposit_and_withdrawal_within__count_for_the_time_between():
    history = [block(12, deposit(ANN, 7), deposit(BOB, 1)), block(15, withdraw(ANN, 7)), block(20, deposit(BOB, 100))]
    assert weights(history, 10, 20) == {ANN: 21, BOB: 8}


def test_weights__all_taken_out_before__is_left_out():
    history = [block(3, deposit(ANN, 7)), block(9, withdraw(ANN, 7)), block(10, deposit(BOB, 2))]
    assert weights(history, 10, 20) == {BOB: 20}
