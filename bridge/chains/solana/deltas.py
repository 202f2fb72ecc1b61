"""What accounts held before and after a transaction, turned into who paid whom.

    account  a   b   c   d          a pays c 30, then b pays c 10 and d 40, and 10 of b's go to nobody:
    change  −30 −60 +40 +40         burnt, or withheld by the token itself

Debtors and creditors of one mint are matched greedily, both in ascending order of their account's address, so that
everybody who looks finds the same payments. What creditors have too much comes from nobody: it was minted. A program
may have meant other pairs; the sums for each account are the chain's own.

Of the native coin, transfers that the transaction itself orders are told as they are, and only the rest is matched:
else a payout of it would seem to fund the marker, and the operator, who does, to pay the recipient.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bridge.chains.solana.programs import NATIVE, SYSTEM
from bridge.chains.solana.transactions import Transaction
from bridge.domain.errors import ChainDisagrees
from bridge.domain.units import Address

NOBODY = Address(bytes(32))
"""Pays what is minted and receives what is burnt, as the zero address does on EVM chains."""


_TRANSFER = (2).to_bytes(4, "little")


@dataclass(frozen=True, slots=True)
class Party:
    """One account of one mint: a token account, or for the native coin the account itself."""

    account: Address
    owner: Address | None


@dataclass(frozen=True, slots=True)
class Payment:
    """`amount` atoms of `mint`, more than zero; one side at most is None, which is nobody."""

    mint: Address
    source: Party | None
    target: Party | None
    amount: int


def payments(transaction: Transaction) -> list[Payment]:
    """All payments of a transaction: its fee first, then those of the native coin, then by mint.

    Depends on the chain alone, not on what is watched: so the place of a payment in this list names it for good.
    Raises ChainDisagrees where the balances cannot be those of such a transaction.
    """
    payer = Party(transaction.keys[0], transaction.keys[0])
    found = [Payment(NATIVE, payer, None, transaction.fee)] if transaction.fee else []
    by_mint: defaultdict[Address, list[tuple[Party, int]]] = defaultdict(list)
    for index, (key, (before, after)) in enumerate(zip(transaction.keys, transaction.lamports, strict=True)):
        by_mint[NATIVE].append((Party(key, key), after - before + (0 if index else transaction.fee)))
    for holding in transaction.holdings:
        by_mint[holding.mint].append((Party(holding.account, holding.owner), holding.after - holding.before))
    if not transaction.succeeded and any(holding.before != holding.after for holding in transaction.holdings):
        raise ChainDisagrees("a transaction that failed moved tokens")
    ordered = list(_ordered(transaction)) if transaction.succeeded else []
    by_mint[NATIVE] = _without(by_mint[NATIVE], ordered)
    found += ordered
    return found + [payment for mint, changes in sorted(by_mint.items()) for payment in _match(mint, changes)]


def _ordered(transaction: Transaction) -> Iterator[Payment]:
    """Transfers of the native coin among the instructions that were signed: 2 as u32, lamports as u64."""
    for step in transaction.steps:
        if step.program == bytes(SYSTEM) and len(step.data) == 12 and step.data[:4] == _TRANSFER:
            source, target = map(Address, step.accounts[:2])
            if amount := int.from_bytes(step.data[4:], "little") * (source != target):
                yield Payment(NATIVE, Party(source, source), Party(target, target), amount)


def _without(changes: Iterable[tuple[Party, int]], ordered: Iterable[Payment]) -> list[tuple[Party, int]]:
    """What is left to explain of the changes."""
    moved: Counter[Party | None] = Counter()
    for payment in ordered:
        moved[payment.source] -= payment.amount
        moved[payment.target] += payment.amount
    return [(party, change - moved[party]) for party, change in changes]


def _match(mint: Address, changes: Iterable[tuple[Party, int]]) -> list[Payment]:
    ordered = sorted(changes, key=lambda change: change[0].account)
    debts = [(party, -change) for party, change in ordered if change < 0]
    credits_ = [(party, change) for party, change in ordered if change > 0]
    found: list[Payment] = []
    while debts and credits_:
        (debtor, owed), (creditor, due) = debts[0], credits_[0]
        amount = min(owed, due)
        found.append(Payment(mint, debtor, creditor, amount))
        _reduce(debts, amount)
        _reduce(credits_, amount)
    found += [Payment(mint, debtor, None, owed) for debtor, owed in debts]
    return found + [Payment(mint, None, creditor, due) for creditor, due in credits_]


def _reduce(queue: list[tuple[Party, int]], amount: int) -> None:
    party, open_ = queue[0]
    queue[:1] = [(party, open_ - amount)] if open_ > amount else []
