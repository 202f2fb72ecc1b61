"""Tables: rules, accumulators, sources, carries, decisions, allocations."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from bridge.domain.accumulators import Key, Source, State
from bridge.domain.decisions import Decision
from bridge.domain.errors import ConfigError, RefusedError
from bridge.domain.records import RuleText
from bridge.domain.rules import Rule, RuleStart
from bridge.domain.units import Address, AssetId
from bridge.domain.windows import Window

if TYPE_CHECKING:
    from bridge.store.connection import Connection

SAVE_RULE = """
    INSERT INTO rules (chain, rule, version, content_hash, body) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (chain, rule, version) DO NOTHING
"""
SAVED_HASH = "SELECT content_hash FROM rules WHERE chain = $1 AND rule = $2 AND version = $3"
NEWEST_RULE = "SELECT version, body FROM rules WHERE chain = $1 AND rule = $2 ORDER BY version DESC LIMIT 1"

STARTS = "SELECT rule, block_number, since, contracts, stopped_at FROM rule_starts WHERE chain = $1"
STOP = "UPDATE rule_starts SET stopped_at = $3 WHERE chain = $1 AND rule = $2"
SAVE_START = """
    INSERT INTO rule_starts (chain, rule, block_number, since, contracts) VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (chain, rule) DO UPDATE SET contracts = excluded.contracts
"""

PAUSED = "SELECT rule FROM rule_pauses WHERE chain = $1 AND resumed_at IS NULL"
PAUSE = """
    INSERT INTO rule_pauses (chain, rule, paused) VALUES ($1, $2, $3)
    ON CONFLICT (chain, rule) WHERE resumed_at IS NULL DO NOTHING RETURNING pause_id
"""
RESUME = """
    UPDATE rule_pauses SET resumed_at = now(), resumed = $3
     WHERE chain = $1 AND rule = $2 AND resumed_at IS NULL RETURNING pause_id
"""

LAST = """
    SELECT window_start, window_end, block_number FROM decisions
     WHERE chain = $1 AND rule = $2 ORDER BY window_start DESC LIMIT 1
"""
COUNTED_FROM = """
    -- The end of the last decided window whose surplus was known; without one, the start of the first.
    SELECT COALESCE(
        (SELECT window_end FROM decisions
          WHERE chain = $1 AND rule = $2 AND determined ORDER BY window_start DESC LIMIT 1),
        (SELECT window_start FROM decisions WHERE chain = $1 AND rule = $2 ORDER BY window_start LIMIT 1))
"""
PAID = "SELECT COALESCE(sum(total), 0) FROM decisions WHERE chain = $1 AND rule = $2"
LAST_PAID_END = "SELECT max(window_end) FROM decisions WHERE chain = $1 AND rule = $2 AND verdict = 'pay'"

OWED = """
    -- Decided or carried by any rule: none of it may be found a second time.
    SELECT COALESCE((SELECT sum(total) FROM decisions WHERE chain = $1 AND asset = $2), 0)
         + COALESCE((SELECT sum(amount) FROM carries WHERE chain = $1 AND asset = $2), 0)
"""

CARRIES = "SELECT recipient, amount FROM carries WHERE chain = $1 AND rule = $2 AND asset = $3"
FORGET_CARRIES = "DELETE FROM carries WHERE chain = $1 AND rule = $2 AND asset = $3"

ALL_ACCUMULATORS = "SELECT input, account, value, weight, since FROM accumulators WHERE chain = $1 AND rule = $2"
ACCUMULATORS = """
    -- Of one input: each account is found through the primary key. A join with all keys wanted would leave the order
    -- of the two to estimates, and go through every account for each key where those are off, as in a new database.
    SELECT input, account, value, weight, since
      FROM accumulators WHERE chain = $1 AND rule = $2 AND input = $3 AND account = ANY($4::BYTEA[])
"""
SAVE_ACCUMULATORS = """
    INSERT INTO accumulators (chain, rule, input, account, value, weight, since)
    SELECT $1, $2, * FROM unnest($3::TEXT[], $4::BYTEA[], $5::NUMERIC[], $6::NUMERIC[], $7::BIGINT[])
    ON CONFLICT (chain, rule, input, account) DO UPDATE
       SET value = excluded.value, weight = excluded.weight, since = excluded.since
