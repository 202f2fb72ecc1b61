"""Methods about transactions that landed."""

from __future__ import annotations

from typing import Any

from bridge.simulation.svm.chain import Commitment
from bridge.simulation.svm.encodings import encode_transaction
from bridge.simulation.svm.parameters import Parameters
from bridge.simulation.svm.records import Record
from bridge.simulation.svm.refusals import (
    filter_transaction_not_found,
    history_not_available,
    invalid_params,
    min_context_slot_not_reached,
)
from bridge.simulation.svm.transactions import signature_of
from bridge.simulation.svm.view import Method, View, with_context

STATUSES_MAX = 256
SIGNATURES_MAX = 1000

STATUS_CACHE_BLOCKS = 300
"""Finalized blocks whose transactions a node knows without searching its ledger (Agave: MAX_RECENT_BLOCKHASHES)."""


def get_transaction(view: View, parameters: Parameters) -> dict[str, Any] | None:
    """A transaction with what it did; null while it is not that sure, or unknown."""
    parameters.require(1)
    signature, config = signature_of(parameters.text(0)), parameters.config_or_encoding(1)
    commitment = config.at_least_confirmed()
    if view.faults.no_history:
        raise history_not_available()
    record = view.record(signature)
    if record is None or not _written(view, record, commitment):
        return None
    told = encode_transaction(record, config.text("encoding", "json"), config.version_max())
    return {"slot": record.slot, "blockTime": record.place.time, **told}


def _written(view: View, record: Record, commitment: Commitment) -> bool:
    block = view.chain.at_slot(record.slot)
    assert block is not None, "a record's block is kept as long as the record"
    written = view.newest(Commitment.PROCESSED).height - view.faults.unwritten_blocks
    return record.slot <= view.newest(commitment).slot and block.height <= written


def get_signature_statuses(view: View, parameters: Parameters) -> dict[str, Any]:
    """How sure each transaction is; null for those that this node does not know, or no longer."""
    parameters.require(1)
    signatures = [signature_of(signature) for signature in parameters.texts(0)]
    if len(signatures) > STATUSES_MAX:
        raise invalid_params(f"Too many inputs provided; max {STATUSES_MAX}")
    search = parameters.config(1).flag("searchTransactionHistory")
    if search and view.faults.no_history:
        raise history_not_available()
    head = view.newest(Commitment.PROCESSED)
    return with_context(head, [_status(view, signature, search=search) for signature in signatures])


def _status(view: View, signature: str, *, search: bool) -> dict[str, Any] | None:
    record = view.record(signature)
    if record is None:
        return None
    block = view.chain.at_slot(record.slot)
    assert block is not None, "a record's block is kept as long as the record"
    if not search and block.height < view.newest(Commitment.FINALIZED).height - STATUS_CACHE_BLOCKS:
        return None
    status = view.status(record.slot)
    finalized = status is Commitment.FINALIZED
    return {
        "slot": record.slot,
        "confirmations": None if finalized else view.newest(Commitment.PROCESSED).height - block.height,
        "status": record.meta["status"],
        "err": record.err,
        "confirmationStatus": status.value,
    }


def get_signatures_for_address(view: View, parameters: Parameters) -> list[dict[str, Any]]:
    """Which transactions name an account, newest first: those older than `before` and newer than `until`.

    An unknown `before` (it was on a fork that died) gives nothing; an unknown `until` does not end the search. Newer
    nodes refuse both.
    """
    parameters.require(1)
    account, config = str(parameters.key(0)), parameters.config(1)
    limit = config.number("limit", SIGNATURES_MAX)
    if not 1 <= limit <= SIGNATURES_MAX:
        raise invalid_params(f"Invalid limit; max {SIGNATURES_MAX}")
    bounds = [signature_of(config.text(name, "")) if name in config else None for name in ("before", "until")]
    newest = view.newest(config.at_least_confirmed())
    if newest.slot < config.number("minContextSlot", 0):
        raise min_context_slot_not_reached(newest.slot)
    if view.faults.no_history:
        raise history_not_available()
    before, until = (None if signature is None else view.record(signature) for signature in bounds)
    for signature, record in zip(bounds, (before, until), strict=True):
        if view.faults.strict_cursors and signature is not None and record is None:
            raise filter_transaction_not_found(signature)
    if bounds[0] is not None and before is None:
        return []
    history = view.chain.history
    records = history.of_account(account)
    end = len(records) if before is None else history.before(account, before)
    start = 0 if until is None else history.before(account, until)
    found: list[dict[str, Any]] = []
    while end > start and len(found) < limit:
        end -= 1
        record = records[end]
        if record is until or record.slot < view.first_slot:
            break
        if record.slot <= newest.slot:
            found.append(_told(view, record))
    return found


def _told(view: View, record: Record) -> dict[str, Any]:
    return {
        "signature": record.signature,
        "slot": record.slot,
        "err": record.err,
        "memo": record.memo,
        "blockTime": record.place.time,
        "confirmationStatus": view.status(record.slot).value,
    }


METHODS: dict[str, Method] = {
    "getTransaction": get_transaction,
    "getSignatureStatuses": get_signature_statuses,
    "getSignaturesForAddress": get_signatures_for_address,
}
