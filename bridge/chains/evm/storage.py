"""Where our contracts keep what they know, as the compiler laid it out: for simulating on a state that is not there.

The layout comes with the artifact, which a test compares with the sources. Rules of the layout: Solidity's
documentation, "Layout of State Variables in Storage".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eth_hash.auto import keccak

from bridge.chains.evm.contracts import ARTIFACTS

WORD = 32


@dataclass(frozen=True, slots=True)
class Layout:
    """Of one contract's variables, by name."""

    variables: Mapping[str, Mapping[str, Any]]  # slot, offset and bytes; members where a struct is kept

    @classmethod
    def load(cls, contract: str) -> Layout:
        return cls(json.loads((ARTIFACTS / f"{contract}.json").read_text())["storage"])

    def words(self, variable: str, keys: Sequence[bytes], value: int | Mapping[str, int]) -> dict[bytes, bytes]:
        """(slot, word) of everything that a variable's words hold when it is `value`; a struct's by member. `keys` lead
        through mappings. What shares a word and is not named becomes zero.

        Raises KeyError for what the contract does not have, OverflowError for a value that has no room.
        """
        described = self.variables[variable]
        slot = int(described["slot"])
        for key in keys:
            slot = int.from_bytes(keccak(key.rjust(WORD, b"\0") + slot.to_bytes(WORD)))
        places = described["members"] if isinstance(value, Mapping) else {"": {**described, "slot": 0}}
        words: dict[int, int] = {}
        for name, number in value.items() if isinstance(value, Mapping) else (("", value),):
            place = places[name]
            number.to_bytes(place["bytes"])  # it must fit
            at = (slot + place["slot"]) % 2 ** (8 * WORD)
            words[at] = words.get(at, 0) | number << 8 * place["offset"]
        return {at.to_bytes(WORD): word.to_bytes(WORD) for at, word in words.items()}
