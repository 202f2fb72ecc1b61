"""A claim tree with its proofs and files, beside OpenZeppelin's JavaScript library, on the same claims.

tree    from accounts and amounts to the root
proofs  of every account; the library makes few, and its time for all is reckoned from those
files   shards of JSON and the Parquet table, on the disk
"""

from __future__ import annotations

import argparse
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from bridge.chains.evm.claim_files import lookup, publish
from bridge.chains.evm.claims import ClaimSet
from bridge.domain.units import Address
from tests.chains.openzeppelin import make_trees

CHAIN_ID = 31337
CONTRACT, TOKEN = Address(b"\x11" * 20), Address(b"\x22" * 20)
THEIR_PROOFS = 10_000
SLICE = 1 << 14


def run(leaves: int) -> None:
    chance = random.Random(7)
    entries = [(Address(chance.randbytes(20)), chance.randrange(1, 1 << 96)) for _ in range(leaves)]
    print(f"{leaves:,} leaves, both on the same ones …", flush=True)

    started = time.perf_counter()
    claims = ClaimSet.build(CHAIN_ID, CONTRACT, TOKEN, entries)
    tree_s = time.perf_counter() - started

    started = time.perf_counter()
    for start in range(0, leaves, SLICE):
        claims.tree.proofs(slice(start, start + SLICE))
    proofs_s = time.perf_counter() - started
    memory_mb = peak_memory_mb()
    ours = f"{tree_s:8.1f} s     {proofs_s:8.1f} s     {memory_mb:8,.0f} MB"

    with tempfile.TemporaryDirectory(prefix="bridge-bench-") as name:
        directory = Path(name) / "claims"
        started = time.perf_counter()
        publish(claims, directory)
        files_s = time.perf_counter() - started
        size_mb = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6
        assert lookup(directory, entries[0][0]) == claims.claim(entries[0][0])
        files = f"files   {files_s:.1f} s for {size_mb:,.0f} MB on the disk; peak memory {peak_memory_mb():,.0f} MB"

    [theirs] = make_trees(CHAIN_ID, CONTRACT, TOKEN, entries, proofs=min(leaves, THEIR_PROOFS), counts=[leaves])
    assert theirs.root == claims.root, "the roots differ"
    for (account, _), proof in zip(entries, theirs.proofs, strict=False):
        assert list(claims.claim(account).proof) == proof, f"the proofs of 0x{account.hex()} differ"
    their_proofs_s = theirs.proofs_s * leaves / len(theirs.proofs)

    print("                    tree       all proofs      peak memory")
    print(f"ours          {ours}")
    print(f"OpenZeppelin  {theirs.tree_s:8.1f} s     {their_proofs_s:8.1f} s     {theirs.memory_mb:8,.0f} MB")
    print(f"ratio         {theirs.tree_s / tree_s:8.1f} ×     {their_proofs_s / proofs_s:8.1f} ×")
    print(files)
    print(
        f"the roots agree, and so do {len(theirs.proofs):,} proofs; OpenZeppelin's time for all is reckoned from these"
    )


def peak_memory_mb() -> float:
    """Of this process, with its input."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # bytes there, kB elsewhere


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    arguments = parser.parse_args()
    if arguments.leaves < 2:
        parser.error("--leaves: a tree has at least 2")
    run(arguments.leaves)
