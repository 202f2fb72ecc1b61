"""Claims in everybody's name what trees give them, with the proofs that the daemon serves.

    newest final claim distribution ─► GET /claims/ID/ACCOUNT ─► claim(account, token, cumulative, proof) ─► next block

Anyone may claim for an account, which gets the money. So one wallet, which takes no part in the traffic, can do it for
all, and nothing of the traffic depends on when it does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp

from bridge.domain.errors import RetryableError
from bridge.domain.units import Address, format_address, hexed
from bridge.simulation.anvil import Anvil
from bridge.simulation.deploy import Deployment


class Claimant:
    """`log` is the daemon's: it says where it serves."""

    def __init__(self, anvil: Anvil, deployment: Deployment, log: Path) -> None:
        self._anvil = anvil
        self._claims = deployment.claims
        self._wallet = deployment.claimant
        self._log = log

    async def claim(self, distribution_id: bytes, accounts: Sequence[Address]) -> int:
        """Send a claim for each of `accounts` that has not had all that the tree of `distribution_id` gives it.

        They are in the next block, or lost with it. Returns how many there were; none is left when there are none.
        """
        self._wallet.nonce = int(
            await self._anvil.call("eth_getTransactionCount", hexed(self._wallet.address), "latest"), 16
        )
        sent = 0
        async with aiohttp.ClientSession() as http:
            for account in accounts:
                proof = await self._proof(http, distribution_id, account)
                if proof is None or await self._claimed(proof["token"], account) >= int(proof["cumulative"]):
                    continue
                siblings = [bytes.fromhex(sibling[2:]) for sibling in proof["proof"]]
                call = self._claims.call(
                    "claim", format_address(account), proof["token"], int(proof["cumulative"]), siblings
                )
                await self._anvil.call("eth_sendRawTransaction", hexed(self._wallet.sign(self._claims.address, call)))
                sent += 1
        return sent

    async def _proof(
        self, http: aiohttp.ClientSession, distribution_id: bytes, account: Address
    ) -> dict[str, Any] | None:
        """None where the tree has nothing for the account. Raises RetryableError where the daemon does not say."""
        url = f"http://{self._address()}/claims/{hexed(distribution_id)}/{format_address(account)}"
        try:
            async with http.get(url) as answer:
                found: dict[str, Any] = await answer.json()
                if answer.status == 200:
                    return found
                if answer.status == 404 and "nothing to claim" in found["error"]:
                    return None
        except (aiohttp.ClientError, ValueError) as error:
            raise RetryableError(f"the daemon does not serve proofs at {url}: {error!r}") from error
        raise RetryableError(f"the daemon has no proof at {url}: {found}")

    def _address(self) -> str:
        """Where the daemon that was started last serves."""
        for line in reversed(self._log.read_text(errors="replace").splitlines()):
            if '"http.listening"' in line:
                said = json.loads(line)
                return f"{said['host']}:{said['port']}"
        raise RetryableError(f"the daemon does not serve anything yet: {self._log}")

    async def _claimed(self, token: str, account: Address) -> int:
        return int.from_bytes(await self._anvil.view(self._claims, "claimed", token, format_address(account)))
