"""Proofs over HTTP: from real files, through a real socket, and what is answered to everything else."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from bridge.chains.evm.claim_folder import ClaimFolder
from bridge.chains.evm.claim_plan import plan_tree
from bridge.chains.evm.claims import Claim, verify_claim
from bridge.domain.errors import HoldError, RetryableError
from bridge.domain.payouts import Distribution, Order, Payout
from bridge.domain.units import Address, AssetId
from bridge.http.claims import ClaimRoutes

CHAIN_ID, CONTRACT, TOKEN = 7, Address(b"\xcc" * 20), Address(b"\xaa" * 20)
LEAVES = tuple(Payout(Address(bytes([n]) * 20), n * 10**18) for n in range(1, 101))
STRANGER = "0x" + "ee" * 20


def tree() -> Distribution:
    asset = AssetId(f"eip155:{CHAIN_ID}/erc20:0x{TOKEN.hex()}")
    order = Order(b"\x01" * 32, "evm", "fees", asset, 0, 60, sum(leaf.amount for leaf in LEAVES), LEAVES)
    distribution, _ = plan_tree(order, LEAVES, chain_id=CHAIN_ID, contract=CONTRACT, uri=None)
    return distribution


@pytest.fixture
def folder(tmp_path: Path) -> ClaimFolder:
    folder = ClaimFolder(tmp_path / "claims", chain_id=CHAIN_ID, contract=CONTRACT)
    folder.publish(tree(), LEAVES)
    return folder


@contextlib.asynccontextmanager
async def served(folder: ClaimFolder) -> AsyncIterator[aiohttp.ClientSession]:
    other = ClaimFolder(folder._folder / "of another chain", chain_id=8, contract=CONTRACT)
    runner = web.AppRunner(ClaimRoutes([other, folder]).application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as http:
            yield http
    finally:
        await runner.cleanup()


async def get(http: aiohttp.ClientSession, path: str) -> tuple[int, Any]:
    async with http.get(path) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert ("immutable" in answer.headers.get("Cache-Control", "")) == (answer.status == 200)
        return answer.status, json.loads(await answer.read())


async def test_get__account_in_the_set__its_proof_leads_to_the_root(folder: ClaimFolder):
    distribution = tree()
    async with served(folder) as http:
        path = f"/claims/0x{distribution.distribution_id.hex()}"
        _, index = await get(http, f"{path}/")
        for leaf in (LEAVES[0], LEAVES[42], LEAVES[-1]):
            status, found = await get(http, f"{path}/0x{leaf.recipient.hex().upper()}")
            assert status == 200
            assert (found["cumulative"], found["root"]) == (str(leaf.amount), index["root"])
            proof = tuple(bytes.fromhex(sibling[2:]) for sibling in found["proof"])
            claim = Claim(leaf.recipient, int(found["cumulative"]), proof)
            assert verify_claim(CHAIN_ID, CONTRACT, TOKEN, claim, bytes.fromhex(found["root"][2:]))


async def test_get__static_files__as_they_are_on_the_disk(folder: ClaimFolder):
    distribution = tree()
    found = folder.find(distribution.distribution_id)
    assert found is not None
    files = sorted(path.relative_to(found).as_posix() for path in found.rglob("*") if path.is_file())
    assert {"index.json", "claims.parquet", "proofs/0.json"} <= set(files)
    async with served(folder) as http:
        for file in files:
            async with http.get(f"/claims/0x{distribution.distribution_id.hex()}/{file}") as answer:
                assert (answer.status, await answer.read()) == (200, (found / file).read_bytes())


@pytest.mark.parametrize(
    ("path", "status", "problem"),
    [
        ("/claims/ID/" + STRANGER, 404, f"{STRANGER} has nothing to claim"),
        ("/claims/ID/0x1234", 400, "is no address"),
        ("/claims/ID/0x" + "zz" * 20, 400, "is no address"),
        ("/claims/0x" + "11" * 32 + "/" + STRANGER, 404, "no claim set is published"),
        ("/claims/0x" + "11" * 32 + "/", 404, "no claim set is published"),
        ("/claims/0x1234/", 400, "64 hex digits"),
        ("/claims/ID/secrets.json", 404, "no such file"),
        ("/claims/ID/proofs/..%2f..%2findex.json", 404, "no such file"),
        ("/claims/ID/proofs/ffffffff.json", 404, "no such file"),
        ("/elsewhere", 404, "Not Found"),
    ],
)
async def test_get__what_is_not_there__said_in_json(folder: ClaimFolder, path: str, status: int, problem: str):
    async with served(folder) as http:
        found, answer = await get(http, path.replace("ID", f"0x{tree().distribution_id.hex()}"))
        assert found == status
        assert problem in answer["error"]


async def test_get__damaged_shard__said_and_not_served_as_a_proof(folder: ClaimFolder):
    distribution = tree()
    found = folder.find(distribution.distribution_id)
    assert found is not None
    shard = found / "proofs" / f"{LEAVES[0].recipient.hex()[:1]}.json"
    shard.write_bytes(shard.read_bytes().replace(b'"cumulative":"1', b'"cumulative":"9', 1))
    async with served(folder) as http:
        status, answer = await get(http, f"/claims/0x{distribution.distribution_id.hex()}/0x{'01' * 20}")
    assert status == 503
    assert "does not lead to the root" in answer["error"]


def test_publish__other_leaves_than_were_planned__held(folder: ClaimFolder):
    with pytest.raises(HoldError, match="another tree"):
        folder.publish(tree(), LEAVES[1:])


def test_publish__place_is_taken__tried_again_until_a_person_looked(tmp_path: Path):
    folder = ClaimFolder(tmp_path, chain_id=CHAIN_ID, contract=CONTRACT)
    (tmp_path / f"0x{tree().distribution_id.hex()}").write_text("something else")
    with pytest.raises(RetryableError, match="cannot be published"):
        folder.publish(tree(), LEAVES)
    (tmp_path / f"0x{tree().distribution_id.hex()}").unlink()
    folder.publish(tree(), LEAVES)
    folder.publish(tree(), LEAVES)  # again: nothing happens
    assert folder.is_published(tree().distribution_id)
