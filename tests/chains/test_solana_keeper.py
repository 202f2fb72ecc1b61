"""Lookup tables made, filled and given up by a key of their own, on a local chain whose slots pass fast."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest

from bridge.chains.solana.fees import FeeCeilings
from bridge.chains.solana.keeper import COOLING_BLOCKS, ENTRIES_AT_ONCE, Covered, Keeper
from bridge.chains.solana.signer import KeystoreSigner
from bridge.chains.solana.tables import read_tables
from bridge.domain.errors import RefusedError, RetryableError
from bridge.domain.payouts import Payout
from bridge.domain.units import Address, format_address
from bridge.simulation.svm.chain import Commitment
from bridge.simulation.svm.node import Node
from tests.chains.svm_scene import SOL, SvmScene, address_of, key_of, svm_scene
from tests.chains.test_solana_payer import Sender
from tests.chains.test_solana_tables import crowd, plan, put_table

KEEPER = KeystoreSigner(key_of("keeper"))
ENTRY_LAMPORTS = 222_720
FINAL = Commitment.FINALIZED


@contextlib.asynccontextmanager
async def ticking(node: Node) -> AsyncIterator[None]:
    """Slots pass while something waits for them."""

    async def tick() -> None:
        while True:
            node.chain.advance()
            await asyncio.sleep(0.002)

    task = asyncio.create_task(tick())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def keeper_of(scene: SvmScene, *configured: Address) -> Keeper:
    return Keeper(
        scene.rpc, configured, address_of("vault"), [scene.coin.mint], FeeCeilings(1_000_000), poll_interval_ms=5
    )


def recipients_of(payouts: Sequence[Payout]) -> list[Address]:
    return [payout.recipient for payout in payouts]


async def extend(
    scene: SvmScene, people: Sequence[Address], *configured: Address, signer: KeystoreSigner = KEEPER
) -> tuple[tuple[Address, ...], list[str]]:
    told: list[str] = []
    async with ticking(scene.node):
        made = await keeper_of(scene, *configured).extend(signer, {scene.coin.mint: people}, told.append)
    return made, told


def spent(scene: SvmScene) -> int:
    return 100 * SOL - scene.lamports(KEEPER.account)


async def test_extend__nothing_yet_then_more__tables_that_payouts_use_at_the_price_of_their_entries():
    async with svm_scene(nodes=2) as scene:
        people = crowd(150)
        for payout in people[:-1]:
            scene.hold(payout.recipient)
        scene.endow(KEEPER.account, 100 * SOL)
        scene.node.chain.advance_blocks(8)
        some = recipients_of(people[:20])
        first, told = await extend(scene, some)
        assert len(first) == 1
        [table] = await read_tables(scene.rpc, first)
        assert table is not None
        vault = scene.coin.account_of(address_of("vault"))
        assert table.entries[:2] == (vault, scene.coin.mint)
        pairs = [(scene.coin.account_of(one), one) for one in some]
        assert table.entries[2:] == tuple(entry for pair in pairs for entry in pair)
        assert table.authority == KEEPER.account
        assert table.lamports == 56 * 6960 + 128 * 6960 + 42 * ENTRY_LAMPORTS
        fees = 5_000 * -(-42 // ENTRIES_AT_ONCE)
        assert spent(scene) == table.lamports + fees
        assert told == [f"table {format_address(first[0])}: 42 entries more"]

        again, told = await extend(scene, some)
        assert (again, told) == (first, []), "found on the chain though no file names it"
        everybody, told = await extend(scene, recipients_of(people), *first)
        assert "1 recipients of" in told[0], "who has no account saves nothing"
        assert everybody[0] == first[0]
        assert len(everybody) == 2
        tables = [one for one in await read_tables(scene.rpc, everybody) if one is not None]
        assert [len(one.entries) for one in tables] == [256, 2 + 2 * 149 - 254]
        keeper = keeper_of(scene, *everybody)
        assert await keeper.covered({scene.coin.mint: recipients_of(people)}) == [Covered(scene.coin.mint, 150, 149)]
        assert [one.problem for one in await keeper.tables()] == [None, None]
        [batch] = (await plan(scene, scene.make_payer(lookup_tables=everybody), people[:30]))[1:]
        assert len(scene.people(batch)) == 30


@pytest.mark.parametrize("dies_at", range(4))
async def test_extend__dies_in_the_middle__run_again_finds_what_is_there(dies_at: int):
    """It dies as it sends for the n-th time; what it sent lands."""
    async with svm_scene() as scene:
        people = crowd(40)
        for payout in people:
            scene.hold(payout.recipient)
        scene.endow(KEEPER.account, 100 * SOL)
        scene.node.chain.advance_blocks(8)

        class Mortal(KeystoreSigner):
            left = dies_at

            async def sign(self, transaction: object) -> tuple[bytes, bytes]:
                if self.left == 0:
                    raise RetryableError("killed")
                type(self).left -= 1
                return await super().sign(transaction)  # type: ignore[arg-type]

        async with ticking(scene.node):
            with pytest.raises(RetryableError, match="killed"):
                await keeper_of(scene).extend(
                    Mortal(key_of("keeper")), {scene.coin.mint: recipients_of(people)}, lambda _: None
                )
        scene.node.chain.advance_blocks(8)
        made, _ = await extend(scene, recipients_of(people))
        assert len(made) == 1
        [table] = await read_tables(scene.rpc, made)
        assert table is not None
        wanted = [entry for one in recipients_of(people) for entry in (scene.coin.account_of(one), one)]
        assert {*wanted} <= {*table.entries}
        assert len(table.entries) == len({*table.entries}) == 2 + len(wanted)


async def test_extend__blocks_roll_back_and_a_send_gets_lost__complete_all_the_same():
    """Each time it signs, the newest blocks go, and with them the blockhash and what it has just sent."""

    class Shaken(KeystoreSigner):
        forks = 0

        async def sign(self, transaction: object) -> tuple[bytes, bytes]:
            signed = await super().sign(transaction)  # type: ignore[arg-type]
            chain = scene.node.chain
            depth = min(2, chain.head.height - chain.newest(FINAL).height)
            if depth and type(self).forks < 4:
                chain.fork(depth)
                type(self).forks += 1
            return signed

    async with svm_scene() as scene:
        people = crowd(60)
        for payout in people:
            scene.hold(payout.recipient)
        scene.endow(KEEPER.account, 100 * SOL)
        scene.node.chain.advance_blocks(8)
        scene.node.faults.drop_next = 2
        made, _ = await extend(scene, recipients_of(people), signer=Shaken(key_of("keeper")))
        assert Shaken.forks == 4
        found = await read_tables(scene.rpc, made)
        entries = {entry for table in found if table is not None for entry in table.entries}
        assert {*recipients_of(people)} <= entries


async def test_extend__nothing_lands__tried_anew_then_told_which_did_not():
    async with svm_scene() as scene:
        people = crowd(5)
        for payout in people:
            scene.hold(payout.recipient)
        scene.endow(KEEPER.account, 100 * SOL)
        scene.node.chain.advance_blocks(8)
        scene.node.faults.drop_next = 10_000
        with pytest.raises(RetryableError, match=r"transaction [1-9A-Za-z]+ is in no block; run it again"):
            await extend(scene, recipients_of(people))
        assert spent(scene) == 0


async def test_retire__the_key_has_nothing_for_fees__told_and_the_table_is_as_it_was():
    async with svm_scene() as scene:
        scene.endow(KEEPER.account, 1)
        table = put_table(scene, "ours", [address_of("anybody")], authority="keeper")
        scene.node.chain.advance_blocks(8)
        async with ticking(scene.node):
            with pytest.raises(RetryableError, match=r"refused sendTransaction: .*; run it again"):
                await keeper_of(scene).retire(KEEPER, [table], lambda _: None)
        [found] = await read_tables(scene.rpc, [table])
        assert found is not None
        assert found.ended_in is None


async def test_extend__too_little_money__refused_with_how_much_is_needed():
    async with svm_scene() as scene:
        people = crowd(20)
        for payout in people:
            scene.hold(payout.recipient)
        scene.endow(KEEPER.account, SOL // 100)
        scene.node.chain.advance_blocks(8)
        with pytest.raises(RefusedError, match="has 10000000 lamports, and needs about 117"):
            await extend(scene, recipients_of(people))
        assert scene.lamports(KEEPER.account) == SOL // 100


async def test_retire__a_table__deactivated_then_closed_and_every_lamport_is_back_but_fees():
    async with svm_scene() as scene:
        people = crowd(5)
        for payout in people:
            scene.hold(payout.recipient)
        scene.endow(KEEPER.account, 100 * SOL)
        theirs = put_table(scene, "theirs", recipients_of(people)[:2], authority="somebody")
        scene.node.chain.advance_blocks(8)
        foreign, *made = (await extend(scene, recipients_of(people), theirs))[0]
        assert foreign == theirs, "of use, but not ours to fill"
        told: list[str] = []
        with pytest.raises(RefusedError, match="is in lookup_tables"):
            await keeper_of(scene, *made).retire(KEEPER, made, told.append)
        stranger = KeystoreSigner(key_of("stranger"))
        with pytest.raises(RefusedError, match="to close"):
            await keeper_of(scene).retire(stranger, made, told.append)
        async with ticking(scene.node):
            assert not await keeper_of(scene).retire(KEEPER, made, told.append)
            assert not await keeper_of(scene).retire(KEEPER, made, told.append)
        assert "deactivated; run it again" in told[0]
        assert "can be closed in" in told[1]
        [listed] = await keeper_of(scene).tables(KEEPER.account)
        assert listed.problem is not None
        assert listed.problem.startswith("was deactivated in slot")
        scene.node.chain.advance_blocks(COOLING_BLOCKS)
        async with ticking(scene.node):
            assert await keeper_of(scene).retire(KEEPER, made, told.append)
        assert "lamports come back" in told[2]
        assert await keeper_of(scene).tables(KEEPER.account) == []
        assert spent(scene) == 3 * 5_000


async def test_sender__batch_through_kept_tables__is_paid():
    async with svm_scene(create_accounts=True) as scene:
        people = crowd(30)
        for payout in people:
            scene.hold(payout.recipient)
        scene.endow(KEEPER.account, 100 * SOL)
        scene.node.chain.advance_blocks(8)
        made, _ = await extend(scene, recipients_of(people))
        payer = scene.make_payer(lookup_tables=made)
        propose, batch = await plan(scene, payer, people)
        await Sender.of(scene, propose, payer).land()
        _, settlement = await Sender.of(scene, batch, payer).land()
        assert settlement.executed
        assert settlement.left_out == ()
