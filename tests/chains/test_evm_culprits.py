"""Whoever makes a batch revert is found, all of them, in few questions; and nobody else is named."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from bridge.chains.evm.culprits import Culprits, Part
from bridge.domain.payouts import Payout
from bridge.domain.units import Address

SELECTOR = b"\x01\x02\x03\x04"


class Simulated(Culprits):
    """A part fails where it holds one of `bad`."""

    def __init__(self, bad: set[Address]) -> None:
        self.bad = bad
        self.rounds = 0

    async def _simulated(self, parts: Sequence[Part]) -> list[bytes]:
        self.rounds += 1
        paid = [payout for part in parts for payout in part]
        assert len(paid) == len(set(paid)), "parts of a round are disjoint"
        return [SELECTOR if any(payout.recipient in self.bad for payout in part) else b"" for part in parts]


def batch(size: int) -> Part:
    return tuple(Payout(Address(n.to_bytes(20, "big")), 1) for n in range(1, size + 1))


@pytest.mark.parametrize("size", [2, 3, 7, 200, 250])
async def test_find__some_of_many__exactly_those(size: int):
    payouts = batch(size)
    for seed in range(20):
        bad = {one.recipient for one in random.Random(seed).sample(payouts, random.Random(seed).randint(1, size - 1))}
        search = Simulated(bad)
        assert set(await search.find(payouts, SELECTOR)) == bad, f"seed {seed}"
        assert search.rounds <= size.bit_length() + 1


async def test_find__nobody__none_and_one_question():
    search = Simulated(set())
    assert await search.find(batch(200), SELECTOR) == ()
    assert search.rounds == 1


@pytest.mark.parametrize("size", [1, 9])
async def test_find__everybody__it_is_not_who_is_paid(size: int):
    payouts = batch(size)
    assert await Simulated({one.recipient for one in payouts}).find(payouts, SELECTOR) == ()
