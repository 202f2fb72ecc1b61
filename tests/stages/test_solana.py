"""The catalogue's rules on a Solana vault, from finalized transactions to decisions, in a real database."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from bridge.chains.solana.tokens import Token as Mint
from bridge.domain.breaks import BreakKind, Outcome
from bridge.domain.ledger import BY_OPERATOR, SUSPENSE_IN, SUSPENSE_OUT, Asset, Watched, sender_code
from bridge.domain.rules import Token
from bridge.domain.units import Address, AssetId, base58
from bridge.runtime.rulefile import parse_rule
from bridge.simulation.svm.settings import Settings
from bridge.stages import binding
from bridge.stages.decide import Decide
from bridge.stages.ingest import Ingest
from bridge.stages.post import Post, log_filters
from bridge.stages.reconcile import Reconcile
from bridge.stages.view import Books
from bridge.store.database import Database
from bridge.store.leases import Leases
from tests.chains.solana_world import SolanaWorld, address_of, memo

RULES = Path(__file__).parents[2] / "rules"
SETTINGS = Settings(
    timer=False, confirmed_depth=0, finalized_depth=0, genesis_time=1_700_006_400, slot_ms=600_000,
    skipped_per_mille=200, seed=3,
)  # fmt: skip
MIDNIGHT = 1_700_006_400  # UTC


def catalogued(name: str, **changes: str) -> str:
    text = (RULES / name / "rule.yaml").read_text(encoding="utf-8")
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


async def ingest_all(database: Database, world: SolanaWorld, filters: tuple[object, ...]) -> None:
    """With a new instance at every event: nothing but rows is remembered."""
    head = world.node.chain.head.slot
    async with asyncio.timeout(60):
        while True:
            async with database.begin() as transaction:
                final = await transaction.events.finalized("solana")
            if final is not None and final.number == head:
                return
            reader = world.read_by(world.rpc, keep_records=True)
            ingest = Ingest(database=database, chain=reader, lease=None, filters=filters)  # type: ignore[arg-type]
            await ingest.step()


async def test_rules__fees_and_reserve_of_the_catalogue__decided_as_on_any_chain(database: Database):
    """Two tokens, for rules that pay from one balance must share a window. A day of deposits, then a fee and a gift."""
    async with SolanaWorld.start(SETTINGS) as world:
        reserve_token, owed = (world.scene.create_token(symbol, 6) for symbol in ("USDY", "OWED"))
        mints = {"USDX": Address(bytes(world.token.mint)), "USDY": Address(bytes(reserve_token.mint))}
        contracts = {**world.names.contracts, "obligations": Address(bytes(owed.mint))}
        world.names = replace(
            world.names, contracts=contracts, tokens={symbol: Mint(mint, 6) for symbol, mint in mints.items()}
        )
        world.reader = world.read_by(world.rpc)
        await world.reader.check()
        alice, bob, carol, _ = world.people
        addresses = {
            "0x00000000000000000000000000000000000000a1": base58(address_of(alice)),
            "0x00000000000000000000000000000000000000b2": base58(address_of(bob)),
        }
        assets = {symbol: f"{world.reader.reference}/token:{base58(mint)}" for symbol, mint in mints.items()}
        rules = binding.bind_rules(
            [
                parse_rule(catalogued("fee_window"), name="rule.yaml"),
                parse_rule(catalogued("reserve_buffer", USDX="USDY", **addresses), name="rule.yaml"),
            ],
            chain=world.reader,
            contracts=contracts,
            tokens={symbol: Token(AssetId(assets[symbol]), mint) for symbol, mint in mints.items()},
        )
        async with database.begin() as transaction:
            start = world.node.chain.head.slot
            await transaction.chains.register("solana", "solana", world.reader.reference, world.genesis, start)

        for person in (alice, bob):
            world.send([world.print_money(person, 1_000_000_000)], world.scene.director)
        world.send([world.pay(alice, world.pool, 300_000_000)], alice)
        world.send([world.pay(bob, world.pool, 100_000_000)], bob)
        world.node.chain.advance_blocks()
        # 63,900 in the vault; 900 owed, a floor of 50,000, and lots of 1,000: 13,000 can go.
        world.scene.mint(reserve_token, world.vault.pubkey(), 63_900_000_000)
        world.scene.mint(owed, carol.pubkey(), 900_000_000)
        advance_to(world, MIDNIGHT + 86_400)
        world.send([world.pay(alice, world.vault, 4_000_000), memo("fee")], alice)
        world.send([world.pay(alice, world.vault, 9_000_000)], alice)
        world.node.chain.advance_blocks()
        advance_to(world, MIDNIGHT + 2 * 86_400)

        await ingest_all(database, world, binding.log_filters(rules))
        lease = await Leases(database).acquire("decide:solana", "a test", 60_000)
        assert lease is not None
        decide = Decide(database=database, chain=world.reader, rules=rules, lease=lease)
        for _ in range(500):
            if not await decide.step():
                break
        assert await allocated(database) == {
            ("fee_window", address_of(alice)): 3_000_000,
            ("fee_window", address_of(bob)): 1_000_000,
            ("reserve_buffer", address_of(alice)): 9_100_000_000,
            ("reserve_buffer", address_of(bob)): 3_900_000_000,
        }
        async with database.snapshot() as transaction:
            widths = await transaction.connection.fetch("SELECT DISTINCT length(address), length(tx_hash) FROM logs")
        assert [tuple(row) for row in widths] == [(32, 64)]


async def test_books__tokens_of_the_operator__seen_and_left_to_be_explained(database: Database):
    """In its associated account; another one of its own is a stranger's, as it is of the vault's."""
    async with SolanaWorld.start() as world:
        vault, operator, mint = address_of(world.vault), address_of(world.operator), Address(bytes(world.token.mint))
        watched = Watched(
            chain="solana",
            vault=vault,
            distributor=vault,
            operator=operator,
            tokens=(Asset(world.asset, "solana", mint, "USDX", 6),),
            native=Asset(world.native, "solana", None, "SOL", 9),
        )
        alice, bob, *_ = world.people
        world.scene.open_account(world.token, world.operator.pubkey())
        world.node.chain.advance_blocks()
        start = world.node.chain.head.slot
        async with database.begin() as transaction:
            await transaction.chains.register("solana", "solana", world.reader.reference, world.genesis, start)
        world.node.chain.advance_blocks()
        world.send([world.pay(alice, world.operator, 700)], alice)
        world.node.chain.advance_blocks()
        for payee, atoms in ((bob, 200), (world.vault, 50)):  # whose fees alice pays
            world.send([world.pay(world.operator, payee, atoms)], alice, world.operator)
        world.node.chain.advance_blocks()
        await ingest_all(database, world, log_filters(world.reader, watched))
        lease = await Leases(database).acquire("post:solana", "a test", 60_000)
        assert lease is not None
        post = Post(database=database, chain=world.reader, watched=watched, start_block=start, lease=lease)
        while await post.step():
            pass
        async with database.snapshot() as transaction:
            balances = await transaction.ledger.balances("solana", world.node.chain.head.slot)
        assert {each.code: each.posted for each in balances if each.asset == world.asset and each.posted} == {
            sender_code(operator): 450,
            f"vault:{base58(vault)}": 50,
            SUSPENSE_IN: -750,
            SUSPENSE_OUT: 200,
            BY_OPERATOR: 50,
        }
        result = await Reconcile(database=database, books=[Books(world.reader, watched, start)]).run()
        assert {(item.kind, item.subject, item.amount) for item in result.breaks} == {
            (BreakKind.UNEXPECTED_IN, SUSPENSE_IN, 750),
            (BreakKind.UNEXPECTED_OUT, SUSPENSE_OUT, -200),
        }
        assert sender_code(operator) in {check.subject for check in result.checks if check.outcome is Outcome.AGREED}


def advance_to(world: SolanaWorld, second: int) -> None:
    while world.node.chain.head.time < second:
        world.node.chain.advance_blocks()


async def allocated(database: Database) -> dict[tuple[str, Address], int]:
    """All that was allocated, by rule and recipient."""
    async with database.snapshot() as transaction:
        rows = await transaction.connection.fetch(
            "SELECT rule, recipient, sum(amount) AS amount FROM allocations JOIN decisions USING (decision_id)"
            " GROUP BY rule, recipient"
        )
    return {(row["rule"], Address(bytes(row["recipient"]))): int(row["amount"]) for row in rows}
