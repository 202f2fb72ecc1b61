"""Whether the operator can pay out of the vault at all, as the finalized chain says before anything is decided.

    vault == operator      it signs for its own token accounts
    vault ≠ operator       each token account names the operator as its delegate; what is approved is the cap
    the native coin        knows no delegates: the vault's own key signs, and must not be the one that pays fees

What money alone would mend (an allowance or a balance that is too small) is no mistake: it holds payouts one by one.
"""

from __future__ import annotations

from collections.abc import Mapping

from bridge.chains.solana.accounts import ACCOUNTS_MAX, Holding, read_accounts, read_holding
from bridge.chains.solana.programs import NATIVE, associated_account
from bridge.chains.solana.rpc import FINALIZED, SolanaRpc
from bridge.chains.solana.tokens import VAULT, Names, look_around
from bridge.domain.errors import ConfigError
from bridge.domain.units import Address, format_address


async def check_vault(rpc: SolanaRpc, names: Names, chain: str) -> None:
    """Raises ConfigError where the vault has no account for a token, or does not let the operator move what is in it;
    ChainUnavailable, ChainDisagrees."""
    vault = names.contracts[VAULT]
    around = await look_around(rpc, names, chain)
    accounts = {
        symbol: associated_account(vault, token.mint, around.programs[token.mint])
        for symbol, token in names.tokens.items()
        if token.mint != NATIVE
    }
    holdings = await _holdings(rpc, accounts)
    for symbol, account in accounts.items():
        where = f"[chains.{chain}] tokens.{symbol}"
        holding = holdings[symbol]
        if holding is None or holding.owner != vault:
            mint = format_address(names.tokens[symbol].mint)
            raise ConfigError(
                f"the vault {format_address(vault)} has no associated account for {mint}"
                if holding is None
                else f"{format_address(account)} belongs to {format_address(holding.owner)}, not to the vault",
                where=where,
                mend=f"create it (spl-token create-account {mint} --owner {format_address(vault)} --fee-payer KEYPAIR)",
            )
        if names.operator not in {vault, holding.delegate}:
            raise ConfigError(
                f"the vault's account {format_address(account)} is delegated to {_name(holding.delegate)}, "
                f"not to the operator {_name(names.operator)}",
                where=where,
                mend=f"its owner runs: spl-token approve {format_address(account)} AMOUNT {_name(names.operator)}",
            )


def _name(account: Address | None) -> str:
    return "nobody" if account is None else format_address(account)


async def _holdings(rpc: SolanaRpc, accounts: Mapping[str, Address]) -> dict[str, Holding | None]:
    found: dict[str, Holding | None] = {}
    pending = list(accounts)
    for start in range(0, len(pending), ACCOUNTS_MAX):
        some = pending[start : start + ACCOUNTS_MAX]
        told = await read_accounts(rpc, [accounts[symbol] for symbol in some], FINALIZED)
        for symbol, account in zip(some, told, strict=True):
            found[symbol] = None if account is None else read_holding(account)
    return found
