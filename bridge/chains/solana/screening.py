"""Whom a batch can pay now, and the transaction that pays them.

    accounts of the operator, the vault, the mint ─► Refusal: nobody can be paid yet, or ever
    accounts of the recipients ─► left out: those who can take nothing
    simulation ─► the instruction that fails names one more, until it passes

A transaction fails as a whole, so one recipient that cannot be paid would stop all others. It is left out, which the
memo says, and becomes a batch of its own, where the reason concerns nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bridge.chains.solana import rpc as values
from bridge.chains.solana.accounts import Account, Holding, Mint, read_accounts, read_holding, read_mint
from bridge.chains.solana.closed import Closed
from bridge.chains.solana.fees import FeeCeilings, fee_of, limit_for
from bridge.chains.solana.markers import MARKER_BYTES, MARKER_OWNER, Deed, marker_of
from bridge.chains.solana.messages import (
    COMPUTE_UNITS_MAX,
    TRANSACTION_BYTES_MAX,
    Budget,
    Coin,
    Draft,
    Purse,
    Transfer,
    draft,
)
from bridge.chains.solana.payloads import PayBatch
from bridge.chains.solana.programs import NATIVE, SYSTEM, TOKEN_PROGRAMS, is_on_curve
from bridge.chains.solana.rehearsal import TOKEN_ERRORS, Failure, rehearse
from bridge.chains.solana.rpc import RpcRefused, SolanaRpc
from bridge.chains.solana.tables import Tables
from bridge.domain.errors import ChainDisagrees
from bridge.domain.payouts import Payout, Refusal
from bridge.domain.units import Address, format_address

RENT_MAX = 10_000_000
"""Lamports for one small account. An endpoint that says more is not believed: what goes there does not come back."""

RENT_SLOTS = 1_000
"""It changes once in years. Where it has just risen, simulations fail until it is asked again."""

TOKEN_ACCOUNT_ROOM = {False: 165, True: 300}
"""Bytes of a token account, of the first program and of Token-2022 with all extensions of known mints."""

NAMED_MAX = 10
"""Recipients that a reason names."""

EXECUTED_MEANWHILE = "executed by another transaction that is not final yet"
PAYER_HAS_TOO_LITTLE = 1
"""An error of the system program (SystemError::ResultWithNegativeLamports)."""

NO_TABLE = "address table"
"""Words of a node that does not find what a transaction looks up."""

TAKES_FEE = "the token takes a fee of what arrives: TokenTakesFee"

_NO_DATA: Mapping[str, Any] = {"dataSlice": {"offset": 0, "length": 0}}
# Errors of a transfer that have nothing to do with who receives it.
_OF_THE_TOKEN: Mapping[int, Refusal] = {
    1: Refusal("the vault has too little of the token: InsufficientFunds", temporary=True),
    4: Refusal("the operator may not move the vault's tokens: OwnerMismatch", temporary=True),
    32: Refusal(TAKES_FEE, temporary=False),
    37: Refusal("the token cannot be transferred: NonTransferable", temporary=False),
    67: Refusal("the token is paused: MintPaused", temporary=True),
}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transaction that passed. `compute_units` is its limit."""

    draft: Draft
    compute_units: int


@dataclass(frozen=True, slots=True)
class Rents:
    """Lamports that an account needs for ever: one without data, a marker, a token account."""

    empty: int
    marker: int
    holding: int


