"""Lookup tables: accounts that list addresses, so that a transaction names each with one byte instead of 32.

Naming a table costs 34 bytes and each of its entries saves 31, so a table is used where it has two accounts or more.
How tables are read is in tables.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from solders.address_lookup_table_account import AddressLookupTableAccount
from solders.pubkey import Pubkey

from bridge.domain.units import Address

ENTRIES_MAX = 256
KEY_BYTES, ENTRY_BYTES = 32, 1
TABLE_BYTES = 34  # its address, and the lengths of two lists


@dataclass(frozen=True, slots=True)
class Table:
    address: Address
    entries: tuple[Address, ...]
    ended_in: int | None = None  # slot in which it was deactivated
    authority: Address | None = None  # who may extend and close it; None: nobody
    lamports: int = 0


class Shelf:
    """Tables that can be used, at one moment. Never changes."""

    def __init__(self, tables: Iterable[Table] = ()) -> None:
        self.tables = tuple(tables)
        self._given = [
            AddressLookupTableAccount(Pubkey(table.address), [Pubkey(entry) for entry in table.entries])
            for table in self.tables
        ]
        self._places: dict[Address, tuple[int, ...]] = {}  # account → tables that have it, by their place
        for place, table in enumerate(self.tables):
            for entry in set(table.entries):
                self._places[entry] = (*self._places.get(entry, ()), place)

    def __contains__(self, account: Address) -> bool:
        return account in self._places

    def choose(self, accounts: Iterable[Address]) -> tuple[int, ...]:
        """The places of the tables that shorten a transaction with these accounts: the one with most of them first,
        then the one with most of what is left. Of two alike, the one that is configured first."""
        left = [places for account in accounts if (places := self._places.get(account)) is not None]
        chosen: list[int] = []
        while left:
            counts = Counter(place for places in left for place in places)
            best = min(counts, key=lambda place: (-counts[place], place))
            if counts[best] * (KEY_BYTES - ENTRY_BYTES) <= TABLE_BYTES:
                break
            chosen.append(best)
            left = [places for places in left if best not in places]
        return tuple(chosen)

    def given(self, places: Iterable[int]) -> tuple[AddressLookupTableAccount, ...]:
        """The tables at these places, as messages are compiled with them."""
        return tuple(self._given[place] for place in places)

    def covers(self, account: Address, chosen: Iterable[int]) -> bool:
        """Whether one of the chosen tables has the account."""
        places = self._places.get(account, ())
        return any(place in places for place in chosen)


EMPTY = Shelf()
