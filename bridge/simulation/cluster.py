"""A local Solana chain with a vault and its people, for a daemon to work on: one slot for each second of its clock.

    payers ──transfer, memo "fee"──► vault (USDX, SOL)      participants ◄──deposit, withdraw──► pool (USDX)
    bookkeeper ──mints, burns──► OWED, whose supply is what the treasury owes, in lamports

Of what is paid in SOL one part goes to an account that belongs to a program, and can take it; the other to a fresh one,
and is too little for the rent of that.

What people do is drawn from the seed, slot by slot. When it was done is what the chain says in the end: a block that
was rolled back gives its transactions to a later one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import solders.system_program as system
from solders.instruction import Instruction
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from spl.token import instructions as token_instructions
from spl.token import models

from bridge.chains.solana.fees import FeeCeilings
from bridge.chains.solana.keeper import Keeper
from bridge.chains.solana.rpc import SolanaRpc
from bridge.chains.solana.signer import KeystoreSigner
from bridge.domain.units import Address, AssetId, format_address
from bridge.simulation.audit import Paid
from bridge.simulation.scenario import Decided, acts, by_time, fees_in, fixed
from bridge.simulation.scenes.scene import SceneRule
from bridge.simulation.svm.chain import Commitment, Fate
from bridge.simulation.svm.files import SOL_TOKEN, Site, fee_window, reserve_buffer
from bridge.simulation.svm.node import Node
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.stage import (
    MEMO_PROGRAM,
    PERSON_LAMPORTS,
    SOL,
    VAULT_LAMPORTS,
    Stage,
    Token,
    World,
    transfer_checked,
)
from bridge.simulation.svm.transactions import parse
from bridge.simulation.traffic import SIGNS, Act, Kind, TrafficBlock

SLOT_MS = 1000
FINALIZED_DEPTH = 8
SKIPPED_PER_MILLE = 60
PARTICIPANTS = 14
TRAFFIC_RATE = 2.0
RESERVE = 1_000_000  # whole tokens of USDX that the vault has to start with
HELD = 10_000  # and each participant
SHARES = (7_000, 3_000)
SOL_FEE = 60_000
"""Lamports, at most: a window pays out all that it found, so none is paid from after the traffic."""
HOW_OFTEN = {Kind.FEE: 1, Kind.INCUR: -1, Kind.SETTLE: 1}
KINDS = {Kind.FEE: 40, Kind.DEPOSIT: 20, Kind.WITHDRAW: 11, Kind.NOISE: 15, Kind.INCUR: 5, Kind.SETTLE: 3}
FORK_DEPTH = 3
BATCH_RECIPIENTS = 9
"""Without lookup tables, six fit at most."""
LATECOMERS = 3  # participants in no table; the last never does anything
POLL_MS = 5


@dataclass(frozen=True, slots=True)
class Gift:
    """What somebody sent to the vault and meant nothing by."""

    asset: AssetId
    amount: int
    slot: int


class Cluster:
    """A running one. `async with Cluster.start(seed, epoch_s=60, …) as cluster: …`"""

    def __init__(self, node: Node, seed: int, epoch_s: int, epochs: int) -> None:
        self.node = node
        self.chain = node.chain
        self.seed = seed
        self.epoch_s = epoch_s
        self.epochs = epochs
        self.stage = Stage(node.chain)
        self.world: World = self.stage.build_world(PARTICIPANTS)
        self.fees, self.coin = self.world.tokens[0], SOL_TOKEN
        treasury = self.stage.build_treasury(self.world)
        self.owed, self.pool, self.clerk = treasury.owed, treasury.pool, treasury.clerk
        self.beneficiaries = treasury.beneficiaries
        self.keeper = self.stage.key("table keeper")
        # Not upon the newest block: one that is rolled back would take with it all that named it.
        self.stage.anchor = Commitment.FINALIZED
        self.forks = 0
        self.gift: Gift | None = None
        self._acts: dict[str, Act] = {}  # by signature; those that were sent
        self._deposited: defaultdict[Address, int] = defaultdict(int)
        self._incurred = 0
        self.start_slot = self._debut()
        self.tables: tuple[Address, ...] = ()
        self.windows_start = self.windows_end = 0

    @classmethod
    @asynccontextmanager
    async def start(cls, seed: int, *, epoch_s: int, epochs: int, genesis_time: int) -> AsyncIterator[Cluster]:
        settings = Settings(
            seed=seed,
            slot_ms=SLOT_MS,
            timer=False,
            finalized_depth=FINALIZED_DEPTH,
            skipped_per_mille=SKIPPED_PER_MILLE,
            genesis_time=genesis_time,
        )
        async with Node.serve(settings) as node:
            cluster = cls(node, seed, epoch_s, epochs)
            cluster.tables = await cluster._make_tables()
            cluster.windows_start = -(-cluster.chain.head.time // epoch_s) * epoch_s
            cluster.windows_end = cluster.windows_start + epochs * epoch_s
            yield cluster

    async def _make_tables(self) -> tuple[Address, ...]:
        """As `bridge lookup-tables extend` does, for those who were there early."""
        funded = self.stage.fund(self.keeper.pubkey(), PERSON_LAMPORTS)
        while self.final < funded.slot:  # nodes answer with what is confirmed, however fast they are asked
            self.chain.advance()
        vault = _address(self.world.vault.pubkey())
        mint = _address(self.fees.mint)
        early = [_address(person.pubkey()) for person in self.world.participants[:-LATECOMERS]]
        rpc = SolanaRpc([self.node.rpc_url])
        work = Keeper(rpc, (), vault, [mint], FeeCeilings(0), poll_interval_ms=POLL_MS).extend(
            KeystoreSigner(self.keeper), {mint: early}, lambda _: None
        )
        making = asyncio.create_task(work)
        try:
            while not making.done():
                self.chain.advance()
                await asyncio.sleep(POLL_MS / 1000)
            return await making
        finally:
            making.cancel()
            await rpc.close()

    # ── Time ─────────────────────────────────────────────────────────────────────────────────────────────────────
    @property
    def now(self) -> int:
        return self.chain.head.time

    @property
    def over(self) -> bool:
        """Whether the traffic is: the slots of all epochs have passed."""
        return self.chain.time_of(self.chain.next_slot) >= self.windows_end

    @property
    def final(self) -> int:
        return self.chain.newest(Commitment.FINALIZED).slot

    def live(self) -> None:
        """The next slot, with what people do in it."""
        if not self.over:
            random = Random(f"{self.seed}/{self.chain.next_slot}")
            for _ in range(int(random.uniform(0, 2 * TRAFFIC_RATE) + random.random())):
                [kind] = random.choices(list(KINDS), weights=list(KINDS.values()))
                self._act(random, kind)
        self.chain.advance()

    def fork(self) -> bool:
        """Replace the newest blocks, where they hold a transaction of the operator. Whether they did."""
        recent = self.chain.blocks[-FORK_DEPTH:]
        operator = self.world.operator.pubkey()
        if not any(record.wire.payer == operator for block in recent for record in block.records):
            return False
        self.chain.fork(FORK_DEPTH, Fate.RELANDED)
        self.forks += 1
        return True

    # ── People ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _debut(self) -> int:
        """Everybody with an account pays in; the slot of the first to do so. The first participant never does anything
        again."""
        random = Random(f"{self.seed}/debut")
        slots = []
        for person in self.world.participants[:-1]:
            self._deposit(random, person)
            slots += [block.slot for block in self.chain.advance_blocks()]
        return slots[0]

    def _act(self, random: Random, kind: Kind) -> None:
        person = random.choice(self.world.participants[1:-1])
        match kind:
            case Kind.FEE:
                token, most = random.choice(((self.fees, 40 * 10**self.fees.decimals), (self.coin, SOL_FEE)))
                self._pay(kind, token, person, self.world.vault.pubkey(), random.randint(1, most))
            case Kind.WITHDRAW if self._deposited[_address(person.pubkey())]:
                amount = random.randint(1, self._deposited[_address(person.pubkey())])
                self._deposited[_address(person.pubkey())] -= amount
                act = Act(kind, _address(person.pubkey()), self.fees.symbol, amount)
                moved = transfer_checked(self.fees, self.pool.pubkey(), person.pubkey(), amount)
                self._send(act, [moved], self.pool)
            case Kind.DEPOSIT | Kind.WITHDRAW:
                self._deposit(random, person)
            case Kind.SETTLE if self._incurred:
                self._owe(random.randint(-self._incurred, -1))
            case Kind.INCUR | Kind.SETTLE:
                self._owe(random.randint(1, SOL_FEE // 10))
            case _:
                other = random.choice(self.world.participants[1:-1])
                if other != person:
                    self._pay(Kind.NOISE, self.fees, person, other.pubkey(), random.randint(1, 1000))

    def _deposit(self, random: Random, person: Keypair) -> None:
        amount = random.randint(1, 50 * 10**self.fees.decimals)
        self._deposited[_address(person.pubkey())] += amount
        self._pay(Kind.DEPOSIT, self.fees, person, self.pool.pubkey(), amount)

    def _owe(self, atoms: int) -> None:
        """Print what stands for a debt, or burn it."""
        self._incurred += atoms
        account, clerk = self.owed.account_of(self.clerk.pubkey()), self.clerk.pubkey()
        if atoms > 0:
            act = Act(Kind.INCUR, _address(clerk), self.owed.symbol, atoms)
            printing = models.MintToParams(
                program_id=self.owed.program,
                mint=self.owed.mint,
                dest=account,
                mint_authority=self.stage.director.pubkey(),
                amount=atoms,
            )
            self._send(act, [token_instructions.mint_to(printing)], self.clerk, self.stage.director)
        else:
            act = Act(Kind.SETTLE, _address(clerk), self.owed.symbol, -atoms)
            burning = models.BurnParams(
                program_id=self.owed.program, account=account, mint=self.owed.mint, owner=clerk, amount=-atoms
            )
            self._send(act, [token_instructions.burn(burning)], self.clerk)

    def _pay(self, kind: Kind, token: Token, person: Keypair, to: Pubkey, atoms: int) -> None:
        instructions = [_transfer(token, person.pubkey(), to, atoms)]
        if kind is Kind.FEE:
            instructions.append(Instruction(MEMO_PROGRAM, b"fee", []))
        act = Act(kind, _address(person.pubkey()), token.symbol, atoms, about=(_address(to),))
        self._send(act, instructions, person)

    def _send(self, act: Act, instructions: Sequence[Instruction], *signers: Keypair) -> None:
        # Two acts that are alike would be one transaction to the chain: each says which it is.
        unique = Instruction(MEMO_PROGRAM, f"act {len(self._acts)}".encode(), [])
        # Not of the newest block: one that is rolled back would take with it all that named it.
        recent = self.chain.newest(Commitment.FINALIZED).hash
        message = MessageV0.try_compile(signers[0].pubkey(), [*instructions, unique], [], recent)
        wire = parse(bytes(VersionedTransaction(message, list(signers))))
        self.chain.submit(wire)
        self._acts[wire.signature] = act

    def give(self) -> Gift:
        """A payment into the vault that says nothing of a fee."""
        atoms = 7 * 10**self.fees.decimals
        record = self.stage.transfer(self.fees, self.world.participants[1], self.world.vault.pubkey(), atoms)
        self.gift = Gift(self.asset(self.fees), atoms, record.slot)
        return self.gift

    def freeze(self, frozen: bool) -> None:
        """The account of the participant who does nothing."""
        change = self.stage.freeze if frozen else self.stage.thaw
        change(self.fees, self.world.participants[0].pubkey())

    @property
    def suspect(self) -> Address:
        """Whose account is frozen."""
        return _address(self.world.participants[0].pubkey())

    def drop_next(self) -> None:
        """The next transaction that is sent through the node gets lost on its way; the answer says nothing of it."""
        self.node.faults.drop_next = 1

    @property
    def looked_up(self) -> list[int]:
        """For each payout that went through a table: how many token accounts it changed, beside the vault's."""
        operator = self.world.operator.pubkey()
        return [
            len(record.meta["postTokenBalances"]) - 1
            for block in self.chain.blocks
            for record in block.records
            if record.wire.payer == operator and record.err is None and len(record.loaded.keys) > record.loaded.static
        ]

    # ── What follows from it ─────────────────────────────────────────────────────────────────────────────────────
    def history(self) -> list[TrafficBlock]:
        """The acts by the blocks that they ended up in, in order."""
        found: defaultdict[tuple[int, int], list[tuple[int, Act]]] = defaultdict(list)
        for signature, act in self._acts.items():
            record = self.chain.history.find(signature)
            if record is not None and record.err is None:
                found[record.slot, self.chain.time_of(record.slot)].append((record.place.index, act))
        return [
            TrafficBlock(slot, time, tuple(act for _, act in sorted(placed, key=lambda each: each[0])), ())
            for (slot, time), placed in sorted(found.items())
        ]

    @property
    def lost(self) -> list[str]:
        """Acts that failed: whoever draws them sees to it that there are none."""
        records = {signature: self.chain.history.find(signature) for signature in self._acts}
        return [signature for signature, record in records.items() if record is None or record.err is not None]

    @property
    def rules(self) -> tuple[SceneRule, ...]:
        shares = {_address(key): bps for key, bps in zip(self.beneficiaries, SHARES, strict=True)}
        return (
            SceneRule("fee_window", "fee_window", fee_window, surplus=fees_in("USDX"), weights=by_time),
            SceneRule("reserve_buffer", "reserve_buffer", reserve_buffer, beneficiaries=True,
                      surplus=self._surplus, weights=fixed(shares)),
        )  # fmt: skip

    def ends(self) -> list[int]:
        """Of the windows that must have been decided."""
        return list(range(self.windows_start + self.epoch_s, self.windows_end + 1, self.epoch_s))

    def _surplus(self, history: Sequence[TrafficBlock], decided: Sequence[Decided]) -> list[int]:
        """What came in, less what is owed, the floor, and what earlier windows gave away, left or not."""
        found, given = [], 0
        for each in decided:
            left = -given
            for act in acts(history, 0, each.end):
                if act.token in {self.coin.symbol, self.owed.symbol}:
                    left += HOW_OFTEN.get(act.kind, 0) * act.amount
            found.append(max(left, 0))
            given += sum(each.paid.values())
        return found

    def audit(self, payouts: Sequence[Paid]) -> list[str]:
        """Every difference between what accounts hold and what follows from the acts and the payouts."""
        wrong = [f"act {signature} of the traffic failed" for signature in self.lost]
        for token in (self.fees, self.coin):
            expected = self._expected(token, payouts)
            for owner, amount in sorted(expected.items()):
                held = self._held(token, Pubkey(owner))
                if held != amount:
                    wrong.append(
                        f"{format_address(owner)} holds {held} atoms of {token.symbol} on the chain, "
                        f"{amount} follow from its own transactions and its payouts"
                    )
        return wrong

    def _held(self, token: Token, owner: Pubkey) -> int:
        if token is not self.coin:
            return self.stage.held(token, owner)
        account = self.chain.machine.read(owner)
        return 0 if account is None else account.lamports

    def _expected(self, token: Token, payouts: Sequence[Paid]) -> Mapping[Address, int]:
        """By account, but for those whose SOL pays for transactions."""
        vault, pool = _address(self.world.vault.pubkey()), _address(self.pool.pubkey())
        expected = dict.fromkeys(map(_address, self.beneficiaries), 0)
        if token is self.coin:
            expected[vault] = VAULT_LAMPORTS
            expected[_address(self.beneficiaries[0])] = SOL
        else:
            expected |= {_address(person.pubkey()): HELD * 10**token.decimals for person in self.world.participants}
            expected[_address(self.world.participants[-1].pubkey())] = 0
            expected |= {pool: 0, vault: RESERVE * 10**token.decimals}
        history = self.history()
        for act in acts(history, 0, 2**63):
            if act.token == token.symbol:
                other = act.about[0] if act.about else pool
                for account, sign in ((act.sender, SIGNS[act.kind]), (other, -SIGNS[act.kind])):
                    if account in expected:
                        expected[account] += sign * act.amount
        if token is self.fees and self.gift is not None:
            expected[_address(self.world.participants[1].pubkey())] -= self.gift.amount
            expected[vault] += self.gift.amount
        for payout in payouts:
            if payout.token == _address(token.mint) and payout.outcome == "paid":
                expected[payout.recipient] = expected.get(payout.recipient, 0) + payout.amount
                expected[vault] -= payout.amount
        return expected

    @property
    def poor(self) -> Address:
        """Whose share of SOL is less than the rent of a fresh account: it waits for a person, who does nothing."""
        return _address(self.beneficiaries[1])

    def asset(self, token: Token) -> AssetId:
        return AssetId(f"{self.reference}/token:{token.mint}")

    @property
    def reference(self) -> str:
        return f"solana:{str(self.chain.genesis_hash)[:32]}"

    # ── Files ────────────────────────────────────────────────────────────────────────────────────────────────────
    def facts(self) -> dict[str, Any]:
        return {
            "rpc_url": self.node.rpc_url,
            "control_url": self.node.control_url,
            "genesis_hash": str(self.chain.genesis_hash),
            "start_block": self.start_slot,
            "contracts": {
                "vault": str(self.world.vault.pubkey()),
                "pool": str(self.pool.pubkey()),
                "obligations": str(self.owed.mint),
            },
            "operator": str(self.world.operator.pubkey()),
            "tokens": {token.symbol: str(token.mint) for token in (self.fees, self.coin, self.owed)},
            "lookup_tables": [format_address(table) for table in self.tables],
            "participants": [str(person.pubkey()) for person in self.world.participants],
            "beneficiaries": [str(key) for key in self.beneficiaries],
        }

    @property
    def site(self) -> Site:
        """What the configuration of a daemon is made from."""
        return Site(
            genesis_hash=str(self.chain.genesis_hash),
            rpc_url=self.node.rpc_url,
            ws_url=self.node.ws_url,
            start_slot=self.start_slot,
            poll_interval_ms=200,
            operator=self.world.operator,
            vault=self.world.vault,
            pool=str(self.pool.pubkey()),
            obligations=str(self.owed.mint),
            tokens=(self.fees, self.coin),
            beneficiaries=self.beneficiaries,
            epoch_s=self.epoch_s,
            batch_recipients=BATCH_RECIPIENTS,
            lookup_tables=[format_address(table) for table in self.tables],
            keeper=self.keeper,
        )


def _transfer(token: Token, owner: Pubkey, to: Pubkey, atoms: int) -> Instruction:
    if token is SOL_TOKEN:
        return system.transfer(system.TransferParams(from_pubkey=owner, to_pubkey=to, lamports=atoms))
    return transfer_checked(token, owner, to, atoms)


def _address(key: Pubkey) -> Address:
    return Address(bytes(key))