class Screening:
    """Looks at what is confirmed: what is final is 13 seconds old, and nothing is decided for good here."""

    def __init__(
        self,
        rpc: SolanaRpc,
        purse: Purse,
        ceilings: FeeCeilings,
        *,
        create_accounts: bool,
        tables: Tables,
        closed: Closed,
    ) -> None:
        self._rpc = rpc
        self._purse = purse
        self._ceilings = ceilings
        self._create_accounts = create_accounts
        self._tables = tables
        self._closed = closed
        self._known_rents: dict[int, tuple[int, int]] = {}  # bytes → (slot when it was asked, lamports)

    async def plain(self, deed: Deed, at: int) -> Prepared | Refusal:
        """The transaction that does `deed` and moves no money, on top of slot `at`."""
        config = {"commitment": "confirmed", "minContextSlot": at}
        rents = await self.rents(None, at)
        marker = marker_of(self._purse.operator, deed.distribution_id, deed.index)
        operator, taken = await read_accounts(self._rpc, [self._purse.operator, marker], {**config, **_NO_DATA})
        drafted = draft(self._purse, deed, rents.marker)
        refusal = _taken(taken) or self._short(operator, drafted, rents.marker, rents, 0)
        if refusal is not None:
            return refusal
        rehearsal = await rehearse(self._rpc, drafted.message(bytes(32), _widest()), config)
        if rehearsal.failure is not None:
            return Refusal(f"would fail: {_words(rehearsal.failure)}", temporary=True)
        return Prepared(drafted, limit_for(rehearsal.units, COMPUTE_UNITS_MAX))

    async def batch(self, batch: PayBatch, coin: Coin, at: int, rivals: Sequence[PayBatch] = ()) -> Prepared | Refusal:
        """The transaction that pays as many of `batch` as can be paid, on top of slot `at`. What `rivals` of the same
        coin pay, which may land before it, is not there for it.

        Raises ChainUnavailable, ChainDisagrees.
        """
        config = {"commitment": "confirmed", "minContextSlot": at}
        look = await self._look(batch, coin, at, config, rivals)
        refusal = self._whole(batch, coin, look)
        if refusal is not None:
            return refusal
        transfers, faults = await self._judge(batch, coin, look, config)
        return await self._fit(_Trial(batch, coin, look, transfers, faults), config)

    # ── what stops all ──
    async def _look(
        self, batch: PayBatch, coin: Coin, at: int, config: Mapping[str, Any], rivals: Sequence[PayBatch]
    ) -> _Look:
        """All of one state: what a rival has taken by then is gone from the vault, and its marker is there."""
        markers = [marker_of(self._purse.operator, one.distribution_id, one.index) for one in (batch, *rivals)]
        first = [self._purse.operator, coin.account_of(self._purse.vault), coin.mint, *markers]
        holders = [coin.account_of(payout.recipient) for payout in batch.payouts]
        what = {**config, **_NO_DATA} if coin.is_native else config
        rents, found = await asyncio.gather(self.rents(coin, at), read_accounts(self._rpc, [*first, *holders], what))
        operator, source, mint, marker, *others = found
        taken, holdings = others[: len(rivals)], others[len(rivals) :]
        open_rivals = [one for one, account in zip(rivals, taken, strict=True) if _taken(account) is None]
        promised = sum(payout.amount for one in open_rivals for payout in one.payouts)
        return _Look(rents, operator, marker, source, read_mint(coin.mint, mint), holdings, promised)

    def _whole(self, batch: PayBatch, coin: Coin, look: _Look) -> Refusal | None:
        obstacle = look.mint.obstacle
        if obstacle is not None:
            return Refusal(obstacle, temporary=False)
        if look.mint.is_paused:
            return _OF_THE_TOKEN[67]
        return _taken(look.marker) or self._source(batch, coin, look)

    def _source(self, batch: PayBatch, coin: Coin, look: _Look) -> Refusal | None:
        """Why the vault cannot give, or the operator cannot move, what the batch needs; all of it may change."""
        total = sum(payout.amount for payout in batch.payouts) + look.promised
        if coin.is_native:
            held, need = 0 if look.source is None else look.source.lamports, total + look.rents.empty
            vault = format_address(self._purse.vault)
            problem = f"the vault {vault} has {held} lamports, needs {need} with its rent" if held < need else None
        else:
            holding = None if look.source is None else read_holding(look.source)
            problem = self._holding_problem(holding, total, format_address(coin.account_of(self._purse.vault)))
        if problem is not None and look.promised:
            problem += f" ({look.promised} of that for batches that are on their way)"
        return None if problem is None else Refusal(problem, temporary=True)

    def _holding_problem(self, holding: Holding | None, total: int, account: str) -> str | None:
        if holding is None or holding.owner != self._purse.vault:
            return f"the vault has no account for the token: {account}"
        if holding.frozen:
            return f"the vault's account {account} is frozen"
        if holding.amount < total:
            return f"the vault has {holding.amount} atoms of the token, the batch needs {total}"
        operator = format_address(self._purse.operator)
        problem = None
        if self._purse.operator == self._purse.vault:
            pass  # the owner needs nobody's leave
        elif holding.delegate != self._purse.operator:
            problem = f"{operator} is not the delegate of the vault's account {account}: approve it"
        elif holding.delegated < total:
            allowed = f"the vault lets {operator} move {holding.delegated} atoms of the token more"
            problem = f"{allowed}, the batch needs {total}: approve more"
        return problem

    def _short(
        self, operator: Account | None, drafted: Draft, deposits: int, rents: Rents, paid_out: int
    ) -> Refusal | None:
        budget = Budget(COMPUTE_UNITS_MAX, self._ceilings.unit_price)
        signers = drafted.message(bytes(32), budget).header.num_required_signatures
        need = fee_of(budget, signers) + deposits + rents.empty + paid_out
        held = 0 if operator is None else operator.lamports
        if held >= need:
            return None
        account = format_address(self._purse.operator)
        return Refusal(f"low gas balance: {account} has {held} lamports, needs {need}", temporary=True)

    # ── who can take it ──
    async def _judge(
        self, batch: PayBatch, coin: Coin, look: _Look, config: Mapping[str, Any]
    ) -> tuple[list[Transfer], dict[Address, str]]:
        """(payments that seem to work, reason for each of the other recipients)."""
        # SOL that somebody sent to where a token account will be does not stand in its way.
        holdings = look.holdings if coin.is_native else [None if _is_bare(one) else one for one in look.holdings]
        pairs = list(zip(batch.payouts, holdings, strict=True))
        missing = [payout.recipient for payout, holding in pairs if holding is None and not coin.is_native]
        creation_faults = await self._creation_faults(coin, missing, config)
        transfers, faults = [], {}
        for payout, holding in pairs:
            recipient = payout.recipient
            if coin.is_native:
                fault = _native_fault(payout, holding, look.rents)
            elif holding is not None:
                fault = _holding_fault(recipient, coin, holding)
            else:
                fault = creation_faults[recipient]
            if fault is None:
                creates = holding is None and not coin.is_native
                transfers.append(Transfer(recipient, payout.amount, creates))
            else:
                faults[recipient] = fault
        return transfers, faults

    async def _creation_faults(
        self, coin: Coin, missing: Sequence[Address], config: Mapping[str, Any]
    ) -> dict[Address, str | None]:
        """Why no account is made for those who have none; None where one is."""
        if not missing or not self._create_accounts:
            return dict.fromkeys(missing, "has no account for the token, and none is made (create_accounts)")
        wallets, paid = await asyncio.gather(
            read_accounts(self._rpc, missing, {**config, **_NO_DATA}),
            asyncio.gather(*(self._closed.paid_into(coin.account_of(recipient)) for recipient in missing)),
        )
        return {
            recipient: _creation_fault(recipient, wallet, tx_id)
            for recipient, wallet, tx_id in zip(missing, wallets, paid, strict=True)
        }

    # ── until it passes ──
    async def _fit(self, trial: _Trial, config: Mapping[str, Any]) -> Prepared | Refusal:
        """One recipient fewer at each turn; before that, the tables are read anew where there is no room."""
        look, coin = trial.look, trial.coin
        shelf, is_fresh = await self._tables.shelf(), False
        while trial.transfers:
            drafted = draft(self._purse, trial.deed, look.rents.marker, coin, trial.transfers, shelf=shelf)
            if not drafted.fits:
                if not is_fresh:
                    shelf, is_fresh = await self._tables.shelf(fresh=True), True
                    continue
                one = _to_be_made(trial.transfers)
                if one is None:
                    return self._without_room(trial, drafted)
                trial.leave_out(one, "its account to be made has no room in this batch")
                continue
            deposits = look.rents.marker + sum(one.creates for one in trial.transfers) * look.rents.holding
            own = coin.is_native and self._purse.operator == self._purse.vault
            paid_out = sum(one.amount for one in trial.transfers) if own else 0
            short = self._short(look.operator, drafted, deposits, look.rents, paid_out)
            if short is not None:
                return short
            try:
                rehearsal = await rehearse(self._rpc, drafted.message(bytes(32), _widest()), config)
            except RpcRefused as refused:
                if not drafted.tables or NO_TABLE not in refused.message:
                    raise
                if is_fresh:  # final, and yet this endpoint does not have it
                    return Refusal(str(refused), temporary=True)
                shelf, is_fresh = await self._tables.shelf(fresh=True), True
                continue
            if rehearsal.failure is None:
                return Prepared(drafted, limit_for(rehearsal.units, COMPUTE_UNITS_MAX))
            culprit = _culprit(rehearsal.failure, drafted)
            if isinstance(culprit, Refusal):
                return culprit
            trial.leave_out(culprit, f"its transfer would fail: {_words(rehearsal.failure)}")
        return trial.nobody

    def _without_room(self, trial: _Trial, drafted: Draft) -> Refusal:
        """The batch was made for tables that are not there any more, or not configured. Nothing is lost: once they, or
        others with the same accounts, are, it is paid."""
        unusable = "; ".join(f"{format_address(table)} {why}" for table, why in self._tables.problems.items())
        why = unusable or "of those that are configured none has enough of its accounts"
        return Refusal(
            f"the transaction would have {drafted.size} bytes of {TRANSACTION_BYTES_MAX}: its recipients, "
            f"{len(trial.batch.payouts)}, need lookup tables, but {why}; `bridge lookup-tables extend` makes such",
            temporary=True,
        )

    async def rents(self, coin: Coin | None, at: int) -> Rents:
        """As of slot `at`, or some minutes before. Raises ChainDisagrees for what no account can cost."""
        has_extensions = coin is not None and coin.program != TOKEN_PROGRAMS[0]
        sizes = (0, MARKER_BYTES, TOKEN_ACCOUNT_ROOM[has_extensions])
        return Rents(*await asyncio.gather(*(self._rent(size, at) for size in sizes)))

    async def _rent(self, size: int, at: int) -> int:
        asked, lamports = self._known_rents.get(size, (0, 0))
        if lamports == 0 or at >= asked + RENT_SLOTS:
            lamports = values.number(await self._rpc.call("getMinimumBalanceForRentExemption", [size]))
            if not 0 < lamports <= RENT_MAX:
                raise ChainDisagrees(f"an endpoint asks {lamports} lamports for a small account")
            self._known_rents[size] = at, lamports
        return lamports


