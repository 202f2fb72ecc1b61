"""What the contracts of a chain should be by the configuration: made so once, and checked at each start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from bridge.chains.evm.deployment import Deployer, Journal, Order, Plan
from bridge.chains.evm.fees import FeeCeilings
from bridge.chains.evm.governance import GATES, all_roles, read_governance
from bridge.chains.evm.rpc import EvmRpc
from bridge.domain.errors import ConfigError
from bridge.domain.governance import Governance, TokenLimits, differences
from bridge.domain.units import Address, format_address
from bridge.ports.paying import Signer
from bridge.runtime.config import Config
from bridge.runtime.evm_section import EvmSection

Roles = Mapping[tuple[str, str], frozenset[Address]]


def check_operator(section: EvmSection, operator: Address, where: str) -> None:
    """Raises ConfigError where one stolen key could do what the separation of roles is there to prevent."""
    governance = section.governance
    for role, holders in (
        ("approvers", governance.approvers),
        ("admins", governance.admins),
        ("guardians", governance.guardians),
    ):
        if operator in holders:
            raise ConfigError(
                f"the operator {format_address(operator)} is one of the {role}",
                where=f"{where} governance.{role}",
                mend="give that role to another account: a stolen operator key must not be enough",
            )


def order_of(section: EvmSection, operator: Address) -> Order:
    governance, claims = section.governance, section.claims
    return Order(
        roles=_people(section, operator),
        limits={section.tokens[symbol].address: limits for symbol, limits in _limits(section).items()},
        epoch_s=governance.epoch_s,
        delay_s=governance.delay_s,
        approval_lifetime_s=governance.approval_lifetime_s,
        admin_delay_s=governance.admin_delay_s,
        activation_delay_s=None if claims is None else claims.activation_delay_s,
    )


def wanted_governance(section: EvmSection, operator: Address) -> Governance:
    governance = section.governance
    settings = {("timelock", "getMinDelay"): governance.admin_delay_s, ("vault", "epochLength"): governance.epoch_s}
    for gate in _gates(section):
        settings[gate, "delay"] = governance.delay_s
        settings[gate, "approvalLifetime"] = governance.approval_lifetime_s
    if section.claims is not None:
        settings["claims", "activationDelay"] = section.claims.activation_delay_s
    return Governance(
        code={name: governance.code[name] for name in section.governed},
        roles=all_roles(_people(section, operator), _governed(section)),
        limits=_limits(section),
        settings=settings,
    )


async def check_governance(config: Config, chain: str, rpc: EvmRpc, operator: Address) -> None:
    """Raises ConfigError, naming every difference, unless roles, limits and code are as the configuration says."""
    section, where = config.evm(chain), f"{config.path}: [chains.{chain}]"
    check_operator(section, operator, where)
    found = await _read(section, _governed(section), rpc)
    different = differences(wanted_governance(section, operator), found)
    if different:
        raise ConfigError(
            "the contracts are not as configured:\n" + "\n".join(f"  - {line}" for line in different),
            where=f"{where} governance",
            mend="if the chain is right, correct the configuration; if not, find out who changed it before you start",
        )


async def deploy(
    config: Config, chain: str, rpc: EvmRpc, signer: Signer, *, operator: Address, tell: Callable[[str], None]
) -> str:
    """Make the contracts of one chain, or go on with it; the lines for the configuration.

    Raises ConfigError for a journal of another deployment, RefusedError where a step fails.
    """
    section = config.evm(chain)
    where = f"{config.path}: [chains.{chain}]"
    check_operator(section, operator, where)
    if signer.account == operator:
        raise ConfigError(
            "the deployer is the operator", where=where, mend="deploy with a fresh account, which keeps no right"
        )
    ceilings = FeeCeilings(section.spending.max_fee_per_gas, section.spending.priority_fee_per_gas)
    journal = Journal(journal_path(config, chain))
    deployer = Deployer(rpc, signer, journal, chain_id=section.chain_id, ceilings=ceilings)
    deployed = await deployer.deploy(order_of(section, operator), tell)
    found = await _read(section, deployed.plan.contracts, rpc)
    return configuration_lines(chain, deployed.plan, found.code, deployed.last_block)


def journal_path(config: Config, chain: str) -> Path:
    return config.relative(f"deployment-{chain}.json")


def configuration_lines(chain: str, plan: Plan, code: Mapping[str, bytes], last_block: int) -> str:
    addresses = "\n".join(f'{name} = "{format_address(address)}"' for name, address in plan.contracts.items())
    hashes = "\n".join(f'{name} = "keccak256:{code[name].hex()}"' for name in plan.contracts)
    return (
        f"# start_block: {last_block + 1} or later, when the operator has its first coins\n"
        f"[chains.{chain}.contracts]\n{addresses}\n\n[chains.{chain}.governance.code]\n{hashes}"
    )


async def _read(section: EvmSection, contracts: Mapping[str, Address], rpc: EvmRpc) -> Governance:
    tokens = {symbol: token.address for symbol, token in section.tokens.items()}
    return await read_governance(rpc, contracts, tokens)


def _people(section: EvmSection, operator: Address) -> Roles:
    governance = section.governance
    admins, guardians = frozenset(governance.admins), frozenset(governance.guardians)
    return {
        ("timelock", "PROPOSER_ROLE"): admins,
        ("timelock", "EXECUTOR_ROLE"): admins,
        ("timelock", "CANCELLER_ROLE"): admins,
        ("vault", "GUARDIAN_ROLE"): guardians,
        **{(gate, "PROPOSER_ROLE"): frozenset({operator}) for gate in _gates(section)},
        **{(gate, "APPROVER_ROLE"): frozenset(governance.approvers) for gate in _gates(section)},
        **{(gate, "GUARDIAN_ROLE"): guardians for gate in _gates(section)},
    }


def _gates(section: EvmSection) -> tuple[str, ...]:
    return tuple(gate for gate in GATES if gate in section.governed)


def _governed(section: EvmSection) -> dict[str, Address]:
    return {name: section.contracts[name] for name in section.governed}


def _limits(section: EvmSection) -> dict[str, TokenLimits]:
    """Of every token: what the configuration does not name may not leave."""
    named = section.governance.limits
    return {
        symbol: TokenLimits(limits.floor, limits.cap_per_epoch, limits.auto_per_epoch, limits.claims_auto_per_epoch)
        if (limits := named.get(symbol))
        else TokenLimits(0, 0, 0)
        for symbol in section.tokens
    }
