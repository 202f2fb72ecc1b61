"""Brings the contracts and the people of a sandbox onto its empty chain.

block  1  tokens                          what is not ours
       2  the scene's contracts           what is not ours either; some know where the vault will be
       3  timelock, vault, distributor,   as `bridge deploy` makes them, with all rights and limits
          claims
       4… money                           for everyone, a bounded number of transactions a block
       …  allowances                      so that the traffic can pay and deposit
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from eth_hash.auto import keccak

from bridge.chains.evm.contracts import Artifact, Contract
from bridge.chains.evm.deployment import ARTIFACT_OF, Order, Plan, make_plan
from bridge.chains.evm.governance import GATES
from bridge.domain.governance import TokenLimits
from bridge.domain.units import Address, hexed
from bridge.simulation.anvil import Anvil
from bridge.simulation.scenes.market import MARKET
from bridge.simulation.scenes.scene import Coin, Creation, Ground, Scene
from bridge.simulation.traffic import OUTSIDERS, PAYERS, WORTH_PER_SENDER, Allowance, Cast, Stage, Token
from bridge.simulation.wallets import DEPLOYER_KEY, GAS_LIMIT, Wallet

BENEFICIARIES = 2
ETHER = 10**18
GAS_MONEY_WEI = 100 * ETHER
CREATION_GAS_LIMIT = 6_000_000
TRANSACTIONS_PER_BLOCK = 250  # of GAS_LIMIT each: below the block's gas limit

# In whole tokens: what the vault never goes below, and what may leave it in an epoch.
FLOOR = 1_000
CAP_PER_EPOCH = 10_000_000
UINT256_MAX = 2**256 - 1

# Of the gate: all that the cap lets out passes under the auto-limit, so that nobody has to approve anything. What the
# auto-limit does not cover would wait for an approval and this delay, in seconds of block time.
GATE_DELAY_S = 3_600
APPROVAL_LIFETIME_S = 86_400
ADMIN_DELAY_S = 0  # an experiment need not be announced
ACTIVATION_DELAY_S = 2  # of trees


@dataclass(frozen=True, slots=True)
class Deployment:
    """Everything that is on the chain at block `head`, the last one that was needed for it."""

    scene: Scene
    stage: Stage
    cast: Cast
    distributor: Contract
    claims: Contract
    timelock: Contract
    admin: Wallet  # of the timelock; also the guardian
    approver: Wallet
    operator: Wallet  # has sent nothing yet: its nonce on the chain is 0
    claimant: Wallet  # claims for everybody, who gets it; it owns gas money alone
    code: Mapping[str, bytes]  # keccak256 of the runtime code of each contract of ours
    head: int

    def as_admin(self, target: Address, data: bytes) -> list[bytes]:
        """The transactions, for one block, with which the timelock makes a call: announced and carried out at once."""
        call = (hexed(target), 0, data, bytes(32), self.admin.nonce.to_bytes(32, "big"))
        return [
            self.admin.sign(self.timelock.address, self.timelock.call("schedule", *call, ADMIN_DELAY_S)),
            self.admin.sign(self.timelock.address, self.timelock.call("execute", *call)),
        ]


class Deployer:
    """Mines blocks of its own transactions; block n gets the timestamp genesis + n × step."""

    def __init__(self, anvil: Anvil, seed: int, *, genesis_timestamp: int, step_s: int, epoch_s: int) -> None:
        self.head = 0
        self.wallet = Wallet(DEPLOYER_KEY)
        self._anvil = anvil
        self._seed = seed
        self._genesis_timestamp = genesis_timestamp
        self._step_s = step_s
        self._epoch_s = epoch_s

    async def deploy(self, participants: int, scene: Scene = MARKET) -> Deployment:
        """Raises ConfigError where a contract has not been built, RefusedError where one does not do as it should."""
        tokens = await self._make_tokens(scene.coins)
        operator, approver, claimant = (
            Wallet.derive(self._seed, role) for role in ("operator", "approver", "claimant")
        )
        contracts, plan = await self._make_contracts(scene, tokens, operator, approver)
        ours = await self._govern(plan)
        stage = Stage(
            tokens=tokens,
            vault=ours["vault"],
            contracts=contracts,
            participants=self._wallets("participant", participants),
            payers=self._wallets("payer", PAYERS),
            outsiders=self._wallets("outsider", OUTSIDERS),
            bookkeeper=self.wallet,
            beneficiaries=self._wallets("beneficiary", BENEFICIARIES),
        )
        cast = scene.cast(stage)
        await self._send(self._money(stage, scene.coins, operator, approver, claimant))
        await self._send([_approval(allowance) for allowance in cast.allowances()])
        return Deployment(
            scene,
            stage,
            cast,
            distributor=ours["distributor"],
            claims=ours["claims"],
            timelock=ours["timelock"],
            admin=self.wallet,
            approver=approver,
            operator=operator,
            claimant=claimant,
            code={name: await self._code_hash(contract) for name, contract in ours.items()},
            head=self.head,
        )

    async def _make_tokens(self, coins: Sequence[Coin]) -> tuple[Token, ...]:
        made = await self._create([Creation("TestToken", (coin.name, coin.symbol, coin.decimals)) for coin in coins])
        return tuple(Token(coin.symbol, coin.decimals, contract) for coin, contract in zip(coins, made, strict=True))

    async def _make_contracts(
        self, scene: Scene, tokens: tuple[Token, ...], operator: Wallet, approver: Wallet
    ) -> tuple[dict[str, Contract], Plan]:
        """The scene's contracts, made; ours, planned, so that the scene's know where the vault will be."""
        count = len(scene.contracts(Ground(tokens, Address(bytes(20)))))
        plan = make_plan(self._order(tokens, operator, approver), self.wallet.address, self.wallet.nonce + count)
        creations = scene.contracts(Ground(tokens, plan.contracts["vault"]))
        made = await self._create(list(creations.values()))
        return dict(zip(creations, made, strict=True)), plan

    def _order(self, tokens: Sequence[Token], operator: Wallet, approver: Wallet) -> Order:
        us = frozenset({self.wallet.address})
        return Order(
            roles={
                ("timelock", "PROPOSER_ROLE"): us,
                ("timelock", "EXECUTOR_ROLE"): us,
                ("timelock", "CANCELLER_ROLE"): us,
                ("vault", "GUARDIAN_ROLE"): us,
                **{(gate, "PROPOSER_ROLE"): frozenset({operator.address}) for gate in GATES},
                **{(gate, "APPROVER_ROLE"): frozenset({approver.address}) for gate in GATES},
                **{(gate, "GUARDIAN_ROLE"): us for gate in GATES},
            },
            limits={
                token.contract.address: TokenLimits(
                    FLOOR * token.unit, *(CAP_PER_EPOCH * token.unit for _ in ("in all", "pushed", "claimed"))
                )
                for token in tokens
            },
            epoch_s=self._epoch_s,
            delay_s=GATE_DELAY_S,
            approval_lifetime_s=APPROVAL_LIFETIME_S,
            admin_delay_s=ADMIN_DELAY_S,
            activation_delay_s=ACTIVATION_DELAY_S,
        )

    async def _govern(self, plan: Plan) -> dict[str, Contract]:
        """Everything that `bridge deploy` does, in one block."""
        await self._mine([
            self.wallet.sign(step.to, step.data, gas=CREATION_GAS_LIMIT if step.to is None else GAS_LIMIT)
            for step in plan.steps
        ])  # fmt: skip
        return {name: Contract(address, Artifact.load(ARTIFACT_OF[name])) for name, address in plan.contracts.items()}

    def _wallets(self, role: str, count: int) -> tuple[Wallet, ...]:
        return tuple(Wallet.derive(self._seed, role, index) for index in range(count))

    async def _create(self, creations: Sequence[Creation]) -> list[Contract]:
        artifacts = [Artifact.load(creation.artifact) for creation in creations]
        transactions = [
            self.wallet.sign(None, artifact.creation(*creation.arguments), gas=CREATION_GAS_LIMIT)
            for artifact, creation in zip(artifacts, creations, strict=True)
        ]
        receipts = await self._mine(transactions)
        return [
            Contract(Address(bytes.fromhex(receipt["contractAddress"][2:])), artifact)
            for receipt, artifact in zip(receipts, artifacts, strict=True)
        ]

    def _money(self, stage: Stage, coins: Sequence[Coin], *officials: Wallet) -> list[bytes]:
        people = [*stage.participants, *stage.payers, *stage.outsiders]
        usdx, worth = stage.tokens[0], WORTH_PER_SENDER
        minted = [
            *((stage.token(coin.symbol), stage.vault.address, coin.reserve) for coin in coins),
            *((usdx, wallet.address, worth) for wallet in stage.participants),
            *((token, wallet.address, worth) for token in stage.tokens for wallet in (*stage.payers, *stage.outsiders)),
        ]
        return [
            *(self.wallet.sign(wallet.address, value=GAS_MONEY_WEI) for wallet in (*officials, *people)),
            *(
                self.wallet.sign(token.contract.address, token.contract.call("mint", hexed(owner), amount * token.unit))
                for token, owner, amount in minted
            ),
        ]

    async def _code_hash(self, contract: Contract) -> bytes:
        return keccak(bytes.fromhex((await self._anvil.call("eth_getCode", hexed(contract.address), "latest"))[2:]))

    async def _send(self, transactions: Sequence[bytes]) -> None:
        for start in range(0, len(transactions), TRANSACTIONS_PER_BLOCK):
            await self._mine(transactions[start : start + TRANSACTIONS_PER_BLOCK])

    async def _mine(self, transactions: Sequence[bytes]) -> list[dict[str, str]]:
        self.head += 1
        return await self._anvil.mine(self._genesis_timestamp + self.head * self._step_s, transactions)


def _approval(allowance: Allowance) -> bytes:
    token, spender = allowance.token.contract, allowance.spender
    return allowance.owner.sign(token.address, token.call("approve", hexed(spender.address), UINT256_MAX))
