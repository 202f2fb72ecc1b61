"""keccak-256 of many rows at once: keccak-f[1600] on numpy lanes, a block of rows side by side.

    rows ─► pad ─► 25 lanes × block ─► absorb, permute ─► … ─► squeeze ─► digests

A lane is a 64-bit word of the state; lane x + 5·y of every row of a block lies together, so each step of the
permutation is one pass of numpy over the block. One row alone takes milliseconds: `abi.keccak256` is for that.
Source: FIPS 202, sections 3.2 and 4, with Keccak's own padding (a first byte of 0x01, where SHA-3 has 0x06).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
Lanes = npt.NDArray[np.uint64]

DIGEST = 32  # bytes
_RATE = 136  # bytes of input that one permutation takes
_RATE_LANES = _RATE // 8

_BLOCK = 1024
"""Rows side by side, 600 bytes each to work in. With fewer, the calls of numpy cost more than their work; with more,
the block leaves the cache."""


def _round_constants() -> list[np.uint64]:
    """Of 24 rounds: bits of the linear feedback shift register x⁸ + x⁶ + x⁵ + x⁴ + 1, at places 2ʲ − 1."""
    constants, register = [], 1
    for _ in range(24):
        constant = 0
        for power in range(7):
            constant |= (register & 1) << (2**power - 1)
            register = register << 1 ^ (register >> 7) * 0x171
        constants.append(np.uint64(constant))
    return constants


def _rotations_and_sources() -> tuple[list[int], list[int]]:
    """How far ρ turns each lane to the left, and from which lane π fills each."""
    rotations, sources = [0] * 25, [0] * 25
    x, y = 1, 0
    for step in range(24):
        rotations[x + 5 * y] = (step + 1) * (step + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    for lane in range(25):
        x, y = lane % 5, lane // 5
        sources[y + 5 * ((2 * x + 3 * y) % 5)] = lane
    return rotations, sources


_ROUND_CONSTANTS = _round_constants()
_ROTATIONS, _SOURCES = (np.array(values) for values in _rotations_and_sources())
# A column each, against lanes × rows. numpy shifts by 64 to zero, so a lane that is not turned needs no exception.
_LEFT = _ROTATIONS.astype(np.uint64)[:, None]
_RIGHT = np.uint64(64) - _LEFT
_ONE, _REST = np.uint64(1), np.uint64(63)


def keccak256_rows(rows: Bytes) -> Bytes:
    """The keccak-256 of each row: uint8[n, m] → uint8[n, 32]."""
    count, length = rows.shape
    digests = np.empty((count, DIGEST), dtype=np.uint8)
    parts = length // _RATE + 1
    width = min(_BLOCK, max(1, count))
    state = _State(width)
    padded = np.zeros((width, parts * _RATE), dtype=np.uint8)
    padded[:, length] = 0x01
    padded[:, -1] |= 0x80
    words = padded.view("<u8")
    for start in range(0, count, width):
        block = rows[start : start + width]
        padded[: len(block), :length] = block  # a last block that is short leaves old rows below; their digests are cut
        state.lanes[:] = 0
        for part in range(parts):
            state.lanes[:_RATE_LANES] ^= words[:, part * _RATE_LANES : (part + 1) * _RATE_LANES].T
            state.permute()
        squeezed = np.ascontiguousarray(state.lanes[: DIGEST // 8].T, dtype="<u8").view(np.uint8)
        digests[start : start + width] = squeezed[: len(block)]
    return digests


class _State:
    """25 lanes for each of `width` rows, and room to work in, so that no step allocates."""

    def __init__(self, width: int) -> None:
        self.lanes: Lanes = np.zeros((25, width), dtype=np.uint64)
        self._moved, self._rest = np.empty_like(self.lanes), np.empty_like(self.lanes)
        self._parity, self._mixed = (np.empty((5, width), dtype=np.uint64) for _ in range(2))
        self._high = np.empty_like(self._parity)

    def permute(self) -> None:
        """keccak-f[1600] on every row."""
        for constant in _ROUND_CONSTANTS:
            self._theta()
            self._rho_pi()
            self._chi()
            self.lanes[0] ^= constant

    def _theta(self) -> None:
        """Each lane, plus the parity of the column before it and of the one behind, the latter turned by one."""
        parity, turned, high = self._parity, self._mixed, self._high
        planes = self.lanes.reshape(5, 5, -1)
        np.bitwise_xor.reduce(planes, axis=0, out=parity)
        np.left_shift(parity, _ONE, out=turned)
        np.right_shift(parity, _REST, out=high)
        np.bitwise_or(turned, high, out=turned)
        effect = high
        np.bitwise_xor(parity[:3], turned[2:], out=effect[1:4])
        np.bitwise_xor(parity[3], turned[0], out=effect[4])
        np.bitwise_xor(parity[4], turned[1], out=effect[0])
        np.bitwise_xor(planes, effect, out=planes)

    def _rho_pi(self) -> None:
        """Each lane turned by its own distance, then moved to its place."""
        lanes, rest = self.lanes, self._rest
        np.left_shift(lanes, _LEFT, out=rest)
        np.right_shift(lanes, _RIGHT, out=lanes)
        np.bitwise_or(lanes, rest, out=rest)
        np.take(rest, _SOURCES, axis=0, out=self._moved, mode="clip")  # "clip" alone writes to `out` without a copy

    def _chi(self) -> None:
        """Each lane, plus what the next one lets through of the one behind that."""
        np.invert(self._moved, out=self._rest)
        planes, moved, inverted = (lanes.reshape(5, 5, -1) for lanes in (self.lanes, self._moved, self._rest))
        np.bitwise_and(inverted[:, 1:4], moved[:, 2:5], out=planes[:, 0:3])
        np.bitwise_and(inverted[:, 4], moved[:, 0], out=planes[:, 3])
        np.bitwise_and(inverted[:, 0], moved[:, 1], out=planes[:, 4])
        np.bitwise_xor(self.lanes, self._moved, out=self.lanes)
