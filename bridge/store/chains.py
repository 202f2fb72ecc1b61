"""Tables `chains` and `cursors`: which chains this database serves, and how far each stage has come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.domain.errors import ConfigError
from bridge.domain.units import BlockStamp, format_hash, hash_of

if TYPE_CHECKING:
    from bridge.store.connection import Connection

REGISTER = """
    INSERT INTO chains (chain, kind, reference, genesis_hash, start_block) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (chain) DO NOTHING
"""
REGISTERED = "SELECT reference, genesis_hash, start_block FROM chains WHERE chain = $1"
ENSURE_PARTITIONS = "SELECT ensure_partitions($1, $2)"
CURSOR = "SELECT block_number, block_hash FROM cursors WHERE stage = $1 AND scope = $2"
MOVE_CURSOR = """
    INSERT INTO cursors (stage, scope, block_number, block_hash) VALUES ($1, $2, $3, $4)
    ON CONFLICT (stage, scope) DO UPDATE
       SET block_number = excluded.block_number, block_hash = excluded.block_hash, updated_at = now()
"""


class Chains:
    """Stores of one transaction are made by `Transaction`; they never commit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def register(self, chain: str, kind: str, reference: str, genesis_hash: bytes, start_block: int) -> None:
        """Note the chain at its first use. Raises ConfigError where the name already stands for another chain."""
        await self._connection.execute(REGISTER, chain, kind, reference, genesis_hash, start_block)
        row = await self._connection.fetchrow(REGISTERED, chain)
        assert row is not None
        known = format_hash(hash_of(row["genesis_hash"], row["reference"]))
        if (row["reference"], row["genesis_hash"]) != (reference, genesis_hash):
            raise ConfigError(
                f"the database knows this name as {row['reference']} with genesis {known[:18]}…, "
                f"the node serves {reference} with genesis {format_hash(hash_of(genesis_hash, reference))[:18]}…",
                where=f"[chains.{chain}]",
                mend="use a new database for a new chain, or correct the rpc",
            )
        if row["start_block"] != start_block:
            raise ConfigError(
                f"start_block is {start_block}, but the database was filled from block {row['start_block']}",
                where=f"[chains.{chain}] start_block",
                mend=f"set it back to {row['start_block']}; a database cannot be extended into the past",
            )
        await self.ensure_partitions(chain, start_block)

    async def ensure_partitions(self, chain: str, through_block: int) -> None:
        await self._connection.execute(ENSURE_PARTITIONS, chain, through_block)

    async def cursor(self, stage: str, scope: str) -> tuple[int, bytes] | None:
        """(block number, block hash) up to which `stage` is done, or None before its first commit."""
        row = await self._connection.fetchrow(CURSOR, stage, scope)
        return None if row is None else (row["block_number"], row["block_hash"])

    async def move_cursor(self, stage: str, scope: str, stamp: BlockStamp) -> None:
        await self._connection.execute(MOVE_CURSOR, stage, scope, stamp.number, stamp.hash)
