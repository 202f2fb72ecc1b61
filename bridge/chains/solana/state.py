"""What an account held at the end of a past block. Nodes only know the newest final state, so:

        at                     C: the state that the node answers from
    ─────●──────○───────○──────┼────►        ○ transactions that name the account
                └─ what the first of them found is what `at` left; where there is none, `at` left what there is now

Of a mint, no transaction tells the supply: there all of them count, by what they minted and burnt.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from bridge.chains.solana import rpc
from bridge.chains.solana.accounts import Account, read_account, read_holding
from bridge.chains.solana.blocks import Ask, read_contents, read_header
from bridge.chains.solana.rpc import FINALIZED, Refusal, RpcRefused
from bridge.chains.solana.signatures import Hit, list_hits
from bridge.chains.solana.transactions import OPTIONS, Transaction, parse_transaction
from bridge.domain.errors import ChainDisagrees, ChainUnavailable, StateUnavailable
from bridge.domain.units import Address, BlockStamp


async def check_block(ask: Ask, at: BlockStamp) -> None:
    """Raises ChainDisagrees where the endpoint has another block there, StateUnavailable where it has none."""
    try:
        block = await read_header(ask, at.number)
    except RpcRefused as refused:
        if refused.busy or refused.kind in (Refusal.NO_METHOD, Refusal.OTHER):
            raise
        raise StateUnavailable(f"the endpoint does not have {at}") from None
    if block.hash != at.hash:
        raise ChainDisagrees(f"the endpoint has another block than {at}")


async def lamports_at(ask: Ask, account: Address, at: BlockStamp) -> int:
    """Of the native coin, at the end of `at`."""
    context, now = await _now(ask, account, at)
    async for transaction in _since(ask, account, at, context):
        return transaction.lamports[transaction.keys.index(account)][0]
    return 0 if now is None else now.lamports


async def tokens_at(ask: Ask, account: Address, mint: Address, at: BlockStamp) -> int:
    """Atoms of `mint` in the token account `account` at the end of `at`; 0 where it was not there."""
    context, now = await _now(ask, account, at)
    async for transaction in _since(ask, account, at, context):
        for holding in transaction.holdings:
            if (holding.account, holding.mint) == (account, mint):
                return holding.before
        # It names the account, which was no token account before nor after: a later one may have made it one.
    holding_now = None if now is None else read_holding(now)
    return holding_now.amount if holding_now is not None and holding_now.mint == mint else 0


async def supply_at(ask: Ask, mint: Address, at: BlockStamp) -> int:
    """Atoms of `mint` that there were at the end of `at`; 0 where it was not there.

    Counts every transaction since. Only for mints whose tokens are all in somebody's balance (see tokens.py).
    """
    context, now = await _now(ask, mint, at)
    supply = 0 if now is None else int.from_bytes(now.data[36:44], "little")
    async for transaction in _since(ask, mint, at, context):
        supply -= sum(holding.after - holding.before for holding in transaction.holdings if holding.mint == mint)
    if supply < 0:
        raise ChainDisagrees(f"more of {rpc.text(mint)} was minted since {at} than there is")
    return supply


async def _now(ask: Ask, account: Address, at: BlockStamp) -> tuple[int, Account | None]:
    """(the slot that the state is of, not before `at`; the account). `at` is known to the endpoint."""
    await check_block(ask, at)
    options = {**FINALIZED, "encoding": "base64", "minContextSlot": at.number}
    context, value = rpc.in_context(await ask("getAccountInfo", [rpc.text(account), options]))
    if context < at.number:
        raise ChainDisagrees(f"the endpoint answered from slot {context}, wanted from {at.number} on")
    return context, read_account(value)


async def _since(ask: Ask, account: Address, at: BlockStamp, context: int) -> AsyncGenerator[Transaction, None]:
    """The transactions that name `account` after `at`, up to slot `context`, in the order of the chain."""
    listing = await list_hits(ask, account, after=at.number, through=context)
    if listing.complete_through < context:
        raise StateUnavailable(f"too many transactions of {rpc.text(account)} since {at}")
    hits = list(listing.hits)
    while hits:
        slot = hits[0].slot
        together = [hit for hit in hits if hit.slot == slot]
        del hits[: len(together)]
        if len(together) > 1:
            contents = await read_contents(ask, slot, [hit.signature for hit in together])
            together.sort(key=lambda hit: contents.places[hit.signature])
        for hit in together:
            yield await _transaction(ask, hit, account)


async def _transaction(ask: Ask, hit: Hit, account: Address) -> Transaction:
    answer = await ask("getTransaction", [rpc.text(hit.signature), OPTIONS])
    if answer is None:
        raise ChainUnavailable(f"the endpoint lists transaction {rpc.text(hit.signature)}, and does not have it")
    transaction = parse_transaction(answer, hit.signature)
    if transaction.slot != hit.slot or account not in transaction.names:
        raise ChainDisagrees(f"the endpoint lists transaction {rpc.text(hit.signature)} otherwise than it gives it")
    return transaction
