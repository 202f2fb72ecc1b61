"""How many recipients one transaction has room for, at worst.

A batch is bound to its proposal before anyone knows which token accounts will be missing when it is paid, so each
recipient is counted as a stranger to all others, with an account to be made where that is allowed. The same order and
configuration must pack alike for ever: a database that was lost is planned again, to the byte.

Lookup tables make room for more, and they grow, so what they make room for is bound on chain: one number of recipients
a batch, for all batches of a distribution, which its proposal names. An account that a table has is counted as there,
for tables list those that were paid before; should it be gone, its recipient is left out where it cannot be made.

    bytes   what every batch has + tables + for each recipient the more of: paying it, naming it as left out
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.chains.solana.lookups import ENTRY_BYTES, KEY_BYTES, TABLE_BYTES, Shelf
from bridge.chains.solana.markers import ROOM_MAX, Deed
from bridge.chains.solana.messages import (
    ACCOUNTS_MAX,
    INSTRUCTIONS_MAX,
    TRANSACTION_BYTES_MAX,
    Coin,
    Draft,
    Purse,
    Transfer,
    draft,
)
from bridge.chains.solana.payloads import BATCHES_MAX
from bridge.domain.units import Address

ELSEWHERE_BYTES = len(f":x#{ROOM_MAX}")


@functools.lru_cache(maxsize=64)
def capacity(purse: Purse, coin: Coin, *, create_accounts: bool) -> int:
    """Recipients of `coin` that fit one transaction of `purse` whoever they are, and whichever of them are left out.

    Measured by making such transactions. Leaving a recipient out names it in the memo, which takes less room than
    paying it.
    """
    count = 1
    while _strangers(purse, coin, count + 1, create_accounts).size <= TRANSACTION_BYTES_MAX:
        count += 1
    assert _strangers(purse, coin, count, create_accounts).size <= TRANSACTION_BYTES_MAX
    return count


def _strangers(purse: Purse, coin: Coin, count: int, create_accounts: bool) -> Draft:
    strangers = [Address(hashlib.sha256(b"%d" % number).digest()) for number in range(count)]
    creates = create_accounts and not coin.is_native
    transfers = [Transfer(stranger, 1, creates) for stranger in strangers]
    return draft(purse, Deed(bytes(32), BATCHES_MAX - 1), 0, coin, transfers)


# ── With lookup tables ──────────────────────────────────────────────────────────────────────────────────────────────
def widest(
    purse: Purse, coin: Coin, recipients: Sequence[Address], shelf: Shelf, *, create_accounts: bool, most: int
) -> int:
    """The largest number up to `most` for which every batch of so many of `recipients` (ascending) fits a transaction
    that uses `shelf`; at least what fits without. Takes about a second for 100,000 of them."""
    plain = min(most, capacity(purse, coin, create_accounts=create_accounts))
    if not shelf.tables:
        return plain
    weights = measure(purse, coin)
    people = [Person.of(recipient, coin, shelf, create_accounts=create_accounts) for recipient in recipients]
    tight = range(0)  # recipients who did not fit one batch: where the next number fails too, most likely
    for count in range(min(most, ROOM_MAX, len(people)), plain, -1):
        starts = itertools.chain(range(tight.start // count * count, tight.stop, count), range(0, len(people), count))
        failed = next((at for at in starts if not weights.fit(people[at : at + count], shelf)), None)
        if failed is None:
            return count
        tight = range(failed, failed + count)
    return plain


@dataclass(frozen=True, slots=True)
class Person:
    owner: Address
    holder: Address
    creates: bool  # its account is counted as one to be made

    @classmethod
    def of(cls, recipient: Address, coin: Coin, shelf: Shelf, *, create_accounts: bool) -> Person:
        holder = coin.account_of(recipient)
        return cls(recipient, holder, create_accounts and not coin.is_native and holder not in shelf)


@dataclass(frozen=True, slots=True)
class Weights:
    """Bytes of the parts of a transaction, without the accounts that tables may have; and how many accounts and
    instructions it has without recipients."""

    base: int
    transfer: int
    creation: int
    creator: int  # the program that makes accounts, once where one is made
    common: tuple[Address, ...]  # accounts of every transfer that tables may have
    accounts: int

    def fit(self, people: Sequence[Person], shelf: Shelf) -> bool:
        """Whether a batch of them fits, whichever of them are left out."""
        creating = sum(one.creates for one in people)
        accounts = self.accounts + len(self.common) + len(people) + creating
        if accounts > ACCOUNTS_MAX or Draft.steps_of(len(people), creating) > INSTRUCTIONS_MAX:
            return False
        return self.size(people, shelf) <= TRANSACTION_BYTES_MAX

    def size(self, people: Sequence[Person], shelf: Shelf) -> int:
        """Bytes that the transaction of a batch has at most."""
        keys = [*self.common, *(one.holder for one in people), *(one.owner for one in people if one.creates)]
        chosen = shelf.choose(keys)

        def key(account: Address) -> int:
            return ENTRY_BYTES if shelf.covers(account, chosen) else KEY_BYTES

        size = self.base + TABLE_BYTES * len(chosen) + sum(key(account) for account in self.common)
        size += self.creator if any(one.creates for one in people) else 0
        spare = ELSEWHERE_BYTES
        for one in people:
            paid = self.transfer + key(one.holder) + (self.creation + key(one.owner) if one.creates else 0)
            named = ENTRY_BYTES + key(one.owner)  # its index among the accounts of the marker's instruction
            size += max(paid, named)
            spare = min(spare, max(0, paid - named))
        return size + ELSEWHERE_BYTES - spare


@functools.lru_cache(maxsize=64)
def measure(purse: Purse, coin: Coin) -> Weights:
    """By making transactions of one recipient and of two."""
    one, two = (_strangers(purse, coin, count, False) for count in (1, 2))
    transfer = two.size - one.size - KEY_BYTES
    common = () if coin.is_native else (coin.account_of(purse.vault), coin.mint)
    base = one.size - transfer - KEY_BYTES * (1 + len(common))
    accounts = len(one.keys) - 1 - len(common)
    if coin.is_native:
        return Weights(base, transfer, 0, 0, common, accounts)
    made, both = (_strangers(purse, coin, count, True) for count in (1, 2))
    creation = both.size - made.size - transfer - 2 * KEY_BYTES
    creator = made.size - one.size - creation - KEY_BYTES
    return Weights(base, transfer, creation, creator, common, accounts + 1)
