"""Methods that a sender needs: blockhashes, fees, simulation, sending."""

from __future__ import annotations

from typing import Any

from solders.compute_budget import set_compute_unit_limit
from solders.message import Message, MessageV0, from_bytes_versioned
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from bridge.simulation.svm.admission import MAX_PROCESSING_AGE, admit, blockhash_valid
from bridge.simulation.svm.chain import Block, Commitment
from bridge.simulation.svm.encodings import encode_account
from bridge.simulation.svm.machine import Outcome
from bridge.simulation.svm.parameters import Config, Parameters, key_of
from bridge.simulation.svm.records import inner_instructions
from bridge.simulation.svm.refusals import invalid_params, preflight_failure, signature_verification_failure
from bridge.simulation.svm.transactions import (
    LookupFailure,
    Wire,
    decode,
    load,
    parse,
    with_blockhash,
)
from bridge.simulation.svm.verdicts import describe
from bridge.simulation.svm.view import Method, View, with_context

PRIORITIZATION_FEE_ACCOUNTS_MAX = 128
PRIORITIZATION_FEE_BLOCKS = 150
AIRDROP_UNITS = 1000
MESSAGE_TYPE = "solana_message::versions::VersionedMessage"


def get_latest_blockhash(view: View, parameters: Parameters) -> dict[str, Any]:
    """A blockhash and the last height that it is meant for."""
    block = view.bank(parameters.config(0))
    return with_context(block, _blockhash(block))


def _blockhash(block: Block) -> dict[str, Any]:
    return {"blockhash": str(block.hash), "lastValidBlockHeight": block.height + MAX_PROCESSING_AGE}


def is_blockhash_valid(view: View, parameters: Parameters) -> dict[str, Any]:
    """Whether a transaction with it could still run upon the newest block."""
    parameters.require(1)
    block = view.bank(parameters.config(1))
    blockhash = str(key_of(parameters.text(0)))  # a hash is written as a key is
    return with_context(block, blockhash_valid(view.chain, blockhash, block))


def get_fee_for_message(view: View, parameters: Parameters) -> dict[str, Any]:
    """Lamports; null when its blockhash is not valid."""
    parameters.require(1)
    raw = decode(parameters.text(0), "base64", MESSAGE_TYPE)
    try:
        message = from_bytes_versioned(raw)
    except ValueError as error:
        raise invalid_params(f"failed to deserialize {MESSAGE_TYPE}: {error}") from None
    if not isinstance(message, Message | MessageV0):
        raise invalid_params(f"failed to deserialize {MESSAGE_TYPE}: unknown version")
    block = view.bank(parameters.config(1))
    unsigned = [Signature.default()] * message.header.num_required_signatures
    wire = Wire(VersionedTransaction.populate(message, unsigned), message, "", len(raw))
    verdict = admit(view.chain, wire, block, view.reader(block))
    return with_context(block, None if verdict.err else view.chain.machine.simulate(wire.transaction).fee)


def get_recent_prioritization_fees(view: View, parameters: Parameters) -> list[dict[str, int]]:
    """For each recent block, the lowest price of a compute unit at which a transaction wrote all these accounts."""
    texts = parameters.texts(0) if parameters.get(0) is not None else []
    if len(texts) > PRIORITIZATION_FEE_ACCOUNTS_MAX:
        raise invalid_params(f"Too many inputs provided; max {PRIORITIZATION_FEE_ACCOUNTS_MAX}")
    keys = {key_of(text) for text in texts}
    head = view.newest(Commitment.PROCESSED)
    fees = []
    for block in view.chain.blocks[-PRIORITIZATION_FEE_BLOCKS - view.faults.lag_blocks :]:
        if block.height > head.height:
            break
        prices = [record.wire.unit_price() for record in block.records if keys <= set(record.loaded.written)]
        fees.append({"slot": block.slot, "prioritizationFee": min(prices, default=0)})
    return fees


def simulate_transaction(view: View, parameters: Parameters) -> dict[str, Any]:
    """What a transaction would do upon the newest block."""
    parameters.require(1)
    config = parameters.config(1)
    wire = parse(decode(parameters.text(0), config.text("encoding", "base58")))
    verify, replace = config.flag("sigVerify"), config.flag("replaceRecentBlockhash")
    if verify and replace:
        raise invalid_params("sigVerify may not be used with replaceRecentBlockhash")
    block = view.bank(config)
    if replace:
        wire = with_blockhash(wire, block.hash)
    if verify and not wire.signatures_fit():
        raise signature_verification_failure()
    outcome = _simulate(view, wire, block)
    result = _result(outcome)
    accounts = config.config("accounts")
    if accounts is not None:
        result["accounts"] = _accounts_after(view, wire, block, outcome, accounts)
    if config.flag("innerInstructions"):
        result["innerInstructions"] = inner_instructions(outcome)
    if replace:
        result["replacementBlockhash"] = _blockhash(block)
    return with_context(block, result)


