"""Lookup tables, as they lie in memory.

0 kind (4, 1: a table)   4 deactivated in slot (8, all ones: not)   12 last extended in slot (8)
20 index of the first address of that extension (1)   21 authority? (1 + 32)   54 padding   56 addresses, 32 each
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import solders.address_lookup_table_account as lookup
from solders.account import Account
from solders.pubkey import Pubkey

META_SIZE = 56
NEVER = 2**64 - 1
PROGRAM_NAME = "address-lookup-table"


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A table. What it got last can be used from the slot after `extended_in` on."""

    deactivated_in: int | None  # slot
    extended_in: int  # slot
    extended_from: int  # how many addresses there were before that
    authority: Pubkey | None  # None: frozen
    addresses: tuple[Pubkey, ...]


def read_table(account: Account | None) -> LookupTable | None:
    """None: it is no table."""
    if account is None or account.owner != lookup.ID:
        return None
    data = bytes(account.data)
    if len(data) < META_SIZE or data[:4] != (1).to_bytes(4, "little") or (len(data) - META_SIZE) % Pubkey.LENGTH:
        return None
    deactivated = int.from_bytes(data[4:12], "little")
    return LookupTable(
        deactivated_in=None if deactivated == NEVER else deactivated,
        extended_in=int.from_bytes(data[12:20], "little"),
        extended_from=data[20],
        authority=Pubkey.from_bytes(data[22:54]) if data[21] else None,
        addresses=tuple(
            Pubkey.from_bytes(data[start : start + Pubkey.LENGTH])
            for start in range(META_SIZE, len(data), Pubkey.LENGTH)
        ),
    )


def parsed_table(table: LookupTable) -> dict[str, Any]:
    """What `jsonParsed` says of it. A frozen one names no authority."""
    info = {
        "deactivationSlot": str(NEVER if table.deactivated_in is None else table.deactivated_in),
        "lastExtendedSlot": str(table.extended_in),
        "lastExtendedSlotStartIndex": table.extended_from,
        "addresses": [str(address) for address in table.addresses],
    }
    return {"type": "lookupTable", "info": info | ({"authority": str(table.authority)} if table.authority else {})}
