"""The runtime: LiteSVM with its own bookkeeping switched off.

LiteSVM knows one blockhash, no slots, no blocks and no signatures of old: what it would do about these is left to
chain.py and admission.py. What it does not do as Agave does is mended here:

    a durable nonce        LiteSVM derives the next one from the transaction's own hash and keeps the old one when the
                           transaction fails; Agave derives it from the last blockhash and advances it either way
    a program not there    Agave charges the fee and puts the transaction into the block; LiteSVM refuses it
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from solders.account import Account
from solders.clock import Clock
from solders.hash import Hash
from solders.litesvm import LiteSVM
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import (
    FailedTransactionMetadata,
    SimulatedTransactionInfo,
    TransactionMetadata,
)

SYSTEM_PROGRAM = Pubkey.default()
SLOTS_IN_AN_EPOCH = 432_000
SLOT_HASHES_KEPT = 512

NONCE_LENGTH = 80
NONCE_INITIALIZED = bytes((1, 0, 0, 0, 1, 0, 0, 0))  # the current version, initialized
NONCE_AUTHORITY = slice(8, 40)
NONCE_VALUE = slice(40, 72)

# Errors of loading after which Agave charges the fee all the same: the fee payer itself was found good.
CHARGED_WHEN_LOADING = frozenset(
    {"ProgramAccountNotFound", "InvalidProgramForExecution", "MaxLoadedAccountsDataSizeExceeded"}
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What running a transaction gave. `included` is false where it never was part of a block: no fee was charged."""

    err: Any  # Agave's TransactionError as JSON; None: success
    included: bool
    fee: int  # lamports
    logs: Sequence[str]
    units: int
    inner: Sequence[Any]  # for each top-level instruction, those it called
    return_data: dict[str, Any] | None
    posts: Sequence[tuple[Pubkey, Account]] = ()  # of a simulation: the accounts that it wrote


class Machine:
    """All accounts as they are at the head, and the programs."""

    def __init__(self) -> None:
        # Signatures are checked once, where a transaction comes in.
        self._svm = (
            LiteSVM().with_transaction_history(0).with_blockhash_check(check=False).with_sigverify(sigverify=False)
        )

    def read(self, key: Pubkey) -> Account | None:
        """The account at the head; None where there is none or it holds nothing, which is the same on Solana."""
        account = self._svm.get_account(key)
        return None if account is None or account.lamports == 0 else account

    def write(self, key: Pubkey, account: Account | None) -> None:
        """Put an account there as it is, or remove it."""
        self._svm.set_account(key, account or Account(0, b"", SYSTEM_PROGRAM))

    def owned_by(self, program: Pubkey) -> list[tuple[Pubkey, Account]]:
        """All accounts of a program at the head."""
        return [(key, account) for key, account in self._svm.get_program_accounts(program) if account.lamports]

    def rent(self, size: int) -> int:
        """Lamports that make an account of `size` bytes exempt from rent."""
        return self._svm.minimum_balance_for_rent_exemption(size)

    def open_slot(self, slot: int, time: int, hashes: Sequence[tuple[int, Hash]]) -> None:
        """Set the sysvars for a block in `slot` at `time` (seconds); `hashes` of blocks before it come newest first."""
        epoch = slot // SLOTS_IN_AN_EPOCH
        self._svm.set_clock(Clock(slot, 0, epoch, epoch + 1, time))
        self._svm.set_slot_hashes(hashes)

    def run(self, transaction: VersionedTransaction, payer: Pubkey) -> Outcome:
        """Run a transaction for good."""
        before = self.read(payer)
        answer = self._svm.send_transaction(transaction)
        if isinstance(answer, TransactionMetadata):
            return _outcome(answer, None, included=True)
        err = orjson.loads(answer.to_json())["err"]
        after = self.read(payer)
        meta = answer.meta()
        if before is None:
            return _outcome(meta, err, included=False)
        included = before.lamports != (0 if after is None else after.lamports)
        charged = isinstance(err, str) and err in CHARGED_WHEN_LOADING and before.lamports >= meta.fee()
        if not included and charged:
            lamports = before.lamports - meta.fee()
            self.write(payer, Account(lamports, before.data, before.owner, before.executable, before.rent_epoch))
            included = True
        return _outcome(meta, err, included=included)

    def simulate(self, transaction: VersionedTransaction) -> Outcome:
        """What running it would give; nothing changes."""
        answer = self._svm.simulate_transaction(transaction)
        if isinstance(answer, SimulatedTransactionInfo):
            return _outcome(answer.meta(), None, included=True, posts=answer.post_accounts())
        assert isinstance(answer, FailedTransactionMetadata)
        return _outcome(answer.meta(), orjson.loads(answer.to_json())["err"], included=False)

    def advance_nonces(
        self, befores: Iterable[tuple[Pubkey, Account | None]], blockhash: Hash, used: Pubkey | None
    ) -> None:
        """Give each nonce that moved, and the one that was `used`, the value that follows from the last blockhash."""
        following = durable_nonce(blockhash)
        for key, before in befores:
            account = self.read(key)
            if account is None or not is_nonce(account):
                continue
            moved = before is None or not is_nonce(before) or before.data[NONCE_VALUE] != account.data[NONCE_VALUE]
            if moved or key == used:
                data = account.data[: NONCE_VALUE.start] + following + account.data[NONCE_VALUE.stop :]
                self.write(key, Account(account.lamports, data, account.owner))


def durable_nonce(blockhash: Hash) -> bytes:
    """The nonce that an advance after this blockhash stores (Agave: DurableNonce::from_blockhash)."""
    return hashlib.sha256(b"DURABLE_NONCE" + bytes(blockhash)).digest()


def is_nonce(account: Account) -> bool:
    """Whether it is an initialized nonce account."""
    return (
        account.owner == SYSTEM_PROGRAM and len(account.data) == NONCE_LENGTH and account.data[:8] == NONCE_INITIALIZED
    )


def _outcome(
    meta: TransactionMetadata, err: Any, *, included: bool, posts: Sequence[tuple[Pubkey, Account]] = ()
) -> Outcome:
    returned = meta.return_data()
    return Outcome(
        err=err,
        included=included,
        fee=meta.fee(),
        logs=meta.logs(),
        units=meta.compute_units_consumed(),
        inner=meta.inner_instructions(),
        return_data=_returned(returned.program_id, returned.data) if returned.data else None,
        posts=posts,
    )


def _returned(program: Pubkey, data: bytes) -> dict[str, Any]:
    return {"programId": str(program), "data": [base64.b64encode(data).decode(), "base64"]}