def send_transaction(view: View, parameters: Parameters) -> str:
    """Check a transaction, unless told not to, and pass it on. Its signature says nothing about whether it lands.

    Without preflight the node does not even look at signatures: what does not fit is lost on its way to the leader.
    """
    parameters.require(1)
    config = parameters.config(1)
    wire = parse(decode(parameters.text(0), config.text("encoding", "base58")))
    config.number("maxRetries", 0)  # there is nothing to retry: what is passed on arrives, or is dropped by a fault
    skip = config.flag("skipPreflight")
    head = view.newest(Commitment.PROCESSED)
    block = head if skip and "minContextSlot" not in config else view.bank(_preflight(config, skip=skip))
    try:
        load(wire.message, view.reader(block), view.chain.moment(block))
    except LookupFailure as failure:
        raise invalid_params(f"invalid transaction: {describe(failure.err)}") from None
    fits = wire.signatures_fit()
    if not skip:
        if not fits:
            raise signature_verification_failure()
        view.check_health()
        outcome = _simulate(view, wire, block)
        if outcome.err is not None:
            raise preflight_failure(describe(outcome.err), _result(outcome))
    if fits and not view.faults.drops(view.chance):
        view.chain.submit(wire, view.chain.next_slot + view.faults.delay_slots)
    return wire.signature


def _preflight(config: Config, *, skip: bool) -> Config:
    commitment = Commitment.PROCESSED if skip else config.commitment("preflightCommitment")
    return Config({"commitment": commitment.value, "minContextSlot": config.get("minContextSlot")})


def request_airdrop(view: View, parameters: Parameters) -> str:
    """A transfer from the faucet; the signature of its transaction, which lands as any other."""
    parameters.require(2)
    key, lamports = parameters.key(0), parameters.number(1)
    chain = view.chain
    faucet = chain.faucet
    # Another unit limit makes another transaction of what would else be the same one.
    limit = set_compute_unit_limit(AIRDROP_UNITS + chain.count_airdrop())
    give = transfer(TransferParams(from_pubkey=faucet.pubkey(), to_pubkey=key, lamports=lamports))
    message = MessageV0.try_compile(faucet.pubkey(), [limit, give], [], view.bank(parameters.config(2)).hash)
    wire = parse(bytes(VersionedTransaction(message, [faucet])))
    chain.submit(wire)
    return wire.signature


def _simulate(view: View, wire: Wire, block: Block) -> Outcome:
    """Run it upon `block`: where accounts have changed since, they are put back for the moment."""
    chain = view.chain
    verdict = admit(chain, wire, block, view.reader(block))
    if verdict.err is not None:
        return _refused(verdict.err)
    try:
        loaded = load(wire.message, view.reader(block), view.chain.moment(block))
    except LookupFailure as failure:
        raise invalid_params(f"invalid transaction: {describe(failure.err)}") from None
    then = chain.written_since(loaded.keys, block)
    now = {key: chain.machine.read(key) for key in then}
    for key, account in then.items():
        chain.machine.write(key, account)
    try:
        return chain.machine.simulate(wire.transaction)
    finally:
        for key, account in now.items():
            chain.machine.write(key, account)


def _refused(err: str) -> Outcome:
    return Outcome(err=err, included=False, fee=0, logs=(), units=0, inner=(), return_data=None)


def _result(outcome: Outcome) -> dict[str, Any]:
    return {
        "err": outcome.err,
        "logs": list(outcome.logs),
        "accounts": None,
        "unitsConsumed": outcome.units,
        "returnData": outcome.return_data,
        "innerInstructions": None,
        "replacementBlockhash": None,
    }


def _accounts_after(view: View, wire: Wire, block: Block, outcome: Outcome, config: Config) -> list[Any]:
    addresses = config.texts("addresses")
    if config.text("encoding", "base64") in {"binary", "base58"}:
        raise invalid_params("base58 encoding not supported")
    if len(addresses) > len(wire.message.account_keys):
        raise invalid_params(f"Too many accounts provided; max {len(wire.message.account_keys)}")
    if outcome.err is not None:
        return [None for _ in addresses]
    posts = dict(outcome.posts)
    config = Config({"encoding": "base64", **config})
    told = []
    for address in addresses:
        key = key_of(address)
        account = posts[key] if key in posts else view.account(key, block)
        told.append(encode_account(account if account and account.lamports else None, config, view.reader(block)))
    return told


METHODS: dict[str, Method] = {
    "getLatestBlockhash": get_latest_blockhash,
    "isBlockhashValid": is_blockhash_valid,
    "getFeeForMessage": get_fee_for_message,
    "getRecentPrioritizationFees": get_recent_prioritization_fees,
    "simulateTransaction": simulate_transaction,
    "sendTransaction": send_transaction,
    "requestAirdrop": request_airdrop,
}
