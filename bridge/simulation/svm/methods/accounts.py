"""Methods about what accounts hold."""

from __future__ import annotations

from typing import Any

from solders.pubkey import Pubkey

from bridge.simulation.svm.chain import Block
from bridge.simulation.svm.encodings import encode_account
from bridge.simulation.svm.parameters import Parameters, key_of
from bridge.simulation.svm.refusals import invalid_params
from bridge.simulation.svm.tokens import PROGRAM_NAMES, Mint, read_holding, read_mint, ui_amount
from bridge.simulation.svm.view import Method, View, with_context

MULTIPLE_ACCOUNTS_MAX = 100
DATA_SIZE_MAX = 10 * 1024 * 1024


def get_balance(view: View, parameters: Parameters) -> dict[str, Any]:
    """Lamports; 0 where there is no account."""
    parameters.require(1)
    block = view.bank(parameters.config(1))
    account = view.account(parameters.key(0), block)
    return with_context(block, 0 if account is None else account.lamports)


def get_account_info(view: View, parameters: Parameters) -> dict[str, Any]:
    """The whole account; null where there is none."""
    parameters.require(1)
    config = parameters.config(1)
    block = view.bank(config)
    account = view.account(parameters.key(0), block)
    return with_context(block, encode_account(account, config, view.reader(block)))


def get_multiple_accounts(view: View, parameters: Parameters) -> dict[str, Any]:
    """Up to a hundred accounts, all of the same block."""
    parameters.require(1)
    keys = parameters.texts(0)
    if len(keys) > MULTIPLE_ACCOUNTS_MAX:
        raise invalid_params(f"Too many inputs provided; max {MULTIPLE_ACCOUNTS_MAX}")
    config = parameters.config(1)
    block = view.bank(config)
    read = view.reader(block)
    return with_context(block, [encode_account(read(key_of(key)), config, read) for key in keys])


def get_minimum_balance_for_rent_exemption(view: View, parameters: Parameters) -> int:
    """Lamports that an account with so many bytes must hold."""
    parameters.require(1)
    size = parameters.number(0)
    if size > DATA_SIZE_MAX:
        raise invalid_params(f"Invalid params: an account holds {DATA_SIZE_MAX} bytes at most")
    return view.chain.machine.rent(size)


def get_token_account_balance(view: View, parameters: Parameters) -> dict[str, Any]:
    """What a token account holds."""
    parameters.require(1)
    block = view.bank(parameters.config(1))
    account = view.account(parameters.key(0), block)
    if account is None:
        raise invalid_params("Invalid param: could not find account")
    holding = read_holding(account)
    if holding is None:
        raise invalid_params("Invalid param: not a Token account")
    mint = _mint(view, holding.mint, block)
    return with_context(block, ui_amount(holding.amount, mint.decimals))


def get_token_supply(view: View, parameters: Parameters) -> dict[str, Any]:
    """How much there is of a token."""
    parameters.require(1)
    block = view.bank(parameters.config(1))
    mint = _mint(view, parameters.key(0), block)
    return with_context(block, ui_amount(mint.supply, mint.decimals))


def get_token_accounts_by_owner(view: View, parameters: Parameters) -> dict[str, Any]:
    """All token accounts of an owner, of one mint or of one token program."""
    parameters.require(2)
    owner, choice, config = parameters.key(0), parameters.config(1), parameters.config(2)
    block = view.bank(config)
    read = view.reader(block)
    mint: Pubkey | None = None
    if "mint" in choice:
        mint = key_of(choice["mint"])
        program = _mint(view, mint, block).program
    elif "programId" in choice:
        program = key_of(choice["programId"])
        if program not in PROGRAM_NAMES:
            raise invalid_params("Invalid param: unrecognized Token program id")
    else:
        raise invalid_params("Invalid params: expected mint or programId.")
    found = []
    for key, account in view.chain.owned_by(program, block):
        holding = read_holding(account)
        if holding is not None and holding.owner == owner and mint in {None, holding.mint}:
            found.append({"pubkey": str(key), "account": encode_account(account, config, read)})
    return with_context(block, found)


def _mint(view: View, key: Pubkey, block: Block) -> Mint:
    account = view.account(key, block)
    mint = read_mint(account)
    if mint is None:
        raise invalid_params(
            "Invalid param: could not find mint" if account is None else "Invalid param: not a Token mint"
        )
    return mint


METHODS: dict[str, Method] = {
    "getBalance": get_balance,
    "getAccountInfo": get_account_info,
    "getMultipleAccounts": get_multiple_accounts,
    "getMinimumBalanceForRentExemption": get_minimum_balance_for_rent_exemption,
    "getTokenAccountBalance": get_token_account_balance,
    "getTokenSupply": get_token_supply,
    "getTokenAccountsByOwner": get_token_accounts_by_owner,
}