@dataclass(frozen=True, slots=True)
class _Look:
    rents: Rents
    operator: Account | None
    marker: Account | None
    source: Account | None  # where the vault holds what is paid
    mint: Mint
    holdings: Sequence[Account | None]  # where each recipient would
    promised: int  # atoms of what the vault holds that others will take


@dataclass(slots=True)
class _Trial:
    """Invariant: every recipient of the batch is in exactly one of `transfers` and `faults`."""

    batch: PayBatch
    coin: Coin
    look: _Look
    transfers: list[Transfer]
    faults: dict[Address, str]

    @property
    def deed(self) -> Deed:
        return Deed(self.batch.distribution_id, self.batch.index, left_out=tuple(sorted(self.faults)))

    @property
    def nobody(self) -> Refusal:
        """Nothing is sent that would pay nobody: a person sees to the reasons first."""
        named = "; ".join(f"{format_address(who)} {why}" for who, why in list(self.faults.items())[:NAMED_MAX])
        return Refusal(named, temporary=False)

    def leave_out(self, recipient: Address, reason: str) -> None:
        self.transfers = [one for one in self.transfers if one.recipient != recipient]
        self.faults[recipient] = reason


# ── Faults of recipients ────────────────────────────────────────────────────────────────────────────────────────────
def _native_fault(payout: Payout, account: Account | None, rents: Rents) -> str | None:
    if account is not None and account.executable:
        return "is a program, which can take no SOL"
    if (0 if account is None else account.lamports) + payout.amount < rents.empty:
        return f"would hold less than the {rents.empty} lamports that an account needs; paid out, they would be lost"
    return None


