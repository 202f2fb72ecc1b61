"""Puts timelock, vault, distributor and, where sets are claimed, claims on a chain and hands every right over; the
deployer keeps none.

plan ─► step by step:  nothing saved ─sign, save─► attempt ─send─► included ─► next step
                                                     └─ not included for some blocks: a dearer attempt, saved first

The plan is a pure function of the order, the deployer and its first nonce, so addresses are known before anything is
sent. Each attempt is saved in a journal file before a byte of it leaves: a deployment that was cut off goes on where it
was, and nothing is made twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rlp
from eth_hash.auto import keccak
from eth_utils.address import to_checksum_address

from bridge.chains.evm.contracts import Artifact
from bridge.chains.evm.fees import FeeCeilings, fee_fields, read_market
from bridge.chains.evm.governance import ROLES, all_roles, role_id
from bridge.chains.evm.payer import GAS_MARGIN_DENOMINATOR, GAS_MARGIN_NUMERATOR
from bridge.chains.evm.rpc import EvmRpc, RpcRefused
from bridge.chains.evm.wire import quantity
from bridge.domain.errors import ConfigError, RefusedError
from bridge.domain.governance import TokenLimits
from bridge.domain.payouts import Signed
from bridge.domain.units import Address, hexed
from bridge.ports.paying import Signer

POLL_S = 1
BUMP_AFTER_BLOCKS = 5

ARTIFACT_OF = {
    "timelock": "AdminTimelock",
    "vault": "SurplusVault",
    "distributor": "Distributor",
    "claims": "Claims",
}
"""In the order in which they are made."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be on the chain. `roles` holds the people's roles only; the contracts' own follow from the plan."""

    roles: Mapping[tuple[str, str], frozenset[Address]]
    limits: Mapping[Address, TokenLimits]  # by token
    epoch_s: int
    delay_s: int
    approval_lifetime_s: int
    admin_delay_s: int
    activation_delay_s: int | None = None  # of trees; without it there is no contract to claim from


@dataclass(frozen=True, slots=True)
class Step:
    """One transaction of the deployer. `to` is None where it makes a contract."""

    name: str
    to: Address | None
    data: bytes


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]  # step i has the deployer's nonce first_nonce + i
    contracts: Mapping[str, Address]
    roles: Mapping[tuple[str, str], frozenset[Address]]  # every holder of every role, when all is done


def contract_address(creator: Address, nonce: int) -> Address:
    """Of a contract that `creator` makes with that nonce (Yellow Paper, section 7: the hash of the two in RLP)."""
    return Address(keccak(rlp.encode([bytes(creator), nonce]))[12:])


def make_plan(order: Order, deployer: Address, first_nonce: int) -> Plan:
    """The contracts; their rights and limits; last, the deployer gives its own away."""
    names = [name for name in ARTIFACT_OF if name != "claims" or order.activation_delay_s is not None]
    contracts = {name: contract_address(deployer, first_nonce + index) for index, name in enumerate(names)}
    artifacts = {name: Artifact.load(ARTIFACT_OF[name]) for name in names}
    admins = [hexed(admin) for admin in sorted(order.roles["timelock", "PROPOSER_ROLE"])]
    gate = (hexed(deployer), hexed(contracts["vault"]), order.delay_s, order.approval_lifetime_s)
    arguments: dict[str, tuple[object, ...]] = {
        "timelock": (order.admin_delay_s, admins),
        "vault": (hexed(deployer), order.epoch_s),
        "distributor": gate,
        "claims": (*gate, order.activation_delay_s),
    }
    steps = [Step(f"make {name}", None, artifacts[name].creation(*arguments[name])) for name in names]

    def call(name: str, contract: str, function: str, *arguments: object) -> None:
        steps.append(Step(name, contracts[contract], artifacts[contract].call(function, *arguments)))

    for token, limits in sorted(order.limits.items()):
        call(f"limits of {hexed(token)}", "vault", "setLimits", hexed(token), limits.floor, limits.cap_per_epoch)
        autos = {"distributor": limits.auto_per_epoch, "claims": limits.claims_auto_per_epoch}
        for contract in names:
            if autos.get(contract):
                call(f"auto-limit of {hexed(token)}", contract, "setAutoLimit", hexed(token), autos[contract])
    roles, owned = all_roles(order.roles, contracts), names[1:]  # the timelock is made with its roles
    # The admin's role last: it is what all other steps need.
    granted = [(contract, role) for contract in owned for role in ROLES[contract]]
    for contract, role in sorted(granted, key=lambda pair: pair[1] == "DEFAULT_ADMIN_ROLE"):
        for holder in sorted(roles[contract, role]):
            call(f"{role} of {contract} to {hexed(holder)}", contract, "grantRole", role_id(role), hexed(holder))
    for contract in owned:
        admin = role_id("DEFAULT_ADMIN_ROLE")
        call(f"the deployer renounces {contract}", contract, "renounceRole", admin, hexed(deployer))
    return Plan(tuple(steps), contracts, roles)


