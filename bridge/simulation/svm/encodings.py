"""Accounts and transactions in the encodings of the RPC."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from solders.account import Account
from solders.hash import Hash
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey

from bridge.simulation.svm import base58
from bridge.simulation.svm.lookups import PROGRAM_NAME as TABLE_PROGRAM
from bridge.simulation.svm.lookups import parsed_table, read_table
from bridge.simulation.svm.machine import NONCE_AUTHORITY, NONCE_VALUE, is_nonce
from bridge.simulation.svm.parameters import Config
from bridge.simulation.svm.records import MEMO_PROGRAMS, Record
from bridge.simulation.svm.refusals import RpcRefusal, invalid_params, unsupported_version
from bridge.simulation.svm.tokens import PROGRAM_NAMES, parsed
from bridge.simulation.svm.transactions import Loaded, Reader

RENT_EPOCH = 2**64 - 1
"""What accounts that are exempt from rent say."""

BASE58_DATA_MAX = 128
"""Bytes of an account that are given in base 58 at most."""

ACCOUNT_ENCODINGS = ("binary", "base58", "base64", "base64+zstd", "jsonParsed")
TRANSACTION_ENCODINGS = ("json", "jsonParsed", "base58", "base64", "binary")


def encode_account(account: Account | None, config: Config, read: Reader) -> dict[str, Any] | None:
    """An account as `config` wants it (encoding, dataSlice). Raises RpcRefusal."""
    encoding = config.text("encoding", "binary")
    if encoding not in ACCOUNT_ENCODINGS or encoding == "base64+zstd":
        raise _unknown(encoding, ACCOUNT_ENCODINGS)
    if account is None:
        return None
    return {
        "lamports": account.lamports,
        "data": _account_data(account, encoding, config.config("dataSlice"), read),
        "owner": str(account.owner),
        "executable": account.executable,
        "rentEpoch": RENT_EPOCH,
        "space": len(account.data),
    }


def _account_data(account: Account, encoding: str, part: Config | None, read: Reader) -> Any:
    if encoding == "jsonParsed":
        told = _parsed(account, read)
        if told is not None:
            return told
        encoding = "base64"
    data = bytes(account.data)
    if part is not None:
        start = part.number("offset", 0)
        data = data[start : start + part.number("length", 0)]
    if encoding == "base64":
        return [base64.b64encode(data).decode(), "base64"]
    if len(data) > BASE58_DATA_MAX:
        raise RpcRefusal(
            -32600, "Encoded binary (base 58) data should be less than 128 bytes, please use Base64 encoding."
        )
    return base58.encode(data) if encoding == "binary" else [base58.encode(data), "base58"]


def _parsed(account: Account, read: Reader) -> dict[str, Any] | None:
    told = parsed(account, read)
    if told is not None:
        return {"program": PROGRAM_NAMES[account.owner], "parsed": told, "space": len(account.data)}
    table = read_table(account)
    if table is not None:
        return {"program": TABLE_PROGRAM, "parsed": parsed_table(table), "space": len(account.data)}
    if is_nonce(account):
        info = {
            "authority": str(Pubkey.from_bytes(account.data[NONCE_AUTHORITY])),
            "blockhash": str(Hash.from_bytes(account.data[NONCE_VALUE])),
            "feeCalculator": {"lamportsPerSignature": str(int.from_bytes(account.data[72:80], "little"))},
        }
        return {"program": "nonce", "parsed": {"type": "initialized", "info": info}, "space": len(account.data)}
    return None


def encode_transaction(record: Record, encoding: str, version_max: int | None) -> dict[str, Any]:
    """`transaction`, `meta` and, for a client that knows versions, `version`. Raises RpcRefusal."""
    if encoding not in TRANSACTION_ENCODINGS:
        raise _unknown(encoding, TRANSACTION_ENCODINGS)
    version = record.wire.version
    if version is not None and (version_max is None or version > version_max):
        raise unsupported_version(version)
    raw = bytes(record.wire.transaction)
    transaction: Any
    meta: Mapping[str, Any] = record.meta
    if encoding == "base64":
        transaction = [base64.b64encode(raw).decode(), "base64"]
    elif encoding == "base58":
        transaction = [base58.encode(raw), "base58"]
    elif encoding == "binary":
        transaction = base58.encode(raw)
    else:
        parse = encoding == "jsonParsed"
        signatures = [str(signature) for signature in record.wire.transaction.signatures]
        message = _parsed_message(record) if parse else _message(record.wire.message)
        transaction = {"signatures": signatures, "message": message}
        if parse:
            meta = _parsed_meta(record)
    told = {"transaction": transaction, "meta": meta}
    return told if version_max is None else {**told, "version": "legacy" if version is None else version}


def _message(message: Message | MessageV0) -> dict[str, Any]:
    header = message.header
    told: dict[str, Any] = {
        "header": {
            "numRequiredSignatures": header.num_required_signatures,
            "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
            "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
        },
        "accountKeys": [str(key) for key in message.account_keys],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [
            {
                "programIdIndex": instruction.program_id_index,
                "accounts": list(bytes(instruction.accounts)),
                "data": base58.encode(bytes(instruction.data)),
                "stackHeight": 1,
            }
            for instruction in message.instructions
        ],
    }
    if isinstance(message, MessageV0):
        told["addressTableLookups"] = _lookups(message)
    return told


def _lookups(message: MessageV0) -> list[dict[str, Any]]:
    return [
        {
            "accountKey": str(table.account_key),
            "writableIndexes": list(bytes(table.writable_indexes)),
            "readonlyIndexes": list(bytes(table.readonly_indexes)),
        }
        for table in message.address_table_lookups
    ]


def _parsed_message(record: Record) -> dict[str, Any]:
    message, loaded = record.wire.message, record.loaded
    signers = message.header.num_required_signatures
    told: dict[str, Any] = {
        "accountKeys": [
            {
                "pubkey": str(key),
                "signer": position < signers,
                "source": "transaction" if position < loaded.static else "lookupTable",
                "writable": loaded.writable[position],
            }
            for position, key in enumerate(loaded.keys)
        ],
        "recentBlockhash": str(message.recent_blockhash),
        "instructions": [
            _parsed_instruction(
                loaded, instruction.program_id_index, bytes(instruction.accounts), bytes(instruction.data), 1
            )
            for instruction in message.instructions
        ],
    }
    if isinstance(message, MessageV0):
        told["addressTableLookups"] = _lookups(message)
    return told


def _parsed_meta(record: Record) -> dict[str, Any]:
    meta = {name: value for name, value in record.meta.items() if name != "loadedAddresses"}
    meta["innerInstructions"] = [
        {
            "index": group["index"],
            "instructions": [
                _parsed_instruction(
                    record.loaded,
                    called["programIdIndex"],
                    called["accounts"],
                    base58.decode(called["data"]),
                    called["stackHeight"],
                )
                for called in group["instructions"]
            ],
        }
        for group in record.meta["innerInstructions"]
    ]
    return meta


def _parsed_instruction(
    loaded: Loaded, program: int, accounts: Sequence[int], data: bytes, height: int | None
) -> dict[str, Any]:
    """Memos are told as text. All others are told as Agave tells those of programs that it does not know."""
    key = loaded.keys[program]
    if key in MEMO_PROGRAMS:
        try:
            return {"program": "spl-memo", "programId": str(key), "parsed": data.decode(), "stackHeight": height}
        except UnicodeDecodeError:
            pass
    return {
        "programId": str(key),
        "accounts": [str(loaded.keys[position]) for position in accounts],
        "data": base58.encode(data),
        "stackHeight": height,
    }


def _unknown(encoding: str, known: Sequence[str]) -> RpcRefusal:
    names = ", ".join(f"`{name}`" for name in known)
    return invalid_params(f"Invalid params: unknown variant `{encoding}`, expected one of {names}.")
