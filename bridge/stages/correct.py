"""Two people ─► a correcting journal; the daemon need not run for that.

one asks ──► a row that waits ──► another approves ──► the journal, in the same commit, at the block the ledger is at
"""

from __future__ import annotations

from bridge.domain.breaks import MENDED_BY
from bridge.domain.corrections import (
    REVERSAL,
    Approved,
    book_adjustment,
    book_reversal,
    correction_key,
    is_account,
    reversal_ref,
)
from bridge.domain.errors import ConfigError, RefusedError
from bridge.domain.ledger import Asset, Journal, Transfer
from bridge.domain.states import BreakState
from bridge.domain.units import UINT256_MAX, BlockStamp, from_base58
from bridge.ports.database import Database, Transaction

CODES = (
    "vault:ADDRESS, distributor:ADDRESS, claims:ADDRESS, operator:ADDRESS, operator:gas:ADDRESS, surplus:unallocated, "
    "surplus:carried, payable:ADDRESS, owed_on_chain:ADDRESS, claimable:ADDRESS, suspense:in, suspense:out, "
    "expense:NAME or external:NAME; names in lower case, addresses as their chain writes them"
)

_ID_BYTES = (32, 64)
"""Of hashes and of signatures."""


async def ask_adjustment(
    database: Database,
    debit: str,
    credit: str,
    asset: str,
    amount: int,
    *,
    reason: str,
    by: str,
    break_id: int | None = None,
) -> int:
    """Ask for `amount` atoms of `asset` (a symbol, or its CAIP-19 id) to `debit` from `credit`.

    Returns the correction's number. Raises ConfigError where the words do not fit the books.
    """
    reason = _reason(reason)
    for option, code in (("--debit", debit), ("--credit", credit)):
        if not is_account(code):
            raise ConfigError(f"`{code}` is not an account of the books", where=option, mend=f"name one of {CODES}")
    if debit == credit:
        raise ConfigError(
            "both are the same account, and nothing would move", where="--debit, --credit", mend="name two accounts"
        )
    if not 0 < amount <= UINT256_MAX:
        raise ConfigError(
            "is not a positive uint256", where="--amount", mend="give atoms; to go back, swap the accounts"
        )
    async with database.begin() as tx:
        found = await _asset(tx, asset)
        if break_id is not None:
            await _check_break(tx, break_id, found.chain)
        transfer = Transfer(debit, credit, found.id, amount)
        return await tx.corrections.ask(found.chain, reason, by, transfer=transfer, break_id=break_id)


async def ask_classification(database: Database, break_id: int, account: str, *, reason: str, by: str) -> int:
    """Ask for the adjustment after which nothing is left of the break, as the last run found it: what moved came from,
    or went to, `account`.

    Returns the correction's number. Raises ConfigError where `account` does not fit the books, RefusedError where the
    break is none that an entry explains, or is explained already.
    """
    reason = _reason(reason)
    if not is_account(account):
        raise ConfigError(f"`{account}` is not an account of the books", where="--as", mend=f"name one of {CODES}")
    async with database.begin() as tx:
        found = await tx.breaks.find(break_id)
        if found.state is BreakState.RESOLVED:
            raise RefusedError(f"break {break_id} is resolved: nothing is left of it")
        if account == found.subject:
            raise ConfigError("is the account of the break itself", where="--as", mend="name what it came from")
        transfer = found.classified(account)
        if transfer is None:
            raise RefusedError(f"break {break_id} is no amount on one account. {MENDED_BY[found.kind].capitalize()}")
        waiting = await tx.corrections.waiting_about(break_id)
        if waiting is not None:
            raise RefusedError(f"correction {waiting} is about break {break_id}, and waits for another person")
        return await tx.corrections.ask(found.chain, reason, by, transfer=transfer, break_id=break_id)