def _creation_fault(recipient: Address, wallet: Account | None, paid: bytes | None) -> str | None:
    if not is_on_curve(recipient):
        return "has no account for the token, and belongs to a program: it must make one itself"
    if wallet is not None and wallet.owner in TOKEN_PROGRAMS:
        return "is a token account or a mint, where the owner of a token account is due"
    if wallet is not None and (wallet.executable or wallet.owner != SYSTEM):
        return "has no account for the token, and belongs to a program: it must make one itself"
    if paid is not None:
        return f"has closed the account that {values.text(paid)} paid into: it must make one itself"
    return None


def _is_bare(account: Account | None) -> bool:
    return account is not None and account.owner == SYSTEM and not account.data


def _holding_fault(recipient: Address, coin: Coin, account: Account) -> str | None:
    holding = read_holding(account)
    where = format_address(coin.account_of(recipient))
    if account.owner != coin.program or holding is None or holding.mint != coin.mint:
        return f"has no account for the token: something else is at {where}"
    if holding.owner != recipient:
        return f"does not own its account for the token any more: {where} belongs to {format_address(holding.owner)}"
    return f"cannot take the token: its account {where} is frozen" if holding.frozen else None


def _to_be_made(transfers: Sequence[Transfer]) -> Address | None:
    """The last whose account is to be made: the batch was packed for it to be there, or before that was allowed."""
    return next((one.recipient for one in reversed(transfers) if one.creates), None)