"""

SOURCES = """
    SELECT event, events, first_block, first_index, last_block, last_index
      FROM sources WHERE chain = $1 AND rule = $2 AND window_start = $3
"""
SAVE_SOURCE = """
    INSERT INTO sources (chain, rule, event, window_start, events, first_block, first_index, last_block, last_index)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (chain, rule, event) DO UPDATE
       SET window_start = excluded.window_start, events = excluded.events,
           first_block = excluded.first_block, first_index = excluded.first_index,
           last_block = excluded.last_block, last_index = excluded.last_index
"""

ADD = """
    INSERT INTO decisions
        (decision_id, chain, rule, version, asset, window_start, window_end, block_number, block_hash,
         verdict, reason, surplus, total, carried_in, carried_out, artifact, determined, approval)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
"""
NOTIFY = "SELECT pg_notify('bridge', 'decisions')"

TEXTS = """
    -- Each version of each rule that decided about an asset, from its first window on, with the record of that window.
    SELECT DISTINCT ON (d.rule, d.version) d.rule, d.version, r.body, d.window_start, d.artifact
      FROM decisions d JOIN rules r USING (chain, rule, version)
     WHERE d.chain = $1 AND d.asset = $2 AND d.window_end <= $3
     ORDER BY d.rule, d.version, d.window_start
