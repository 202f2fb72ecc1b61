"""Lookup tables as the chain has them. What is in them decides where money goes.

    0 kind (4, 1: a table)   4 deactivated in slot (8, all ones: not)   12 last extended in slot (8)
    20 first index of that extension (1)   21 authority? (1 + 32)   54 padding   56 addresses, 32 each

So they are read of the finalized state, as two endpoints tell it. Entries are only ever appended, and the address of a
table that was closed is never used again (it is derived from a slot that was recent when it was made): what was read
once stays true. A table that was deactivated serves no new transaction of ours: soon it will serve none at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from solders.pubkey import Pubkey

from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana import rpc as values
from bridge.chains.solana.accounts import ACCOUNTS_MAX, Account, read_account
from bridge.chains.solana.lookups import EMPTY, KEY_BYTES, Shelf, Table
from bridge.chains.solana.rpc import FINALIZED, SolanaRpc
from bridge.domain.errors import ChainDisagrees, ConfigError
from bridge.domain.units import Address, format_address

TABLE_PROGRAM = Pubkey.from_string("AddressLookupTab1e1111111111111111111111111")
META_BYTES = 56
NEVER = 2**64 - 1


def read_table(address: Address, account: Account | None) -> Table | None:
    """None where no table is there."""
    if account is None or account.owner != TABLE_PROGRAM:
        return None
    data = account.data
    if len(data) < META_BYTES or data[:4] != b"\1\0\0\0" or (len(data) - META_BYTES) % KEY_BYTES:
        return None
    ended_in = int.from_bytes(data[4:12], "little")
    return Table(
        address,
        tuple(Address(data[at : at + KEY_BYTES]) for at in range(META_BYTES, len(data), KEY_BYTES)),
        None if ended_in == NEVER else ended_in,
        Address(data[22:54]) if data[21] else None,
        account.lamports,
    )


async def read_tables(rpc: SolanaRpc, addresses: Sequence[Address]) -> list[Table | None]:
    """In the order of `addresses`, None where there is no table: finalized, as two endpoints tell it where there are
    two. Raises ChainUnavailable, ChainDisagrees: also for a while after one was extended."""
    found: list[Table | None] = []
    for start in range(0, len(addresses), ACCOUNTS_MAX):
        some = addresses[start : start + ACCOUNTS_MAX]

        async def ask(endpoint: Endpoint, some: Sequence[Address] = some) -> tuple[Table | None, ...]:
            options = {**FINALIZED, "encoding": "base64"}
            answer = await rpc.call_on(endpoint, "getMultipleAccounts", [[*map(values.text, some)], options])
            _, told = values.in_context(answer)
            if not isinstance(told, list) or len(told) != len(some):
                raise ChainDisagrees(f"{endpoint.name} sent something else than {len(some)} accounts")
            return tuple(read_table(address, read_account(value)) for address, value in zip(some, told, strict=True))

        found += await rpc.agreed_by(ask, "getMultipleAccounts")
    return found


async def check_tables(rpc: SolanaRpc, addresses: Sequence[Address], where: str) -> None:
    """Raises ConfigError where one of the configured tables is none, or serves no longer; ChainUnavailable,
    ChainDisagrees."""
    for address, table in zip(addresses, await read_tables(rpc, addresses), strict=True):
        problem = _problem(table)
        if problem is not None:
            raise ConfigError(
                f"{format_address(address)} {problem}",
                where=where,
                mend="take it out; `bridge lookup-tables list` tells what is there, `extend` makes new ones",
            )


def _problem(table: Table | None) -> str | None:
    if table is None:
        return "is no lookup table of this cluster, or not in a final block yet"
    return None if table.ended_in is None else f"was deactivated in slot {table.ended_in}"


# ── Those that are configured ─────────────────────────────────────────────────────────────────────────────────────────
class Tables:
    """The configured tables, as they were read last."""

    def __init__(self, rpc: SolanaRpc, addresses: Sequence[Address]) -> None:
        self._rpc = rpc
        self._addresses = tuple(addresses)
        self._shelf: Shelf | None = EMPTY if not addresses else None
        self.problems: Mapping[Address, str] = {}  # of tables that cannot be used

    async def shelf(self, *, fresh: bool = False) -> Shelf:
        """Those that can be used; read anew where it is wanted `fresh`, for what was added since. Raises
        ChainUnavailable, ChainDisagrees."""
        if self._shelf is None or (fresh and self._addresses):
            found = await read_tables(self._rpc, self._addresses)
            pairs = list(zip(self._addresses, found, strict=True))
            self.problems = {address: problem for address, table in pairs if (problem := _problem(table)) is not None}
            self._shelf = Shelf(table for table in found if table is not None and table.ended_in is None)
        return self._shelf
