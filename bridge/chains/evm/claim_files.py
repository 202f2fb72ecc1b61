"""Claim sets as static files: what a claimant's browser, and anyone who checks, needs of a tree.

    DIRECTORY/index.json        root, total, count, chain, contract, token; how many digits name a shard
              proofs/3f7.json   {"0x3f7…": {"cumulative": "…", "proof": ["0x…", …]}, …}: the accounts that begin so
              claims.parquet    all of it as a table

The same claim set gives the same bytes. The directory appears whole or not at all.
"""

from __future__ import annotations

import binascii
import fcntl
import itertools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bridge.chains.evm.claims import LEAF_TYPES, Claim, ClaimSet, verify_claim
from bridge.domain.errors import ConfigError, NotInClaimSet
from bridge.domain.units import Address, check_amount, format_address, hexed

FORMAT = "bridge-claims-1"
SHARD_CLAIMS = 64
"""Claims in a shard on average, at most: about 90 kB."""

_CHUNK = 1 << 11
"""Proofs written at once: their text, some 1.5 kB each, stays in the cache."""


@dataclass(frozen=True, slots=True)
class ClaimIndex:
    """What is published of a claim set as a whole."""

    chain_id: int
    contract: Address
    token: Address
    root: bytes
    total: int  # atoms
    count: int
    digits: int  # hex digits of an account that name its shard

    @classmethod
    def of(cls, claims: ClaimSet) -> ClaimIndex:
        digits = 1
        while len(claims) > SHARD_CLAIMS * 16**digits:
            digits += 1
        return cls(claims.chain_id, claims.contract, claims.token, claims.root, claims.total, len(claims), digits)

    def to_json(self) -> bytes:
        return orjson.dumps(
            {
                "format": FORMAT,
                "chainId": self.chain_id,
                "contract": format_address(self.contract),
                "token": format_address(self.token),
                "root": hexed(self.root),
                "total": str(self.total),
                "count": self.count,
                "digits": self.digits,
                "leafEncoding": LEAF_TYPES,
            },
            option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE,
        )

    @classmethod
    def from_json(cls, text: bytes) -> ClaimIndex:
        """Raises ValueError."""
        try:
            content = orjson.loads(text)
            index = cls(
                chain_id=int(content["chainId"]),
                contract=Address(_unhex(content["contract"])),
                token=Address(_unhex(content["token"])),
                root=_unhex(content["root"]),
                total=int(content["total"]),
                count=int(content["count"]),
                digits=int(content["digits"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(f"not the index of a claim set: {error!r}") from None
        if index.to_json() != text:
            raise ValueError(f"not the index of a claim set in the format {FORMAT}")
        return index


def publish(claims: ClaimSet, directory: Path) -> None:
    """Write `directory`. Nothing happens where it holds this claim set already.

    Raises ConfigError where it holds anything else, or where pyarrow is not installed.
    """
    try:
        from bridge.chains.evm.claim_table import write_table  # noqa: PLC0415 - an extra, which reading does not need
    except ModuleNotFoundError:
        raise ConfigError("claim sets need pyarrow", mend="install the extra: bridge[claims]") from None
    index = ClaimIndex.of(claims)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _lock(directory.parent):
        if directory.exists():
            _check_published(directory, index)
            return
        partial = directory.with_name(f".{directory.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of one who was killed
        (partial / "proofs").mkdir(parents=True)
        _write_shards(claims, partial / "proofs", index.digits)
        write_table(claims, partial / "claims.parquet")
        (partial / "index.json").write_bytes(index.to_json())
        os.sync()  # a power cut must not leave the name without the content
        partial.rename(directory)


def load(directory: Path) -> ClaimIndex:
    """Raises ConfigError where no claim set is published there."""
    path = directory / "index.json"
    try:
        return ClaimIndex.from_json(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError("no claim set is published here", where=str(path)) from None
    except ValueError as error:
        raise _damaged(path, str(error)) from None


def lookup(directory: Path, account: Address) -> Claim:
    """The claim of `account`, checked against the root.

    Raises NotInClaimSet where it has none and ConfigError where the files are missing or damaged.
    """
    index = load(directory)
    path = directory / "proofs" / f"{account.hex()[: index.digits]}.json"
    try:
        entry = orjson.loads(path.read_bytes()).get(format_address(account))
        if entry is None:
            raise NotInClaimSet(account, index.root)
        claim = Claim(account, check_amount(int(entry["cumulative"])), tuple(map(_unhex, entry["proof"])))
    except FileNotFoundError:
        raise _damaged(path, "the file is missing") from None  # those without an account are there, too
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(path, repr(error)) from None
    if not verify_claim(index.chain_id, index.contract, index.token, claim, index.root):
        raise _damaged(path, f"the proof of {format_address(account)} does not lead to the root {hexed(index.root)}")
    return claim


def _write_shards(claims: ClaimSet, proofs: Path, digits: int) -> None:
    first_bytes = np.ascontiguousarray(claims.accounts[:, :4]).view(">u4")[:, 0]
    bounds = np.searchsorted(first_bytes >> (32 - 4 * digits), np.arange(16**digits + 1))
    entries = _entries(claims)
    for shard, size in enumerate(np.diff(bounds).tolist()):
        text = b",\n".join(itertools.islice(entries, size))
        (proofs / f"{shard:0{digits}x}.json").write_bytes(b"{" + text + b"}\n")


def _entries(claims: ClaimSet) -> Iterator[bytes]:
    """A line of JSON for each account, ascending."""
    blank = np.frombuffer(b'"0x' + b"0" * 64 + b'",', dtype=np.uint8)
    for start in range(0, len(claims), _CHUNK):
        siblings, lengths = claims.tree.proofs(slice(start, start + _CHUNK))
        quoted = np.tile(blank, (*siblings.shape[:2], 1))
        quoted[:, :, 3:-2] = np.frombuffer(binascii.hexlify(siblings.data), dtype=np.uint8).reshape(
            *siblings.shape[:2], -1
        )
        text, width = quoted.tobytes(), quoted[0].size
        for row, length in enumerate(lengths.tolist()):
            proof = text[row * width : row * width + length * len(blank) - 1]  # without the last comma
            account, cumulative = claims.account(start + row), claims.cumulative(start + row)
            yield b'"0x%b":{"cumulative":"%d","proof":[%b]}' % (account.hex().encode(), cumulative, proof)


@contextmanager
def _lock(directory: Path) -> Iterator[None]:
    """One publisher at a time in `directory`; the lock ends with the process."""
    opened = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def _check_published(directory: Path, index: ClaimIndex) -> None:
    found = load(directory)
    if found != index:
        raise ConfigError(
            f"another claim set is published here, with root {hexed(found.root)}, not {hexed(index.root)}",
            where=str(directory),
            mend="choose another directory, or take this one away",
        )


def _damaged(path: Path, problem: str) -> ConfigError:
    return ConfigError(problem, where=str(path), mend="take the directory away and publish the claim set again")


def _unhex(text: Any) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