async def ask_reversal(database: Database, asked: str, *, reason: str, by: str, break_id: int | None = None) -> int:
    """Ask for the opposite of the journal with the number or the `SOURCE REF` that `asked` says.

    Raises ConfigError where there is no such journal, RefusedError where nothing is left of it to reverse.
    """
    reason = _reason(reason)
    async with database.begin() as tx:
        found = await tx.corrections.journal_key(asked) or await tx.corrections.journal_key(_as_booked(asked))
        if found is None:
            raise ConfigError(
                f"no journal is known as {asked}",
                where="JOURNAL",
                mend="copy a number from bridge ledger list, or 'SOURCE REF' as a break's evidence has it",
            )
        key, chain = found
        [booked] = await tx.ledger.journals(key[0], [key[1]])
        if not booked.transfers:
            raise RefusedError(f"{' '.join(key)} moved nothing: there is nothing to reverse")
        if await tx.ledger.journals(REVERSAL, [reversal_ref(key)]):
            raise RefusedError(f"{' '.join(key)} is reversed already: correct it further by an adjustment")
        waiting = await tx.corrections.waiting_reversal(key)
        if waiting is not None:
            raise RefusedError(f"correction {waiting} asks for this reversal, and waits for another person")
        if break_id is not None:
            await _check_break(tx, break_id, chain)
        return await tx.corrections.ask(chain, reason, by, reverses=key, break_id=break_id)


def _as_booked(asked: str) -> str:
    """`SOURCE REF` with transactions and blocks as refs have them, in plain hex, however a chain or a report wrote
    them."""
    source, _, ref = asked.rpartition(" ")
    return f"{source} {':'.join(_plain_hex(part) for part in ref.split(':'))}"


def _plain_hex(word: str) -> str:
    if word.startswith("0x"):
        return word[2:].lower()
    try:
        raw = from_base58(word)
    except ValueError:
        return word
    return raw.hex() if len(raw) in _ID_BYTES else word


async def approve(database: Database, correction_id: int, *, by: str) -> Journal:
    """Book what another person asked for, now. Raises RefusedError where that cannot be; then nothing was booked."""
    async with database.begin() as tx:
        approved = await tx.corrections.approve(correction_id, by)
        chain = approved.correction.chain
        cursor = await tx.chains.cursor("post", chain)
        if cursor is None:
            raise RefusedError(f"the books of {chain} are not open yet: there is nothing to correct")
        at = BlockStamp(chain, *cursor)
        journal = await remake(tx, approved, at, await tx.audits.time(at))
        if journal is None:
            raise RefusedError(f"{correction_key(approved.correction)[1]} is not booked: it cannot be reversed")
        if await tx.ledger.post([journal]) != [True]:
            raise RefusedError(f"{journal.source} {journal.ref} is booked already")
        return journal


async def refuse(database: Database, correction_id: int, *, reason: str, by: str) -> None:
    """Anybody may say no, the one who asked too: it is then taken back."""
    async with database.begin() as tx:
        await tx.corrections.refuse(correction_id, _reason(reason), by)


async def remake(tx: Transaction, approved: Approved, at: BlockStamp, valid_at: int) -> Journal | None:
    """The journal of an approved correction; None where what it reverses is not booked."""
    reverses = approved.correction.reverses
    if reverses is None:
        return book_adjustment(approved, at, valid_at)
    booked = await tx.ledger.journals(reverses[0], [reverses[1]])
    return book_reversal(approved, booked[0], at, valid_at) if booked and booked[0].transfers else None


def _reason(reason: str) -> str:
    if not reason.strip():
        raise ConfigError("is empty", where="--reason", mend="say why: it is kept with the correction")
    return reason.strip()


async def _asset(tx: Transaction, name: str) -> Asset:
    found = await tx.corrections.assets_named(name)
    if not found:
        raise ConfigError(f"the books have no asset `{name}`", where="--asset", mend="give a symbol or a CAIP-19 id")
    if len(found) > 1:
        ids = ", ".join(asset.id for asset in found)
        raise ConfigError(f"`{name}` may be {ids}", where="--asset", mend="give one of these ids")
    return found[0]


async def _check_break(tx: Transaction, break_id: int, chain: str) -> None:
    on = await tx.corrections.break_chain(break_id)
    if on is None:
        raise ConfigError(f"there is no break {break_id}", where="--break", mend="bridge breaks list shows them")
    if on != chain:
        raise ConfigError(f"break {break_id} is on {on}, this is on {chain}", where="--break", mend="name another")
