"""The operator's key on Solana: opened from an encrypted keystore only, and never shown."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from solders.keypair import Keypair
from solders.pubkey import Pubkey

from bridge.chains.solana.markers import Deed
from bridge.chains.solana.messages import (
    Budget,
    Coin,
    Purse,
    Transfer,
    draft,
    is_signed,
    signed_part,
    tx_id_of,
    unsigned,
)
from bridge.chains.solana.programs import NATIVE, SYSTEM
from bridge.chains.solana.signer import KeystoreSigner, make_keystore, open_keystore, read_keypair
from bridge.domain.errors import ConfigError
from bridge.domain.units import Address, base58, format_address

SEED = bytes(range(32))
KEY = Keypair.from_seed(SEED)
ADDRESS = Address(bytes(KEY.pubkey()))
VAULT = Keypair.from_seed(b"\1" * 32)


@pytest.fixture
def keystore(tmp_path: Path) -> Path:
    path = tmp_path / "operator.json"
    path.write_text(json.dumps(make_keystore(SEED, "sesame", scrypt_n=16)))
    return path


def payment(vault: Keypair = KEY) -> bytes:
    purse = Purse(ADDRESS, Address(bytes(vault.pubkey())))
    recipient = Transfer(Address(bytes(Pubkey.new_unique())), 1)
    drafted = draft(purse, Deed(bytes(32), 0), 1, Coin(NATIVE, SYSTEM, 9), [recipient])
    return unsigned(drafted.message(b"\2" * 32, Budget(1000, 1)))


async def test_signer__keystore_and_password__signs_for_its_account_the_same_every_time(keystore: Path):
    signer = KeystoreSigner.load(keystore, "sesame")
    assert signer.account == ADDRESS
    transaction = {"raw": payment()}
    tx_id, raw = await signer.sign(transaction)
    assert tx_id == tx_id_of(raw)
    assert is_signed(raw)
    assert signed_part(raw) == signed_part(transaction["raw"])
    assert await signer.sign(transaction) == (tx_id, raw)


async def test_signer__two_signers__each_fills_in_its_own(keystore: Path):
    raw = payment(VAULT)
    _, half = await KeystoreSigner.load(keystore, "sesame").sign({"raw": raw})
    assert not is_signed(half)
    tx_id, whole = await KeystoreSigner(VAULT).sign({"raw": half})
    assert is_signed(whole)
    assert tx_id == tx_id_of(half) == tx_id_of(whole), "the operator pays, so its signature is the id"


async def test_signer__transaction_of_others__is_not_signed(keystore: Path):
    with pytest.raises(ValueError, match="asks for no signature"):
        await KeystoreSigner(VAULT).sign({"raw": payment()})


def test_signer__address_of__needs_no_password(keystore: Path):
    assert KeystoreSigner.address_of(keystore) == ADDRESS


def test_signer__repr_and_pickle__never_show_the_key(keystore: Path):
    signer = KeystoreSigner.load(keystore, "sesame")
    assert repr(signer) == f"KeystoreSigner({format_address(ADDRESS)})"
    assert not hasattr(signer, "__dict__")
    with pytest.raises(TypeError, match="not to be pickled"):
        pickle.dumps(signer)


def test_keystore__made_twice__never_the_same_and_both_open():
    made = [make_keystore(SEED, "sésame", scrypt_n=16) for _ in range(2)]
    assert made[0]["cipher"]["text"] != made[1]["cipher"]["text"]
    assert [open_keystore(json.loads(json.dumps(one)), "sésame") for one in made] == [SEED, SEED]


def test_keystore__wrong_password__says_so(keystore: Path):
    with pytest.raises(ConfigError, match="the password does not open") as caught:
        KeystoreSigner.load(keystore, "open", where="operator of mainnet")
    assert caught.value.where == "operator of mainnet password"


def another_address(file: dict[str, Any]) -> None:
    file["address"] = format_address(bytes(VAULT.pubkey()))


def another_text(file: dict[str, Any]) -> None:
    text = file["cipher"]["text"]
    file["cipher"]["text"] = ("1" if text[0] == "0" else "0") + text[1:]


@pytest.mark.parametrize("damage", [another_address, another_text])
def test_keystore__changed_by_somebody__does_not_open(keystore: Path, damage: Callable[[dict[str, Any]], None]):
    file = json.loads(keystore.read_text())
    damage(file)
    keystore.write_text(json.dumps(file))
    with pytest.raises(ConfigError, match="does not open"):
        KeystoreSigner.load(keystore, "sesame")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("kdf", "n", 2**30),
        ("kdf", "n", 1.5),
        ("kdf", "r", 10**6),
        ("kdf", "name", "pbkdf2"),
        ("kdf", "salt", "xy"),
        ("cipher", "name", "aes-128-ctr"),
        ("cipher", "nonce", ""),
        ("cipher", "text", "00"),
        ("cipher", "text", 7),
    ],
)
def test_keystore__strange_parameters__are_refused_before_they_cost_anything(
    keystore: Path, part: str, field: str, value: object
):
    file = json.loads(keystore.read_text())
    file[part][field] = value
    keystore.write_text(json.dumps(file))
    with pytest.raises(ConfigError, match="not a keystore for ed25519"):
        KeystoreSigner.load(keystore, "sesame")


@pytest.mark.parametrize(
    "text", [json.dumps(list(bytes(KEY))), base58(bytes(KEY)), SEED.hex(), "0x" + bytes(KEY).hex() + "\n"]
)
def test_keystore__plain_key__is_refused_and_not_repeated(tmp_path: Path, text: str):
    path = tmp_path / "id.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="in plain text, which is refused") as caught:
        KeystoreSigner.load(path, "sesame")
    assert text.strip()[:12] not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", '{"kind": "ed25519", "version": 2}', '{"crypto": {}}', "\x00"]
)
def test_keystore__file_that_is_none__is_refused(tmp_path: Path, text: str):
    path = tmp_path / "id.json"
    path.write_text(text)
    for read in (lambda: KeystoreSigner.load(path, "x"), lambda: KeystoreSigner.address_of(path)):
        with pytest.raises(ConfigError):
            read()


def test_keystore__no_file__says_so(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot read"):
        KeystoreSigner.load(tmp_path / "none.json", "x")


def test_keypair__of_the_command_line__is_read():
    assert read_keypair(json.dumps(list(bytes(KEY)))) == SEED


@pytest.mark.parametrize("text", ["[]", "{}", "[1, 2]", json.dumps([256] * 64), json.dumps([1] * 64), "x"])
def test_keypair__that_is_none__is_refused(text: str):
    with pytest.raises(ValueError):  # noqa: PT011  # whatever is wrong, the caller says the same
        read_keypair(text)
