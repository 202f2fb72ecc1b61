"""bridge payouts approve, veto: signed here with a key of one's own, or printed for a Safe."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bridge.chains.evm.gate import approve_call, veto_call
from bridge.chains.evm.signer import KeystoreSigner
from bridge.cli.app import DEFAULT_CONFIG, ConfigPath, print_json, run
from bridge.cli.payouts import payouts
from bridge.compose.database import open_database
from bridge.compose.evm import open_account
from bridge.domain.errors import ConfigError, RefusedError
from bridge.domain.payouts import Action, Leg
from bridge.domain.units import format_address, format_amount, format_tx, hexed
from bridge.runtime.clock import SystemClock
from bridge.runtime.config import Config, load_config
from bridge.runtime.evm_section import EvmSection
from bridge.stages.gate import send_call
from bridge.stages.intervene import find_steps
from bridge.store.payouts import Summary

WAIT_S = 180


class Call(StrEnum):
    APPROVE = "approve"
    VETO = "veto"


HELP = {
    Call.APPROVE: "Let a proposed distribution be paid: as an approver, or print the call for one.",
    Call.VETO: "Stop for ever what is not executed of a distribution: as a guardian, or print the call for one.",
}
DONE = {
    Call.APPROVE: "the daemon goes on by itself, once the delay is over",
    Call.VETO: "what is not executed of it never will be; the daemon holds it",
}


def _command(call: Call) -> Callable[..., None]:
    def command(
        *,
        asked: Annotated[
            str, typer.Argument(metavar="ID", help="The first digits of a distribution, or a step of it.")
        ],
        keystore: Annotated[
            Path | None, typer.Option(metavar="FILE", help="Your own key: Web3 Secret Storage, version 3.")
        ] = None,
        password_env: Annotated[
            str | None, typer.Option(metavar="NAME", help="The environment variable with its password.")
        ] = None,
        print_it: Annotated[
            bool, typer.Option("--print", help="Print the call instead (with --json: a file for Safe's builder).")
        ] = False,
        wait_s: Annotated[int, typer.Option("--wait", metavar="SECONDS", min=0, help="For a block.")] = WAIT_S,
        config: ConfigPath = DEFAULT_CONFIG,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON for machines.")] = False,
    ) -> None:
        if print_it == (keystore is not None):
            raise ConfigError(
                "is needed, and only one of the two" if not print_it else "is given twice over",
                where="--keystore or --print",
                mend="sign with your own key (--keystore FILE --password-env NAME), or --print the call for a Safe",
            )
        run(_call(load_config(config), call, asked, keystore, password_env, wait_s=wait_s, as_json=as_json))

    return command


for _one, _help in HELP.items():
    payouts.command(_one.value, help=_help)(_command(_one))


async def _call(
    config: Config,
    call: Call,
    asked: str,
    keystore: Path | None,
    password_env: str | None,
    *,
    wait_s: int,
    as_json: bool,
) -> int:
    async with open_database(config, connections_max=1) as database, database.snapshot() as transaction:
        step = (await find_steps(transaction, asked))[0]
        [summary] = await transaction.payouts.summaries(step.distribution_id)
    if step.chain not in config.chains:
        raise ConfigError(
            f"the distribution is on chain `{step.chain}`", where=str(config.path), mend="name a file with that chain"
        )
    section = config.evm(step.chain)
    made = _made(call, step)
    story = _story(call, summary, step, section)
    if keystore is None:
        _print_call(made, story, section, as_json=as_json)
        return 0
    signer = KeystoreSigner.load(keystore, _password(password_env), where="--keystore")
    async with open_account(config, step.chain, signer) as (reader, payer):
        if call is Call.APPROVE:
            _check_proposed(summary)
        tx_id, inclusion = await send_call(reader, payer, SystemClock(), made, wait_s * 1000)
    if as_json:
        content = {
            "distribution": hexed(step.distribution_id),
            "call": call,
            "transaction": format_tx(tx_id),
            "block": inclusion.block.number,
        }
        print_json(content)
        return 0
    print("\n".join(story))
    print(f"in block {inclusion.block.number:,}, transaction {format_tx(tx_id)}: {DONE[call]}")
    return 0


def _made(call: Call, step: Action) -> Action:
    """The step's contract, called otherwise."""
    if call is Call.APPROVE:
        return dataclasses.replace(step, payload=approve_call(step.distribution_id, step.content_hash))
    return dataclasses.replace(step, payload=veto_call(step.distribution_id))


def _check_proposed(summary: Summary) -> None:
    state = summary.steps[0].state
    if state not in ("included", "final"):
        raise RefusedError(
            f"its proposal is {state}: there is nothing on chain to approve yet; --print works at any time"
        )


def _story(call: Call, summary: Summary, step: Action, section: EvmSection) -> list[str]:
    """What one should compare before one signs."""
    amount = f"{summary.total:,} atoms of {summary.asset}"
    for symbol, token in section.tokens.items():
        if summary.asset == section.asset(token.address):
            amount = f"{format_amount(summary.total, token.decimals)} {symbol} ({summary.total} atoms)"
    how = f"in {summary.batches:,} batches"
    if summary.leg == Leg.CLAIM and section.claims is not None:
        how = f"who claim it: compare {section.claims.folder}/{summary.chain}/0x{step.distribution_id.hex()}/"
    return [
        f"{call} distribution 0x{step.distribution_id.hex()} of {summary.rule} on {summary.chain}",
        f"  pays     {amount} to {summary.recipients:,} recipients {how}",
        f"  window   {summary.window_start} … {summary.window_end}",
        f"  content  0x{step.content_hash.hex()}",
    ]


def _print_call(made: Action, story: list[str], section: EvmSection, *, as_json: bool) -> None:
    to, data = format_address(made.target), hexed(made.payload)
    if not as_json:
        print("\n".join(story))
        print(f"  chain id {section.chain_id}\n  to       {to}\n  value    0\n  data     {data}")
        return
    # As Safe's Transaction Builder reads it.
    content: dict[str, Any] = {
        "version": "1.0",
        "chainId": str(section.chain_id),
        "meta": {"name": story[0], "description": "; ".join(line.strip() for line in story[1:])},
        "transactions": [{"to": to, "value": "0", "data": data}],
    }
    print_json(content)


def _password(variable: str | None) -> str:
    password = os.environ.get(variable or "")
    if not password:
        raise ConfigError(
            "is needed with --keystore" if variable is None else f"{variable} is not set",
            where="--password-env",
            mend=f"export {variable or 'NAME'}=… and name it: --password-env {variable or 'NAME'}",
        )
    return password
