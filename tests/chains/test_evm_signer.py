"""The operator's key: opened from a keystore only, and never shown."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from eth_account import Account
from eth_hash.auto import keccak

from bridge.chains.evm.signer import KeystoreSigner
from bridge.domain.errors import ConfigError

KEY = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
ADDRESS = "2c7536e3605d9c16a7a3d7b1898e529396a65c23"
TRANSACTION = {
    "type": 2,
    "chainId": 1,
    "nonce": 7,
    "to": "0x" + "00" * 20,
    "value": 0,
    "data": b"",
    "gas": 21_000,
    "maxFeePerGas": 10,
    "maxPriorityFeePerGas": 1,
}


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "operator.json"
    path.write_text(json.dumps(Account.encrypt(bytes.fromhex(KEY), "sesame", kdf="pbkdf2", iterations=10)))
    return path


async def test_signer__keystore_and_password__signs_for_its_account_the_same_every_time(keystore: Path):
    signer = KeystoreSigner.load(keystore, "sesame")
    assert signer.account.hex() == ADDRESS
    tx_id, raw = await signer.sign(TRANSACTION)
    assert tx_id == keccak(raw)
    assert Account.recover_transaction(raw).lower() == "0x" + ADDRESS
    assert await signer.sign(TRANSACTION) == (tx_id, raw)


async def test_signer__legacy_fees__makes_a_legacy_transaction(keystore: Path):
    legacy = {key: value for key, value in TRANSACTION.items() if not key.startswith(("type", "max"))}
    _, raw = await KeystoreSigner.load(keystore, "sesame").sign({**legacy, "gasPrice": 10})
    assert raw[0] >= 0xC0  # an RLP list, no type byte before it


def test_signer__address_of__needs_no_password(keystore: Path):
    assert KeystoreSigner.address_of(keystore).hex() == ADDRESS


def test_signer__repr_and_pickle__never_show_the_key(keystore: Path):
    signer = KeystoreSigner.load(keystore, "sesame")
    assert repr(signer) == f"KeystoreSigner(0x{ADDRESS})"
    assert not hasattr(signer, "__dict__")
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(signer)


def test_signer__wrong_password__says_so_and_where(keystore: Path):
    with pytest.raises(ConfigError, match="password does not open") as raised:
        KeystoreSigner.load(keystore, "open barley", where="[chains.main.operator]")
    assert raised.value.where == "[chains.main.operator] password"
    assert "barley" not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (KEY, "private key in plain text"),
        (f"0x{KEY}\n", "private key in plain text"),
        ("{}", "not a version 3 keystore"),
        ("{", "not a version 3 keystore"),
        ("[1]", "not a version 3 keystore"),
        ('{"crypto": {}}', "not a version 3 keystore"),
        ('{"version": 3, "crypto": {"kdf": "none"}}', "not a version 3 keystore"),
    ],
)
def test_signer__no_keystore__refused_without_repeating_what_is_in_it(tmp_path: Path, content: str, says: str):
    path = tmp_path / "operator.json"
    path.write_text(content)
    with pytest.raises(ConfigError, match=says) as raised:
        KeystoreSigner.load(path, "sesame")
    assert KEY not in str(raised.value)
    assert raised.value.mend is not None


def test_signer__no_file__names_it(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"absent\.json"):
        KeystoreSigner.load(tmp_path / "absent.json", "sesame")