class Journal:
    """The file in which every attempt is saved before it is sent.

    {"chain_id", "deployer", "first_nonce", "plan": sha256 of the steps, "attempts": [[raw, …] of each step begun]}
    """

    def __init__(self, path: Path) -> None:
        """Raises ConfigError for a file that is there and is no journal."""
        self.path = path
        self.first_nonce: int | None = None
        self.attempts: list[list[dict[str, Any]]] = []
        self._head: dict[str, object] = {}
        if not path.exists():
            return
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            self.attempts = content.pop("attempts")
            self.first_nonce, self._head = content["first_nonce"], content
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ConfigError(
                "is no journal of a deployment", where=str(path), mend="put the right file back, or move this one away"
            ) from None

    def begin(self, chain_id: int, deployer: Address, first_nonce: int, plan: Plan) -> None:
        """Raises ConfigError where the journal belongs to another deployment."""
        digest = hashlib.sha256(repr(plan.steps).encode()).hexdigest()
        head: dict[str, object] = {
            "chain_id": chain_id,
            "deployer": hexed(deployer),
            "first_nonce": first_nonce,
            "plan": digest,
        }
        if not self._head:
            self._head, self.first_nonce = dict(head), first_nonce
            self._write()
        for field, value in head.items():
            if self._head[field] != value:
                raise ConfigError(
                    f"this deployment was begun with another {field}: {self._head[field]}, not {value}",
                    where=str(self.path),
                    mend="finish it with what it was begun with, or move the file away to begin anew",
                )

    def save(self, step: int, signed: Signed) -> None:
        if step == len(self.attempts):
            self.attempts.append([])
        fees = {"max_fee": signed.max_fee, "priority_fee": signed.priority_fee, "gas_limit": signed.gas_limit}
        self.attempts[step].append({"tx_id": hexed(signed.tx_id), "raw": hexed(signed.raw)} | fees)
        self._write()

    def of_step(self, step: int) -> list[Signed]:
        """Every attempt of a step, oldest first."""
        return [
            Signed(
                bytes.fromhex(entry["tx_id"][2:]),
                bytes.fromhex(entry["raw"][2:]),
                entry["gas_limit"],
                entry["max_fee"],
                entry["priority_fee"],
            )
            for entry in (self.attempts[step] if step < len(self.attempts) else [])
        ]

    def _write(self) -> None:
        fresh = self.path.with_name(self.path.name + ".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({**self._head, "attempts": self.attempts}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.path)


@dataclass(frozen=True, slots=True)
class Deployed:
    plan: Plan
    last_block: int  # of the last step


class Deployer:
    """Carries out a plan. Uses the deployer's account alone: nothing else may send from it meanwhile."""

    def __init__(self, rpc: EvmRpc, signer: Signer, journal: Journal, *, chain_id: int, ceilings: FeeCeilings) -> None:
        self._rpc = rpc
        self._signer = signer
        self._journal = journal
        self._chain_id = chain_id
        self._ceilings = ceilings

    async def deploy(self, order: Order, tell: Callable[[str], None]) -> Deployed:
        """Raises ConfigError where the journal is of another order, RefusedError where a step fails."""
        account = hexed(self._signer.account)
        nonce = self._journal.first_nonce
        if nonce is None:
            nonce = await self._number("eth_getTransactionCount", account, "latest")
        plan = make_plan(order, self._signer.account, nonce)
        self._journal.begin(self._chain_id, self._signer.account, nonce, plan)
        block = 0
        for index, step in enumerate(plan.steps):
            receipt = await self._carry_out(index, step, nonce + index)
            block = quantity(receipt["blockNumber"])
            tell(f"{index + 1} of {len(plan.steps)}: {step.name}, block {block}")
        return Deployed(plan, block)

    async def _carry_out(self, index: int, step: Step, nonce: int) -> dict[str, Any]:
        """Until one attempt of the step is in a block, whichever."""
        sent_at = 0
        while True:
            attempts = self._journal.of_step(index)
            for attempt in attempts:
                receipt = await self._rpc.call("eth_getTransactionReceipt", [hexed(attempt.tx_id)])
                if receipt is not None:
                    return _succeeded(step, receipt)
            head = await self._number("eth_blockNumber")
            if not attempts or (sent_at and head >= sent_at + BUMP_AFTER_BLOCKS):
                await self._check_nonce(nonce)
                signed = await self._sign(step, nonce, attempts)
                if signed is not None:
                    self._journal.save(index, signed)
                    attempts.append(signed)
                sent_at = 0
            sent_at = sent_at or head
            # No answer counts: the same bytes are sent again, and every hash is looked up, until one is in a block.
            await self._rpc.call_on_each("eth_sendRawTransaction", [hexed(attempts[-1].raw)])
            await asyncio.sleep(POLL_S)

    async def _check_nonce(self, nonce: int) -> None:
        account = hexed(self._signer.account)
        if await self._number("eth_getTransactionCount", account, "latest") > nonce:
            raise RefusedError(f"{account} has spent nonce {nonce} on something else; begin anew with a fresh account")

    async def _sign(self, step: Step, nonce: int, attempts: list[Signed]) -> Signed | None:
        """None where the fee ceiling leaves no room for a dearer attempt."""
        market = await read_market(self._rpc, None)
        fees = market.offer(self._ceilings, attempts[-1] if attempts else None)
        if fees is None:
            return None
        gas_limit = attempts[-1].gas_limit if attempts else await self._gas_limit(step)
        transaction = {
            "chainId": self._chain_id,
            "nonce": nonce,
            "value": 0,
            "data": step.data,
            "gas": gas_limit,
            **({} if step.to is None else {"to": to_checksum_address(step.to)}),
            **fee_fields(fees, market),
        }
        tx_id, raw = await self._signer.sign(transaction)
        return Signed(tx_id, raw, gas_limit, fees.max_fee, fees.priority_fee)

    async def _gas_limit(self, step: Step) -> int:
        call = {"from": hexed(self._signer.account), "data": hexed(step.data)}
        if step.to is not None:
            call["to"] = hexed(step.to)
        try:
            estimate = await self._number("eth_estimateGas", call)
        except RpcRefused as refused:
            raise RefusedError(f"`{step.name}` would fail: {refused.message}") from None
        return estimate * GAS_MARGIN_NUMERATOR // GAS_MARGIN_DENOMINATOR

    async def _number(self, method: str, *parameters: object) -> int:
        return quantity(await self._rpc.call(method, list(parameters)))


def _succeeded(step: Step, receipt: dict[str, Any]) -> dict[str, Any]:
    if quantity(receipt["status"]) != 1:
        raise RefusedError(f"`{step.name}` failed on chain, transaction {receipt['transactionHash']}")
    return receipt
