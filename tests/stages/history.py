"""A scripted chain read as history: in ranges, as a node gives it to whoever keeps no database."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Sequence
from typing import cast

from bridge.chains.fake.chain import matches
from bridge.domain.events import Block, BlockAdded, pack_logs
from bridge.domain.units import Address, AssetId, BlockStamp
from bridge.ports.reading import ChainReader, LogFilter
from tests.stages.deciding import BOOK, TOKENS, VAULT, ScriptedChain

ACCOUNTS = [Address(bytes([n]) * 20) for n in (0xA1, 0xB0, 0xB1, 0xB2)]


class LivelyChain(ScriptedChain):
    """Holds another balance at every block."""

    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        assert (account, asset, at.hash) == (VAULT, TOKENS["USDX"].asset, self.at(at.number).hash)
        return self.held + at.number * 7

    @property
    def reader(self) -> ChainReader:
        return cast("ChainReader", self)


class UnevenChain(LivelyChain):
    """Its blocks do not come at even times."""

    def at(self, number: int) -> Block:
        """Every fourth block comes in the second of the one before it."""
        block = super().at(number)
        return Block(number, block.hash, b"", 1000 + 10 * (number - number // 4))


class ScriptedHistory:
    """Implements ports.History: ranges of `width` blocks, in which only the last block and those with logs are told."""

    def __init__(self, chain: ScriptedChain, width: int = 7) -> None:
        self._chain = chain
        self._width = width

    async def finalized(self) -> Block | None:
        return self._chain.at(self._chain.final) if self._chain.final >= 0 else None

    async def ranges(self, first: int, last: int, filters: Sequence[LogFilter]) -> AsyncGenerator[BlockAdded, None]:
        assert last <= self._chain.final
        for start in range(first, last + 1, self._width):
            stop = min(start + self._width - 1, last)
            logs = [
                log
                for log in self._chain.entries
                if start <= log.block.number <= stop and any(matches(each, log) for each in filters)
            ]
            told = sorted({stop, *(log.block.number for log in logs)})
            yield BlockAdded(start, tuple(self._chain.at(number) for number in told), pack_logs(logs))


def populate(chain: ScriptedChain, seed: int, blocks: int, *, made: bool = False) -> None:
    """Deposits, withdrawals, fees and releases, all from `seed`; everything is final in the end. With `made`, accounts
    are contracts that a factory makes, too."""
    dice = random.Random(seed)
    held: dict[Address, int] = dict.fromkeys(ACCOUNTS, 0)
    for number in range(blocks):
        for _ in range(dice.choice([0, 0, 0, 1, 1, 2])):
            who = dice.choice(ACCOUNTS)
            usual = ["deposit", "deposit", "withdraw", "fee", "fee", "other", "release"]
            what = dice.choice([*usual, *(["made", "fee of a made one"] if made else [])])
            amount = dice.randrange(1, 1000)
            if what == "deposit":
                chain.deposit(number, who, amount)
                held[who] += amount
            elif what == "withdraw" and held[who]:
                amount = dice.randrange(1, held[who] + 1)
                chain.withdraw(number, who, amount)
                held[who] -= amount
            elif what == "fee":
                chain.fee(number, amount)
            elif what == "other":
                chain.fee(number, amount, token=who)
            elif what == "release":
                declaration = "Released(address token, uint256 amount)"
                chain.emit(number, VAULT, declaration, token=TOKENS["USDX"].address, amount=dice.randrange(1, 5))
            elif what == "made":
                chain.emit(number, BOOK, "Created(address pool)", pool=who)
            elif what == "fee of a made one":
                chain.fee(number, amount, emitter=who)
    chain.final = blocks - 1
