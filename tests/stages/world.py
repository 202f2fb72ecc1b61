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
from typing import Any

from bridge.domain.artifacts import canonical
from bridge.domain.units import hexed
from bridge.store.database import Database, Transaction

CHAIN = "anvil"
USDX = "eip155:31337/erc20:0x" + "aa" * 20
ETH = "eip155:31337/slip44:60"
TOKEN, VAULT, DISTRIBUTOR, OPERATOR = (bytes([n]) * 20 for n in (0xAA, 0x01, 0x02, 0x03))
ALICE, BOB, CAROL, PAYER = (bytes([n]) * 20 for n in (0xA1, 0xB0, 0xCA, 0xFE))
T0 = 1_790_000_000  # time of block 0
UNIT = 10**6
WEI = 10**18
FEE = 300_000_000_000_123  # wei, of each transaction that landed
LOADED = datetime.fromtimestamp(T0 + 500, UTC)


def block_hash(number: int) -> bytes:
    return hashlib.sha256(b"block %d" % number).digest()


def tx(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


VAULT_CODE, DISTRIBUTOR_CODE = "vault:" + hexed(VAULT), "distributor:" + hexed(DISTRIBUTOR)
OPERATOR_CODE = "operator:gas:" + hexed(OPERATOR)


Move = tuple[str, str, str, int] | tuple[str, str, str, int, str]
"""Debit, credit, asset, amount; then the phase, where it is not posted."""


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


FEE_PAID = "FeePaid(address indexed token, address indexed payer, uint256 amount)"
FEE_PAID_TOPIC = bytes.fromhex("bf6afbaffb3b955bebbf43430bbf8eecb8d34ff86f293f592203ab5ed79c5268")


def artifact(rule: str, window: tuple[int, int], surplus: int, carried: int, shares: dict[bytes, int]) -> bytes:
    """A decision's record, in the shape that domain/decisions.py writes; `window` in blocks."""
    first, last = window
    counted = {"count": 1, "first": [5, 1], "last": [5, 1]} if rule == "fee_window" else None
    fee = {"contract": hexed(VAULT), "declaration": FEE_PAID, "where": "token == asset and amount > share_bps"}
    weights = {hexed(recipient): str(amount) for recipient, amount in shares.items()}
    limit = {"name": "minimum_per_recipient", "limit": "1000000", "verdict": "passed"}
    return canonical(
        {
            "format": "bridge.decision/1",
            "chain": "eip155:31337",
            "asset": USDX,
            "token": hexed(TOKEN),
            "contracts": {"vault": hexed(VAULT)},
            "rule": {"name": rule, "version": 1, "sha256": tx(rule).hex()},
            "split": {"pro_rata": "deposits"},
            "window": {"start": T0 + 10 * first, "end": T0 + 10 * last},
            "blocks": {
                "first": first,
                "last": last - 1,
                "hash": hexed(block_hash(last - 1)),
                "timestamp": T0 + 10 * (last - 1),
            },
            "events": {"fees": {**fee, **counted}} if counted else {},
            "inputs": {
                "income": {"sum": "fees.amount", "value": str(surplus)},
                "deposits": {
                    "time_weighted": {"add": "deposited", "subtract": "withdrawn", "by": "account"},
                    "total": str(sum(shares.values())),
                    "weights": weights,
                },
            },
            "parameters": {"share_bps": "10000"},
            "guardrails": [{**limit, "before": str(surplus), "after": str(surplus - carried)}],
            "verdict": "pay",
            "reason": "above the minimum",
            "allocations": [
                {"recipient": hexed(recipient), "amount": str(amount), "carried_in": "0"}
                for recipient, amount in sorted(shares.items())
            ],
            "carried_in": {"total": "0", "by": {}},
            "carried_out": {"total": str(carried), "by": {"pool": str(carried)} if carried else {}},
            "left": "0",
            "surplus": {"formula": "income", "result": str(surplus), "found": str(surplus)},
            "total": str(sum(shares.values())),
        }
    )


class _Builder:
    def __init__(self, transaction: Transaction) -> None:
        self._chains = transaction.chains
        self._sql = transaction.connection
        self._accounts: dict[tuple[str, str], int] = {}

    async def build(self) -> World:
        await self._chains.register(CHAIN, "evm", "eip155:31337", block_hash(0), 0)
        await self._insert("assets", asset=USDX, chain=CHAIN, address=TOKEN, symbol="USDX", decimals=6)
        await self._insert("assets", asset=ETH, chain=CHAIN, address=None, symbol="ETH", decimals=18)
        await self._ingest()
        await self._logs()
        for rule in ("fee_window", "reserve_buffer"):
            await self._insert(
                "rules", chain=CHAIN, rule=rule, version=1, content_hash=tx(rule), body=f"name: {rule}\n"
            )
        paid = await self._decide("fee_window", (0, 10), {ALICE: 600 * UNIT, BOB: 399_400_000}, 1000 * UNIT, 600_000)
        flying = await self._decide("reserve_buffer", (10, 20), {CAROL: 200 * UNIT}, 200 * UNIT, 0)
        paid_distribution = await self._distribute(paid, "fee_window", 999_400_000, 2)
        flying_distribution = await self._distribute(flying, "reserve_buffer", 200 * UNIT, 1)
        await self._payouts(paid_distribution, {ALICE: (600 * UNIT, "paid"), BOB: (399_400_000, "credited")})
        await self._payouts(flying_distribution, {CAROL: (200 * UNIT, None)})
        await self._insert("senders", chain=CHAIN, account=OPERATOR, first_nonce=0, next_nonce=4)
        await self._land(paid_distribution, 0, nonce=0, block=22)
        await self._land(paid_distribution, 1, nonce=1, block=24)
        await self._land(flying_distribution, 0, nonce=2, block=26)
        await self._sign(flying_distribution, 1, nonce=3, attempts=2)
        await self._book(paid, paid_distribution, flying, flying_distribution)
        await self._reconcile()
        return World(
            paid,
            flying,
            paid_distribution,
            flying_distribution,
            execute_tx=tx(f"{paid_distribution.hex()} 1 0"),
            bumped_tx=tx(f"{flying_distribution.hex()} 1 1"),
        )

    async def _insert(self, table: str, returning: str = "", **values: Any) -> Any:
        """Insert one row; returns its column `returning`, where one is named."""
        places = ", ".join(f"${place}" for place in range(1, len(values) + 1))
        statement = f"INSERT INTO {table} ({', '.join(values)}) VALUES ({places})"
        return await self._sql.fetchval(statement + (f" RETURNING {returning}" if returning else ""), *values.values())

    async def _ingest(self) -> None:
        orphan = (12, tx("orphan"), T0 + 121, "orphaned")
        for number, found, timestamp, status in [
            *((n, block_hash(n), T0 + 10 * n, "finalized") for n in range(41)),
            orphan,
        ]:
            await self._insert(
                "blocks",
                chain=CHAIN,
                number=number,
                hash=found,
                parent_hash=block_hash(number - 1),
                timestamp=timestamp,
                status=status,
            )
        await self._insert(
            "heads",
            chain=CHAIN,
            head_number=42,
            head_hash=block_hash(42),
            head_timestamp=T0 + 420,
            finalized_number=40,
            finalized_hash=block_hash(40),
            finalized_timestamp=T0 + 400,
            node_head=42,
        )
        for first, last, logs in ((0, 20, 5), (21, 40, 5)):
            await self._insert(
                "finalized_ranges",
                chain=CHAIN,
                first_block=first,
                last_block=last,
                last_hash=block_hash(last),
                logs=logs,
                digest=tx(f"digest {first}"),
                read_by="node-a",
                verified_by="node-a",
            )
        await self._insert(
            "reorgs",
            chain=CHAIN,
            ancestor_number=11,
            ancestor_hash=block_hash(11),
            old_head=12,
            blocks_orphaned=1,
        )
        await self._insert("cursors", stage="post", scope=CHAIN, block_number=40, block_hash=block_hash(40))

    async def _logs(self) -> None:
        """Block, log index, transaction, emitter: of all but the fees, identities matter and contents do not."""
        batch = f"{_distribution_id('fee_window').hex()} 1 0"
        for number, index, name, emitter in (
            (5, 0, "fee 1", TOKEN),
            (5, 1, "fee 1", VAULT),
            (15, 0, "fee 2", TOKEN),
            (15, 1, "fee 2", VAULT),
            (15, 2, "donation", TOKEN),
            (24, 0, batch, TOKEN),
            (24, 1, batch, VAULT),
            (24, 2, batch, TOKEN),
            (24, 3, batch, DISTRIBUTOR),
            (24, 4, batch, DISTRIBUTOR),
        ):
            await self._insert(
                "logs",
                chain=CHAIN,
                block_number=number,
                block_hash=block_hash(number),
                log_index=index,
                tx_hash=tx(name),
                tx_index=0,
                address=emitter,
                **_contents(
                    name if emitter == VAULT else "", about={(24, 2): ALICE, (24, 3): BOB}.get((number, index))
                ),
            )

    async def _decide(
        self, rule: str, window: tuple[int, int], allocations: dict[bytes, int], surplus: int, carried: int
    ) -> bytes:
        first, last = window
        body = artifact(rule, window, surplus, carried, allocations)
        decision_id = hashlib.sha256(body).digest()
        await self._insert(
            "decisions",
            decision_id=decision_id,
            chain=CHAIN,
            rule=rule,
            version=1,
            asset=USDX,
            window_start=T0 + 10 * first,
            window_end=T0 + 10 * last,
            block_number=last - 1,
            block_hash=block_hash(last - 1),
            verdict="pay",
            reason="above the minimum",
            surplus=surplus,
            total=sum(allocations.values()),
            carried_in=0,
            carried_out=carried,
            artifact=body,
        )
        for recipient, amount in allocations.items():
            await self._insert("allocations", decision_id=decision_id, recipient=recipient, amount=amount, carried_in=0)
        return decision_id

    async def _distribute(self, decision_id: bytes, rule: str, total: int, recipients: int) -> bytes:
        distribution_id = _distribution_id(rule)
        await self._insert(
            "distributions",
            distribution_id=distribution_id,
            decision_id=decision_id,
            chain=CHAIN,
            rule=rule,
            asset=USDX,
            total=total,
            recipients=recipients,
            batches=1,
            content_hash=tx("content"),
        )
        for ordinal, kind in enumerate(("propose", "execute")):
            await self._insert(
                "actions",
                distribution_id=distribution_id,
                ordinal=ordinal,
                kind=kind,
                chain=CHAIN,
                payload=b"call",
                target=DISTRIBUTOR,
            )
        return distribution_id

    async def _payouts(self, distribution_id: bytes, payouts: dict[bytes, tuple[int, str | None]]) -> None:
        for recipient, (amount, outcome) in payouts.items():
            await self._insert(
                "payouts",
                distribution_id=distribution_id,
                recipient=recipient,
                batch_index=0,
                amount=amount,
                outcome=outcome,
            )

    async def _sign(self, distribution_id: bytes, ordinal: int, *, nonce: int, attempts: int) -> tuple[int, int]:
        """Reserve a slot, sign and send `attempts` transactions on it; returns (action id, slot id)."""
        action: int = await self._sql.fetchval(
            "SELECT action_id FROM actions WHERE distribution_id = $1 AND ordinal = $2", distribution_id, ordinal
        )
        await self._move(action, "reserved")
        slot: int = await self._insert(
            "slots",
            returning="slot_id",
            chain=CHAIN,
            account=OPERATOR,
            nonce=nonce,
            action_id=action,
            gas_limit=200_000,
            reserved_at=T0 + 210,
        )
        for bump in range(attempts):
            name = f"{distribution_id.hex()} {ordinal} {bump}"
            await self._insert(
                "attempts",
                slot_id=slot,
                ordinal=bump,
                chain=CHAIN,
                tx_id=tx(name),
                raw=b"raw " + name.encode(),
                gas_limit=200_000,
                max_fee=(2 + bump) * 10**9,
                priority_fee=10**9,
                signed_head=21,
                signed_at=LOADED,
                sent_at=LOADED,
            )
        await self._move(action, "signed")
        await self._move(action, "broadcast")
        return action, slot

    async def _land(self, distribution_id: bytes, ordinal: int, *, nonce: int, block: int) -> None:
        action, slot = await self._sign(distribution_id, ordinal, nonce=nonce, attempts=1)
        await self._sql.execute(
            "UPDATE attempts SET block_number = $2, block_hash = $3, succeeded = TRUE, gas_used = 150000,"
            " fee_paid = $4 WHERE slot_id = $1",
            *(slot, block, block_hash(block), FEE),
        )
        await self._move(action, "included")
        await self._sql.execute("UPDATE attempts SET final = TRUE WHERE slot_id = $1", slot)
        await self._sql.execute("UPDATE slots SET state = 'settled' WHERE slot_id = $1", slot)
        await self._move(action, "final")

    async def _move(self, action: int, state: str) -> None:
        await self._sql.execute("UPDATE actions SET state = $2 WHERE action_id = $1", action, state)

    async def _book(self, paid: bytes, paid_distribution: bytes, flying: bytes, flying_distribution: bytes) -> None:
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
        for distribution, block, dues in (
            (paid_distribution, 9, [(alice, 600 * UNIT), (bob, 399_400_000)]),
            (flying_distribution, 19, [(carol, 200 * UNIT)]),
        ):
            intent: list[Move] = [(payable, out, USDX, amount, "pending") for payable, amount in dues]
            await self.journal("distribution", distribution.hex(), block, intent)
        for block in (22, 24, 26):
            await self.journal("attempt", f"tx {block}", block, [("expense:gas", OPERATOR_CODE, ETH, FEE)])
        await self.log(24, 0, [(DISTRIBUTOR_CODE, VAULT_CODE, USDX, 999_400_000)])
        await self.log(24, 1, [])
        await self.log(24, 2, [(out, DISTRIBUTOR_CODE, USDX, 600 * UNIT)])
        await self.log(24, 3, [])
        await self.log(24, 4, [])
        await self.journal(
            "batch",
            f"{paid_distribution.hex()}:0",
            24,
            [
                (alice, out, USDX, 600 * UNIT, "post"),
                (bob, out, USDX, 399_400_000, "void"),
                (bob, "owed_on_chain:" + hexed(BOB), USDX, 399_400_000),
            ],
        )

    async def log(self, block: int, index: int, moves: list[Move]) -> None:
        await self.journal(f"log:{CHAIN}", f"{block_hash(block).hex()}:{index}", block, moves)

    async def journal(self, source: str, ref: str, block: int, moves: list[Move]) -> None:
        """Book `moves` as one journal; those without a phase are posted."""
        journal_id: int = await self._sql.fetchval("SELECT nextval('journal_ids')")
        digest = tx(f"{source} {ref}")
        key: dict[str, Any] = {
            "source": source,
            "ref": ref,
            "payload_hash": digest,
            "chain": CHAIN,
            "block_number": block,
        }
        await self._insert("journal_keys", journal_id=journal_id, **key)
        await self._insert(
            "journals",
            journal_id=journal_id,
            block_hash=block_hash(block),
            kind=source.split(":", maxsplit=1)[0],
            reason="as the test says",
            valid_at=T0 + 10 * block,
            **key,
        )
        for seq, (debit, credit, asset, amount, *phase) in enumerate(moves):
            await self._insert(
                "transfers",
                chain=CHAIN,
                block_number=block,
                journal_id=journal_id,
                seq=seq,
                debit_account=await self._account(debit, asset),
                credit_account=await self._account(credit, asset),
                asset=asset,
                amount=amount,
                phase=phase[0] if phase else "posted",
            )

    async def _account(self, code: str, asset: str) -> int:
        if (code, asset) not in self._accounts:
            found = await self._insert("accounts", returning="account_id", code=code, asset=asset)
            self._accounts[code, asset] = found
        return self._accounts[code, asset]

    async def _reconcile(self) -> None:
        finished, opened = (datetime.fromtimestamp(T0 + seconds, UTC) for seconds in (7200, 3600))
        run: int = await self._insert(
            "reconciliations", returning="reconciliation_id", finished_at=finished, verdict="breaks"
        )
        checks: list[tuple[str, str, str | None, int | None, str, str | None]] = [
            ("balance", VAULT_CODE, USDX, 758_100_000, "agreed", None),
            ("balance", DISTRIBUTOR_CODE, USDX, 399_400_000, "agreed", None),
            ("balance", OPERATOR_CODE, ETH, 10 * WEI - 3 * FEE, "agreed", None),
            ("balance", VAULT_CODE, ETH, None, "skipped", "the node has no archive state"),
            ("event", "logs 0..40", None, 10, "agreed", None),
            ("nonce", hexed(OPERATOR), None, 3, "agreed", None),
            ("suspense", "suspense:in", USDX, 7 * UNIT, "broken", "unexpected_in"),
        ]
        at: dict[str, Any] = {"chain": CHAIN, "block_number": 40, "block_hash": block_hash(40)}
        for level, subject, asset, amount, outcome, cause in checks:
            await self._insert(
                "checks",
                reconciliation_id=run,
                level=level,
                subject=subject,
                asset=asset,
                expected=amount,
                actual=amount,
                outcome=outcome,
                cause=cause,
                **at,
            )
        await self._insert(
            "breaks",
            kind="unexpected_in",
            level="suspense",
            check_subject="suspense:in",
            subject="<b>donation</b>",
            asset=USDX,
            amount=7 * UNIT,
            evidence=json.dumps({"tx": hexed(tx("donation"))}),
            opened_at=opened,
            **at,
        )
        await self._insert(
            "breaks",
            kind="timing",
            level="payout",
            check_subject="batch 0",
            subject="batch 0",
            asset=USDX,
            amount=-600 * UNIT,
            state="resolved",
            evidence="{}",
            opened_at=opened,
            resolved_at=finished,
            resolution="landed",
            **at,
        )


def _contents(name: str, about: bytes | None) -> dict[str, Any]:
    """Topics and data of a log: FeePaid for the fees; a recipient, where the log is about one."""
    amount = {"fee 1": 1000 * UNIT, "fee 2": 250_500_000}.get(name)
    if amount is None:
        return {"topic0": tx("topic"), "topic2": about and about.rjust(32, b"\0"), "data": b"\x2a"}
    token, payer = (address.rjust(32, b"\0") for address in (TOKEN, PAYER))
    return {"topic0": FEE_PAID_TOPIC, "topic1": token, "topic2": payer, "data": amount.to_bytes(32)}


def _distribution_id(rule: str) -> bytes:
    return tx(f"distribution {rule}")