"""
WERE_PAUSED = "SELECT DISTINCT rule FROM rule_pauses WHERE chain = $1"
ARTIFACT = "SELECT artifact FROM decisions WHERE chain = $1 AND rule = $2 AND window_start = $3"


class Decisions:
    """See ports.DecisionStore."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def newest_rule(self, chain: str, rule: str) -> tuple[int, str] | None:
        row = await self._connection.fetchrow(NEWEST_RULE, chain, rule)
        return None if row is None else (row["version"], row["body"])

    async def save_rule(self, chain: str, rule: Rule) -> None:
        await self._connection.execute(SAVE_RULE, chain, rule.name, rule.version, rule.content_hash, rule.body)
        saved = await self._connection.fetchval(SAVED_HASH, chain, rule.name, rule.version)
        where = f"rule {rule.name}: version"
        if saved != rule.content_hash:
            newest = await self._connection.fetchval(NEWEST_RULE, chain, rule.name)  # its first column
            raise ConfigError(
                f"version {rule.version} was loaded before with another text (sha256 {saved.hex()[:16]}…)",
                where=where,
                mend=f"raise it to {newest + 1}: each decision names the version that made it",
            )

    async def paused(self, chain: str) -> set[str]:
        return {row["rule"] for row in await self._connection.fetch(PAUSED, chain)}

    async def pause(self, chain: str, rule: str, told: str) -> None:
        if await self._connection.fetchval(PAUSE, chain, rule, told) is None:
            raise RefusedError(f"rule {rule} on {chain} is paused already")
        await self._connection.execute(NOTIFY)

    async def resume(self, chain: str, rule: str, told: str) -> None:
        if await self._connection.fetchval(RESUME, chain, rule, told) is None:
            raise RefusedError(f"rule {rule} on {chain} is not paused")
        await self._connection.execute(NOTIFY)

    async def starts(self, chain: str) -> dict[str, RuleStart]:
        """By rule; under '' that of the chain."""
        return {
            row["rule"]: RuleStart(row["block_number"], row["since"], json.loads(row["contracts"]), row["stopped_at"])
            for row in await self._connection.fetch(STARTS, chain)
        }

    async def save_start(self, chain: str, rule: str, start: RuleStart) -> None:
        """Where a rule began stays as it is; what its contracts are may change with a newer version."""
        contracts = json.dumps(start.contracts, sort_keys=True)
        await self._connection.execute(SAVE_START, chain, rule, start.block_number, start.since, contracts)

    async def stop(self, chain: str, rule: str, block_number: int) -> None:
        """The rule is not configured any more: after this block its events may not be read."""
        await self._connection.execute(STOP, chain, rule, block_number)

    async def last(self, chain: str, rule: str) -> tuple[Window, int] | None:
        row = await self._connection.fetchrow(LAST, chain, rule)
        return None if row is None else (Window(row["window_start"], row["window_end"]), row["block_number"])

    async def last_paid_end(self, chain: str, rule: str) -> int | None:
        end: int | None = await self._connection.fetchval(LAST_PAID_END, chain, rule)
        return end

    async def counted_from(self, chain: str, rule: str) -> int | None:
        found: int | None = await self._connection.fetchval(COUNTED_FROM, chain, rule)
        return found

    async def paid(self, chain: str, rule: str) -> int:
        total: int = await self._connection.fetchval(PAID, chain, rule)
        return total

    async def owed(self, chain: str, asset: AssetId) -> int:
        owed: int = await self._connection.fetchval(OWED, chain, asset)
        return owed

    async def carries(self, chain: str, rule: str, asset: AssetId) -> dict[Address, int]:
        rows = await self._connection.fetch(CARRIES, chain, rule, asset)
        return {Address(row["recipient"]): row["amount"] for row in rows}

    async def accumulators(self, chain: str, rule: str, keys: Collection[Key] | None = None) -> dict[Key, State]:
        if keys is None:
            rows = await self._connection.fetch(ALL_ACCUMULATORS, chain, rule)
        else:
            wanted: dict[str, list[Address]] = {}
            for name, account in keys:
                wanted.setdefault(name, []).append(account)
            rows = [
                row
                for name, accounts in wanted.items()
                for row in await self._connection.fetch(ACCUMULATORS, chain, rule, name, accounts)
            ]
        return {
            (row["input"], Address(row["account"])): State(row["value"], row["weight"], row["since"]) for row in rows
        }

    async def save_accumulators(self, chain: str, rule: str, states: Mapping[Key, State]) -> None:
        await self._connection.execute(
            SAVE_ACCUMULATORS,
            chain,
            rule,
            [name for name, _ in states],
            [account for _, account in states],
            [state.value for state in states.values()],
            [state.weight for state in states.values()],
            [state.since for state in states.values()],
        )

    async def sources(self, chain: str, rule: str, window: Window) -> dict[str, Source]:
        return {
            row["event"]: Source(
                row["events"], (row["first_block"], row["first_index"]), (row["last_block"], row["last_index"])
            )
            for row in await self._connection.fetch(SOURCES, chain, rule, window.start)
        }

    async def save_sources(self, chain: str, rule: str, window: Window, sources: Mapping[str, Source]) -> None:
        await self._connection.executemany(
            SAVE_SOURCE,
            [
                (chain, rule, event, window.start, source.count, *source.first, *source.last)
                for event, source in sources.items()
            ],
        )

    async def texts(self, chain: str, asset: AssetId, until: int) -> list[RuleText]:
        """By rule and version."""
        return [RuleText(**row) for row in await self._connection.fetch(TEXTS, chain, asset, until)]

    async def were_paused(self, chain: str) -> set[str]:
        return {row["rule"] for row in await self._connection.fetch(WERE_PAUSED, chain)}

    async def artifact(self, chain: str, rule: str, window_start: int) -> bytes | None:
        found: bytes | None = await self._connection.fetchval(ARTIFACT, chain, rule, window_start)
        return found

    async def add(self, chain: str, decision: Decision) -> None:
        decision_id = decision.decision_id
        await self._connection.execute(
            ADD,
            decision_id,
            chain,
            decision.rule,
            decision.version,
            decision.asset,
            decision.window.start,
            decision.window.end,
            decision.block.number,
            decision.block.hash,
            decision.verdict.value,
            decision.reason,
            decision.surplus,
            decision.total,
            decision.carried_in,
            decision.carried_out,
            decision.artifact,
            decision.determined,
            decision.approval,
        )
        await self._connection.copy_records_to_table(
            "allocations",
            records=[(decision_id, one.recipient, one.amount, one.carried_in) for one in decision.allocations],
            columns=["decision_id", "recipient", "amount", "carried_in"],
        )
        await self._connection.execute(FORGET_CARRIES, chain, decision.rule, decision.asset)
        await self._connection.copy_records_to_table(
            "carries",
            records=[
                (chain, decision.rule, decision.asset, recipient, amount)
                for recipient, amount in decision.carries.items()
            ],
            columns=["chain", "rule", "asset", "recipient", "amount"],
        )
        await self._connection.execute(NOTIFY)