# ── Failures of a simulation ────────────────────────────────────────────────────────────────────────────────────────
def _culprit(failure: Failure, drafted: Draft) -> Address | Refusal:
    """Whose part of the transaction fails; or why all of it does.

    InstructionError at a recipient's transfer, with an error of the token itself   → refused
                     at a recipient's transfer or creation                          → the recipient
                     elsewhere (the marker exists)                                  → refused for now
    InsufficientFundsForRent, which names an account                                → the recipient, where it is one
    anything else (the operator has no money, the node cannot)                      → refused for now
    """
    if failure.instruction is not None:
        about = drafted.recipient_at(failure.instruction)
        program = drafted.program_at(failure.instruction)
        if about is not None and program in TOKEN_PROGRAMS:
            return _OF_THE_TOKEN.get(-1 if failure.code is None else failure.code, about)
        if about is not None and failure.code != PAYER_HAS_TOO_LITTLE:
            return about
    elif failure.account is not None:
        keys = drafted.keys
        account = keys[failure.account] if failure.account < len(keys) else NATIVE
        if account in drafted.about:
            return account
    return Refusal(f"would fail: {_words(failure)}", temporary=True)


def _words(failure: Failure) -> str:
    name = TOKEN_ERRORS.get(failure.code) if failure.code is not None else None
    return name or failure.words


def _taken(marker: Account | None) -> Refusal | None:
    exists = marker is not None and marker.owner == MARKER_OWNER
    return Refusal(EXECUTED_MEANWHILE, temporary=True) if exists else None


def _widest() -> Budget:
    return Budget(COMPUTE_UNITS_MAX, 0)
