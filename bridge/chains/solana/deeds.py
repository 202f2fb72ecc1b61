"""What finalized blocks say that we did: markers, and the transactions that created them.

An account that exists says that something was done, not what. The transaction that created it does: it is among those
that name the address, and anyone may add to these, by sending lamports there. So all are listed, and those whose memo
reads like ours are looked at first.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from bridge.chains.jsonrpc import Endpoint
from bridge.chains.solana import rpc as values
from bridge.chains.solana.accounts import read_account
from bridge.chains.solana.markers import MARKER_OWNER, MEMO_START, Deed, marker_of, read_deed
from bridge.chains.solana.rpc import FINALIZED, SolanaRpc
from bridge.chains.solana.signatures import newest_hits
from bridge.chains.solana.transactions import OPTIONS, parse_transaction
from bridge.domain.errors import ChainDisagrees
from bridge.domain.units import Address, BlockStamp

PAGES_MAX = 20
OTHERS_MAX = 200
"""Transactions without a memo of ours that are looked at: nodes that index no memos name none."""

KNOWN_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Done:
    """A deed on chain. `slot` is that of the transaction that created its marker."""

    deed: Deed
    slot: int
    tx_id: bytes


class Deeds:
    """The deeds of `operators`: ours, and those whose keys were used before."""

    def __init__(self, rpc: SolanaRpc, operators: Collection[Address]) -> None:
        self._rpc = rpc
        self._operators = tuple(operators)
        self._known: dict[Address, Done] = {}  # by marker; what is final stays so

    async def find(self, distribution_id: bytes, index: int | None, at: BlockStamp) -> Done | None:
        """What was done about the batch (None: the proposal) by the end of final block `at`.

        As two endpoints say alike, where there are two. Raises ChainDisagrees where the marker is there, but not the
        transaction that made it; and ChainUnavailable.
        """
        for operator in self._operators:
            marker = marker_of(operator, distribution_id, index)
            done = self._known.get(marker)
            if done is None and await self._exists(marker, at.number):
                done = await self._creation(marker, operator)
                if len(self._known) >= KNOWN_MAX:
                    self._known.clear()
                self._known[marker] = done
            if done is not None and done.slot <= at.number:
                return done
        return None

    async def pending(self, distribution_id: bytes, index: int | None) -> bool:
        """Whether an endpoint has the marker in a block that may not be final. Raises ChainUnavailable."""
        for operator in self._operators:
            marker = marker_of(operator, distribution_id, index)
            config = {"encoding": "base64", "commitment": "processed"}
            for answer in await self._rpc.call_on_each("getAccountInfo", [values.text(marker), config]):
                account = None if answer.error else read_account(values.in_context(answer.result)[1])
                if account is not None and account.owner == MARKER_OWNER:
                    return True
        return False

    async def _exists(self, marker: Address, slot: int) -> bool:
        config = {"encoding": "base64", "minContextSlot": slot, **FINALIZED}

        def read(answer: Any) -> bool:
            _, value = values.in_context(answer)
            account = read_account(value)
            return account is not None and account.owner == MARKER_OWNER

        return await self._rpc.agreed("getAccountInfo", [values.text(marker), config], read)

    async def _creation(self, marker: Address, operator: Address) -> Done:
        async def ask(endpoint: Endpoint) -> Done:
            hits = await newest_hits(partial(self._rpc.call_on, endpoint), marker, PAGES_MAX)
            named = [hit for hit in reversed(hits) if not hit.failed]  # the oldest one is likeliest to have made it
            likely = [hit.signature for hit in named if MEMO_START in hit.memo]
            others = [hit.signature for hit in named if MEMO_START not in hit.memo]
            for tx_id in [*likely, *others[:OTHERS_MAX]]:
                answer = await self._rpc.call_on(endpoint, "getTransaction", [values.text(tx_id), OPTIONS])
                if answer is None:
                    continue  # an endpoint that forgets: another may know, or none
                transaction = parse_transaction(answer, tx_id)
                done = read_deed(transaction.steps, [operator]) if transaction.succeeded else None
                if done is not None and marker_of(operator, done[1].distribution_id, done[1].index) == marker:
                    return Done(done[1], transaction.slot, tx_id)
            raise ChainDisagrees(
                f"{endpoint.name} has the account {values.text(marker)}, but no transaction that created it"
            )

        return await self._rpc.agreed_by(ask, "getSignaturesForAddress")
