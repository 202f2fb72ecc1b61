"""A small complete world, as rows: what the tests of reports and explanations read.

Blocks 0 … 40 of one chain, 10 s apart, block 12 once reorganised. Amounts in USDX (6 decimals):

    block  5   a fee of 1,000 comes in                          block 15  a fee of 250.5; somebody donates 7 (break)
    block  9   fee_window decides 999.4, carries 0.6            block 19  reserve_buffer decides 200
    block 22   proposed; block 24 paid: 600 to ALICE,           block 26  proposed; its batch is sent, bumped once, and
               399.4 credited to BOB, whose transfer failed               not included: CAROL's 200 are in flight
    block 40   reconciled: all balances agree, one break is open
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from bridge.store.database import Database, Transaction

CHAIN = "anvil"
USDX = "eip155:31337/erc20:0x" + "aa" * 20
ETH = "eip155:31337/slip44:60"
TOKEN, VAULT, DISTRIBUTOR, OPERATOR = (bytes([n]) * 20 for n in (0xAA, 0x01, 0x02, 0x03))
ALICE, BOB, CAROL, PAYER = (bytes([n]) * 20 for n in (0xA1, 0xB0, 0xCA, 0xFE))
T0 = 1_790_000_000  # time of block 0
UNIT = 10**6
WEI = 10**18
LOADED = datetime.fromtimestamp(T0 + 500, UTC)


def block_hash(number: int) -> bytes:
    return hashlib.sha256(b"block %d" % number).digest()


def tx(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def hexed(value: bytes) -> str:
    return "0x" + value.hex()


VAULT_CODE, DISTRIBUTOR_CODE = "vault:" + hexed(VAULT), "distributor:" + hexed(DISTRIBUTOR)
OPERATOR_CODE = "operator:gas:" + hexed(OPERATOR)


@dataclass(frozen=True, slots=True)
class World:
    paid_decision: bytes
    flying_decision: bytes
    paid_distribution: bytes
    flying_distribution: bytes
    execute_tx: bytes  # of the paid distribution
    bumped_tx: bytes  # newest attempt of the one in flight


async def build_world(database: Database) -> World:
    async with database.begin() as transaction:
        return await _Builder(transaction).build()


def artifact(rule: str, first: int, last: int, fee: int, allocations: dict[bytes, int]) -> bytes:
    """A decision's canonical JSON, in the shape that the decide stage writes."""
    total = sum(allocations.values())
    return json.dumps(
        {
            "rule": {"name": rule, "version": 1, "content_hash": hexed(tx(rule))},
            "window": {"start": T0 + 10 * first, "end": T0 + 10 * last},
            "trace": [{"name": "surplus", "value": str(fee)}],
            "allocations": [
                {"recipient": hexed(recipient), "amount": str(amount), "weight": str(amount)}
                for recipient, amount in allocations.items()
            ],
            "total": str(total),
        },
        sort_keys=True,
        separators=(",", ":"),
    ).encode()


