"""Random transfers, forks and expiry against a model that knows nothing of journals: it replays whole histories."""

import os
import random

import pytest
from solders.keypair import Keypair

from bridge.simulation.svm.chain import Chain, Commitment, Fate
from bridge.simulation.svm.settings import Settings
from bridge.simulation.svm.stage import SOL, Stage, derive_key
from bridge.simulation.svm.transactions import Wire, parse
from tests.simulation.svm.sending import giving, signed

STEPS = int(os.environ.get("SVM_MODEL_STEPS", "150"))
FEE = 5000
WALLETS = 5
Holding = dict[str, int]


class Model:
    """What everybody holds after each block, computed from plain numbers. It shares no code with the chain."""

    def __init__(self, holding: Holding) -> None:
        self.after = [holding]  # one for each block of the living fork
        self.landed: list[set[str]] = [set()]

    def add(self, moves: list[tuple[str, str, str, int]]) -> None:
        """A block of (signature, from, to, lamports), each at most once on a fork."""
        holding, signatures = dict(self.after[-1]), set(self.landed[-1])
        for signature, payer, to, lamports in moves:
            assert signature not in signatures, "landed twice"
            signatures.add(signature)
            holding[payer] -= FEE
            if lamports <= holding[payer]:
                holding[payer] -= lamports
                holding[to] += lamports
        self.after.append(holding)
        self.landed.append(signatures)

    def cut(self, depth: int) -> None:
        """A fork."""
        del self.after[len(self.after) - depth :], self.landed[len(self.landed) - depth :]


class Player:
    """Plays at random on a chain and keeps the model beside it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        settings = Settings(
            timer=False, seed=seed, confirmed_depth=2, finalized_depth=6, skipped_per_mille=100, genesis_time=0
        )
        self.chain = Chain(settings, 0)
        stage = Stage(self.chain)
        self.wallets = [derive_key(seed, f"wallet {index}") for index in range(WALLETS)]
        for wallet in self.wallets:
            stage.fund(wallet.pubkey(), 20 * SOL)
        self.chain.advance_blocks(6)
        self.base = self.chain.head.height
        self.model = Model({str(wallet.pubkey()): 20 * SOL for wallet in self.wallets})
        self.moves: dict[str, tuple[str, str, str, int]] = {}
        self.sent: list[Wire] = []

    def play(self) -> None:
        """One random step, and then compare."""
        step = self.chance.random()
        if step < 0.55:
            self.send()
        elif step < 0.65 and self.sent:
            self.chain.submit(self.chance.choice(self.sent))  # whatever was sent may be sent again at any time
        elif step < 0.92:
            self.advance(self.chance.choice((1, 1, 1, 2, 3)))
        elif step < 0.94:
            self.advance(self.chance.randrange(140, 170))
        else:
            self.fork()
        self.compare()

    def send(self) -> None:
        payer, other = self.chance.sample(self.wallets, 2)
        recent = self.chain.blocks[-self.chance.randrange(1, 8) :][0]
        lamports = self.chance.choice((self.chance.randrange(SOL), self.chance.randrange(30 * SOL)))
        wire = parse(bytes(signed(recent.hash, [giving(payer, other.pubkey(), lamports)], payer)))
        self.moves[wire.signature] = (wire.signature, str(payer.pubkey()), str(other.pubkey()), lamports)
        self.sent.append(wire)
        self.chain.submit(wire)

    def advance(self, slots: int) -> None:
        for block in self.chain.advance(slots):
            self.model.add([self.moves[record.signature] for record in block.records])

    def fork(self) -> None:
        loose = self.chain.head.height - self.chain.newest(Commitment.FINALIZED).height
        depth = self.chance.randrange(min(loose, self.chain.head.height - self.base) + 1)
        self.chain.fork(depth, self.chance.choice(list(Fate)))
        self.model.cut(depth)
        assert self.chain.head.records == []
        self.model.add([])

    def compare(self) -> None:
        for commitment in Commitment:
            block = self.chain.newest(commitment)
            if block.height >= self.base:
                expected = self.model.after[block.height - self.base]
                assert self.held(block.height) == expected, commitment
        signatures = {record.signature for block in self.chain.blocks for record in block.records}
        assert self.model.landed[-1] == signatures & set(self.moves)
        assert len(self.chain.history) == len(signatures)

    def held(self, height: int) -> Holding:
        block = self.chain.at_height(height)
        accounts = {str(wallet.pubkey()): self.chain.account(wallet.pubkey(), block) for wallet in self.wallets}
        return {key: 0 if account is None else account.lamports for key, account in accounts.items()}


@pytest.mark.parametrize("_round", range(4))
def test_chain__random_transfers_forks_and_expiry__agrees_with_the_model(_round: int):
    seed = int(os.environ.get("SVM_MODEL_SEED", random.SystemRandom().randrange(2**32)))
    print(f"again with: SVM_MODEL_SEED={seed} scripts/test tests/simulation/svm/test_model.py")
    player = Player(seed)
    for _ in range(STEPS):
        player.play()
    for height in range(player.base, player.chain.head.height + 1):
        assert player.held(height) == player.model.after[height - player.base]
    assert any(player.model.landed), "something must have happened"
    assert isinstance(player.wallets[0], Keypair)
