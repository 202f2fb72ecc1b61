"""The mints and owners that the configuration names, held against the chain before anything is built on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from solders.pubkey import Pubkey

from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana import rpc as values
from bridge.chains.solana.accounts import ACCOUNTS_MAX, Account, Extension, Mint, read_account, read_mint
from bridge.chains.solana.logs import Watch
from bridge.chains.solana.programs import NATIVE, TOKEN_PROGRAMS, associated_account
from bridge.chains.solana.rpc import FINALIZED, SolanaRpc
from bridge.domain.errors import ChainDisagrees, ConfigError
from bridge.domain.units import Address, format_address

VAULT = "vault"
NATIVE_DECIMALS = 9
CONFIDENTIAL = (4, 24)  # Token-2022's extensions of mints that hide balances: ConfidentialTransferMint, …MintBurn


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is configured: its mint (NATIVE for the native coin) and what people divide its atoms by."""

    mint: Address
    decimals: int


@dataclass(frozen=True, slots=True)
class Names:
    """What the configuration calls ours."""

    contracts: Mapping[str, Address]  # the vault among them; an owner of token accounts, or a mint
    operator: Address
    tokens: Mapping[str, Token]
    fee_memo: str = "fee"
    former_operators: tuple[Address, ...] = ()  # what they did counts too


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is watched, and the mints among it."""

    watch: Watch
    programs: Mapping[Address, Pubkey]  # token program by mint, of the configured tokens and the mints below
    supplies: frozenset[Address]  # contracts that are mints: what they owe is their supply


async def look_around(rpc: SolanaRpc, names: Names, chain: str) -> Surroundings:
    """Read the configured mints and contracts, as two endpoints tell them where there are two.

    Raises ConfigError where one is not what the configuration says; ChainUnavailable, ChainDisagrees.
    """
    where = f"[chains.{chain}]"
    if VAULT not in names.contracts:
        raise ConfigError("no contract is called `vault`", where=f"{where} contracts", mend="name the vault's address")
    mints = [token.mint for token in names.tokens.values() if token.mint != NATIVE]
    found = await _accounts(rpc, [*mints, *names.contracts.values()])
    programs: dict[Address, Pubkey] = {}
    for symbol, token in names.tokens.items():
        if token.mint == NATIVE:
            _check_decimals(token, NATIVE_DECIMALS, f"{where} tokens.{symbol}")
        else:
            mint = _mint(token.mint, found[token.mint], f"{where} tokens.{symbol} address")
            _check_decimals(token, mint.coin.decimals, f"{where} tokens.{symbol}")
            programs[token.mint] = mint.coin.program
    supplies: dict[Address, Pubkey] = {}
    for name, address in names.contracts.items():
        account = found[address]
        if account is not None and account.owner in TOKEN_PROGRAMS:
            mint = _mint(address, account, f"{where} contracts.{name}")
            _check_supply(mint, f"{where} contracts.{name}")
            supplies[address] = mint.coin.program
    owners = frozenset(address for address in names.contracts.values() if address not in supplies)
    watch = Watch(
        vault=names.contracts[VAULT],
        operators=(names.operator, *names.former_operators),
        owners=owners,
        accounts={
            associated_account(holder, mint, program): holder
            for holder in (*owners, names.operator)  # that the operator holds no tokens is told by looking
            for mint, program in programs.items()
        },
        native=any(token.mint == NATIVE for token in names.tokens.values()),
        fee_memo=names.fee_memo,
    )
    if names.contracts[VAULT] in supplies:
        raise ConfigError("the vault is a mint", where=f"{where} contracts.vault", mend="name the account that owns")
    return Surroundings(watch, programs | supplies, frozenset(supplies))


def _mint(address: Address, account: Account | None, where: str) -> Mint:
    try:
        return read_mint(address, account)
    except ChainDisagrees:
        problem = "does not exist" if account is None else "is no mint of a token program"
        raise ConfigError(
            f"{format_address(address)} {problem} on this cluster",
            where=where,
            mend="a token is named by its mint, a contract by the address that owns its token accounts",
        ) from None


def _check_decimals(token: Token, decimals: int, where: str) -> None:
    if token.decimals != decimals:
        raise ConfigError(
            f"the mint {format_address(token.mint)} has {decimals} decimals, configured are {token.decimals}",
            where=where,
            mend=f"set decimals = {decimals}, or name another mint",
        )


def _check_supply(mint: Mint, where: str) -> None:
    """What was minted and burnt in a transaction is the sum of what accounts gained, except where tokens can leave an
    account's balance and stay in the supply."""
    if {Extension.TRANSFER_FEE, *CONFIDENTIAL} & mint.extensions.keys():
        raise ConfigError(
            f"the supply of {format_address(mint.coin.mint)} cannot be told for a past block: it withholds or hides "
            "balances",
            where=where,
            mend="name an account that holds tokens, or a mint without transfer fees and confidential transfers",
        )


async def _accounts(rpc: SolanaRpc, addresses: Sequence[Address]) -> dict[Address, Account | None]:
    wanted = sorted(set(addresses))
    found: dict[Address, Account | None] = {}
    for start in range(0, len(wanted), ACCOUNTS_MAX):
        some = wanted[start : start + ACCOUNTS_MAX]

        async def ask(endpoint: Endpoint, some: Sequence[Address] = some) -> tuple[tuple[Pubkey, bytes] | None, ...]:
            options = {**FINALIZED, "encoding": "base64"}
            answer = await rpc.call_on(endpoint, "getMultipleAccounts", [[*map(values.text, some)], options])
            _, told = values.in_context(answer)
            if not isinstance(told, list) or len(told) != len(some):
                raise ChainDisagrees(f"{endpoint.name} sent something else than {len(some)} accounts")
            accounts = [read_account(value) for value in told]
            # Supplies move on between two answers; what is looked at here does not.
            return tuple(None if each is None else (each.owner, _settled(each)) for each in accounts)

        for address, account in zip(some, await rpc.agreed_by(ask, "getMultipleAccounts"), strict=True):
            found[address] = None if account is None else Account(0, account[0], False, account[1])
    return found


def _settled(account: Account) -> bytes:
    """The data of a mint without its supply; of other accounts nothing."""
    if account.owner not in TOKEN_PROGRAMS:
        return b""
    return account.data[:36] + bytes(8) + account.data[44:]