class _Builder:
    def __init__(self, transaction: Transaction) -> None:
        self._chains = transaction.chains
        self._sql = transaction.connection
        self._accounts: dict[tuple[str, str], int] = {}

    async def build(self) -> World:
        await self._chains.register(CHAIN, "evm", "eip155:31337", block_hash(0), 0)
        await self._sql.execute(
            "INSERT INTO assets VALUES ($1, $3, $4, 'USDX', 6), ($2, $3, NULL, 'ETH', 18)", USDX, ETH, CHAIN, TOKEN
        )
        await self._blocks()
        await self._logs()
        await self._rules()
        paid = await self._decide("fee_window", 0, 10, {ALICE: 600 * UNIT, BOB: 399_400_000}, 1000 * UNIT, 600_000)
        flying = await self._decide("reserve_buffer", 10, 20, {CAROL: 200 * UNIT}, 200 * UNIT, 0)
        paid_distribution = await self._distribute(paid, "fee_window", 999_400_000, 2)
        flying_distribution = await self._distribute(flying, "reserve_buffer", 200 * UNIT, 1)
        await self._payouts(paid_distribution, {ALICE: (600 * UNIT, "paid"), BOB: (399_400_000, "credited")})
        await self._payouts(flying_distribution, {CAROL: (200 * UNIT, None)})
        await self._sql.execute("INSERT INTO senders VALUES ($1, $2, 0, 4)", CHAIN, OPERATOR)
        await self._land(paid_distribution, 0, nonce=0, block=22)
        await self._land(paid_distribution, 1, nonce=1, block=24)
        await self._land(flying_distribution, 0, nonce=2, block=26)
        await self._fly(flying_distribution, 1, nonce=3)
        await self._book(paid, paid_distribution, flying)
        await self._reconcile()
        return World(
            paid,
            flying,
            paid_distribution,
            flying_distribution,
            execute_tx=tx(f"{paid_distribution.hex()} 1 0"),
            bumped_tx=tx(f"{flying_distribution.hex()} 1 1"),
        )

    async def _blocks(self) -> None:
        blocks = [(CHAIN, n, block_hash(n), block_hash(n - 1), T0 + 10 * n, "finalized") for n in range(41)]
        blocks.append((CHAIN, 12, tx("orphan"), block_hash(11), T0 + 121, "orphaned"))
        await self._sql.executemany("INSERT INTO blocks VALUES ($1, $2, $3, $4, $5, $6)", blocks)
        await self._sql.execute(
            "INSERT INTO heads VALUES ($1, 42, $2, $3, 40, $4, $5, 42)",
            *(CHAIN, block_hash(42), T0 + 420, block_hash(40), T0 + 400),
        )
        for first, last, logs in ((0, 20, 6), (21, 40, 5)):
            await self._sql.execute(
                "INSERT INTO finalized_ranges VALUES ($1, $2, $3, $4, $5, $6, 'node-a', 'node-a')",
                *(CHAIN, first, last, block_hash(last), logs, tx(f"digest {first}")),
            )
        await self._sql.execute(
            "INSERT INTO reorgs (chain, ancestor_number, ancestor_hash, old_head, blocks_orphaned)"
            " VALUES ($1, 11, $2, 12, 1)",
            *(CHAIN, block_hash(11)),
        )
        await self._sql.execute("INSERT INTO cursors VALUES ('post', $1, 40, $2)", CHAIN, block_hash(40))

    async def _logs(self) -> None:
        """(block, log index, transaction, emitter): contents do not matter here, identities do."""
        first = f"{self.distribution('fee_window').hex()} 1 0"
        rows = [
            (5, 0, "fee 1", TOKEN),
            (5, 1, "fee 1", VAULT),
            (15, 0, "fee 2", TOKEN),
            (15, 1, "fee 2", VAULT),
            (15, 2, "donation", TOKEN),
            (24, 0, first, TOKEN),
            (24, 1, first, VAULT),
            (24, 2, first, TOKEN),
            (24, 3, first, DISTRIBUTOR),
            (24, 4, first, DISTRIBUTOR),
        ]
        await self._sql.executemany(
            "INSERT INTO logs VALUES ($1, $2, $3, $4, $5, 0, $6, $7, NULL, NULL, NULL, $8)",
            [(CHAIN, n, block_hash(n), i, tx(name), emitter, tx("topic"), b"\x2a") for n, i, name, emitter in rows],
        )

    async def _rules(self) -> None:
        for rule in ("fee_window", "reserve_buffer"):
            await self._sql.execute(
                "INSERT INTO rules VALUES ($1, 1, $2, $3, $4)", rule, tx(rule), f"name: {rule}\n", LOADED
            )

    async def _decide(
        self, rule: str, first: int, last: int, allocations: dict[bytes, int], surplus: int, carried: int
    ) -> bytes:
        body = artifact(rule, first, last, surplus, allocations)
        decision_id = hashlib.sha256(body).digest()
        await self._sql.execute(
            "INSERT INTO decisions VALUES ($1, $2, $3, 1, $4, $5, $6, $7, $8, 'pay', 'pays', $9, $10, 0, $11, $12)",
            *(decision_id, CHAIN, rule, USDX, T0 + 10 * first, T0 + 10 * last, last - 1, block_hash(last - 1)),
            *(surplus, sum(allocations.values()), carried, body),
        )
        for recipient, amount in allocations.items():
            await self._sql.execute("INSERT INTO allocations VALUES ($1, $2, $3, 0)", decision_id, recipient, amount)
        return decision_id

    @staticmethod
    def distribution(rule: str) -> bytes:
        return tx(f"distribution {rule}")

    async def _distribute(self, decision_id: bytes, rule: str, total: int, recipients: int) -> bytes:
        distribution_id = self.distribution(rule)
        await self._sql.execute(
            "INSERT INTO distributions VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8)",
            *(distribution_id, decision_id, CHAIN, rule, USDX, total, recipients, tx("content")),
        )
        for ordinal, kind in enumerate(("propose", "execute")):
            await self._sql.execute(
                "INSERT INTO actions (distribution_id, ordinal, kind, chain, payload, target)"
                " VALUES ($1, $2, $3, $4, $5, $6)",
                *(distribution_id, ordinal, kind, CHAIN, b"call", DISTRIBUTOR),
            )
        return distribution_id

    async def _payouts(self, distribution_id: bytes, payouts: dict[bytes, tuple[int, str | None]]) -> None:
        for recipient, (amount, outcome) in payouts.items():
            await self._sql.execute(
                "INSERT INTO payouts VALUES ($1, $2, 0, $3, $4)", distribution_id, recipient, amount, outcome
            )

    async def _sign(self, distribution_id: bytes, ordinal: int, nonce: int, attempts: int) -> tuple[int, int]:
        """Reserve a slot and sign `attempts` transactions on it; returns (action id, slot id)."""
        action: int = await self._sql.fetchval(
            "SELECT action_id FROM actions WHERE distribution_id = $1 AND ordinal = $2", distribution_id, ordinal
        )
        await self._move(action, "reserved")
        slot: int = await self._sql.fetchval(
            "INSERT INTO slots (chain, account, nonce, action_id, gas_limit, reserved_at)"
            " VALUES ($1, $2, $3, $4, 200000, $5) RETURNING slot_id",
            *(CHAIN, OPERATOR, nonce, action, T0 + 210),
        )
        for bump in range(attempts):
            name = f"{distribution_id.hex()} {ordinal} {bump}"
            await self._sql.execute(
                "INSERT INTO attempts (slot_id, ordinal, chain, tx_id, raw, gas_limit, max_fee, priority_fee,"
                " signed_head, signed_at, sent_at) VALUES ($1, $2, $3, $4, $5, 200000, $6, 1000000000, 21, $7, $7)",
                *(slot, bump, CHAIN, tx(name), b"raw " + name.encode(), (2 + bump) * 10**9, LOADED),
            )
        await self._move(action, "signed")
        await self._move(action, "broadcast")
        return action, slot

    async def _land(self, distribution_id: bytes, ordinal: int, *, nonce: int, block: int) -> None:
        action, slot = await self._sign(distribution_id, ordinal, nonce, attempts=1)
        await self._sql.execute(
            "UPDATE attempts SET block_number = $2, block_hash = $3, succeeded = TRUE, gas_used = 150000,"
            " fee_paid = 300000000000000 WHERE slot_id = $1",
            *(slot, block, block_hash(block)),
        )
        await self._move(action, "included")
        await self._sql.execute("UPDATE attempts SET final = TRUE WHERE slot_id = $1", slot)
        await self._sql.execute("UPDATE slots SET state = 'settled' WHERE slot_id = $1", slot)
        await self._move(action, "final")

    async def _fly(self, distribution_id: bytes, ordinal: int, *, nonce: int) -> None:
        await self._sign(distribution_id, ordinal, nonce, attempts=2)

    async def _move(self, action: int, state: str) -> None:
        await self._sql.execute("UPDATE actions SET state = $2 WHERE action_id = $1", action, state)

    async def _book(self, paid: bytes, paid_distribution: bytes, flying: bytes) -> None:
        alice, bob, carol = ("payable:" + hexed(recipient) for recipient in (ALICE, BOB, CAROL))
        left, earned = "surplus:unallocated", 250_500_000
        await self.journal("opening", VAULT_CODE, -1, [(VAULT_CODE, "surplus:opening", USDX, 500 * UNIT)])
        await self.journal("opening", OPERATOR_CODE, -1, [(OPERATOR_CODE, "surplus:opening", ETH, 10 * WEI)])
        await self.log(5, 0, [(VAULT_CODE, "suspense:in", USDX, 1000 * UNIT)])
        await self.log(5, 1, [("suspense:in", left, USDX, 1000 * UNIT)])
        await self.journal(
            "decision",
            paid.hex(),
            9,
            [
                (left, alice, USDX, 600 * UNIT),
                (left, bob, USDX, 399_400_000),
                (left, "surplus:carried", USDX, 600_000),
            ],
        )
        await self.log(15, 0, [(VAULT_CODE, "suspense:in", USDX, earned)])
        await self.log(15, 1, [("suspense:in", left, USDX, earned)])
        await self.log(15, 2, [(VAULT_CODE, "suspense:in", USDX, 7 * UNIT)])
        await self.journal("decision", flying.hex(), 19, [(left, carol, USDX, 200 * UNIT)])
        out = "suspense:out"
        intent = [(alice, out, USDX, 600 * UNIT), (bob, out, USDX, 399_400_000)]
        await self.journal("distribution", paid_distribution.hex(), 20, intent, phase="pending")
        for block in (22, 24, 26):
            await self.journal("attempt", f"tx {block}", block, [("expense:gas", OPERATOR_CODE, ETH, 3 * 10**14)])
        await self.log(24, 0, [(DISTRIBUTOR_CODE, VAULT_CODE, USDX, 999_400_000)])
        await self.log(24, 1, [])
        await self.log(24, 2, [(out, DISTRIBUTOR_CODE, USDX, 600 * UNIT)])
        await self.log(24, 3, [(alice, out, USDX, 600 * UNIT)], phase="post")
        await self.log(24, 4, [(bob, "owed_on_chain:" + hexed(BOB), USDX, 399_400_000)])

    async def log(self, block: int, index: int, moves: list[tuple[str, str, str, int]], phase: str = "posted") -> None:
        await self.journal(f"log:{CHAIN}", f"{block_hash(block).hex()}:{index}", block, moves, phase)

    async def journal(
        self, source: str, ref: str, block: int, moves: list[tuple[str, str, str, int]], phase: str = "posted"
    ) -> None:
        """Book `moves` of (debit, credit, asset, amount) as one journal."""
        journal_id: int = await self._sql.fetchval("SELECT nextval('journal_ids')")
        digest = tx(f"{source} {ref}")
        await self._sql.execute(
            "INSERT INTO journal_keys VALUES ($1, $2, $3, $4, $5, $6)", source, ref, digest, journal_id, CHAIN, block
        )
        await self._sql.execute(
            "INSERT INTO journals (chain, block_number, journal_id, block_hash, kind, reason, source, ref, payload_hash,"
            " valid_at) VALUES ($1, $2, $3, $4, $5, 'test', $6, $7, $8, $9)",
            *(CHAIN, block, journal_id, block_hash(block), source.split(":")[0], source, ref, digest, T0 + 10 * block),
        )
        for seq, (debit, credit, asset, amount) in enumerate(moves):
            await self._sql.execute(
                "INSERT INTO transfers VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                *(CHAIN, block, journal_id, seq, await self._account(debit, asset), await self._account(credit, asset)),
                *(asset, amount, phase),
            )

    async def _account(self, code: str, asset: str) -> int:
        if (code, asset) not in self._accounts:
            self._accounts[code, asset] = await self._sql.fetchval(
                "INSERT INTO accounts (code, asset) VALUES ($1, $2) ON CONFLICT (code, asset)"
                " DO UPDATE SET code = excluded.code RETURNING account_id",
                *(code, asset),
            )
        return self._accounts[code, asset]

    async def _reconcile(self) -> None:
        run: int = await self._sql.fetchval(
            "INSERT INTO reconciliations (started_at, finished_at, verdict) VALUES ($1, $2, 'breaks')"
            " RETURNING reconciliation_id",
            *(LOADED, datetime.fromtimestamp(T0 + 7200, UTC)),
        )
        balances = {
            (VAULT_CODE, USDX): 758_100_000,
            (DISTRIBUTOR_CODE, USDX): 399_400_000,
            (OPERATOR_CODE, ETH): 10 * WEI - 9 * 10**14,
        }
        for (account, asset), amount in balances.items():
            await self.check(run, "balance", account, asset, amount, "agreed", None)
        await self.check(run, "event", "logs 0..40", None, 10, "agreed", None)
        await self.check(run, "nonce", hexed(OPERATOR), None, 3, "agreed", None)
        await self.check(run, "balance", VAULT_CODE, ETH, None, "skipped", "the node has no archive state")
        await self.check(
            run, "suspense", "suspense:in", USDX, 7 * UNIT, "broken", "7 USDX came in that nobody explains"
        )
        opened = datetime.fromtimestamp(T0 + 3600, UTC)
        await self._sql.execute(
            "INSERT INTO breaks (kind, chain, subject, asset, amount, evidence, block_number, block_hash, opened_at)"
            " VALUES ('unexpected_in', $1, $2, $3, 7000000, $4, 15, $5, $6)",
            *(CHAIN, "<b>donation</b>", USDX, json.dumps({"tx": hexed(tx("donation"))}), block_hash(15), opened),
        )
        await self._sql.execute(
            "INSERT INTO breaks (kind, chain, subject, asset, amount, state, evidence, block_number, block_hash,"
            " opened_at, resolved_at, resolution)"
            " VALUES ('timing', $1, 'batch 0', $2, -600000000, 'resolved', '{}', 23, $3, $4, $5, 'landed')",
            *(CHAIN, USDX, block_hash(23), opened, datetime.fromtimestamp(T0 + 3660, UTC)),
        )

    async def check(
        self, run: int, level: str, subject: str, asset: str | None, amount: int | None, outcome: str, cause: str | None
    ) -> None:
        await self._sql.execute(
            "INSERT INTO checks (reconciliation_id, level, chain, subject, asset, block_number, block_hash, expected,"
            " actual, outcome, cause) VALUES ($1, $2, $3, $4, $5, 40, $6, $7, $7, $8, $9)",
            *(run, level, CHAIN, subject, asset, block_hash(40), amount, outcome, cause),
        )
