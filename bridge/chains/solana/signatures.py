"""The transactions that name an account: nodes tell them newest first, in pages.

list_hits: of some slots, all of them, handed on oldest first

    after          complete_through      through            newest page
──────┼─────────────────┼───────────────────┼───────────────────►
      └─ hits, oldest first ─┘ dropped: too many to hold, found again later
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bridge.chains.solana import rpc
from bridge.chains.solana.blocks import Ask
from bridge.chains.solana.rpc import FINALIZED, UNKNOWN_CURSOR, RpcRefused
from bridge.domain.errors import ChainDisagrees, ChainUnavailable
from bridge.domain.units import Address

PAGE = 1000  # the most that nodes give at once
PAGES_MAX = 100_000
HELD_MAX = 100_000  # hits of one account in memory: about 20 MB


@dataclass(frozen=True, slots=True)
class Hit:
    """A finalized transaction that names the account."""

    slot: int
    signature: bytes
    failed: bool
    memo: str  # as the node tells it; empty where there is none, or where it keeps none


@dataclass(frozen=True, slots=True)
class Listing:
    """All hits of slots after … complete_through, oldest slot first; within a slot in no order."""

    hits: tuple[Hit, ...]
    complete_through: int


async def list_hits(ask: Ask, account: Address, *, after: int, through: int, until: bytes | None = None) -> Listing:
    """Hits of slots after + 1 … through, in as many pages as it takes.

    `until`: a hit of slot `after` or before, where one is known, so that no page goes further back. A node that has
    forgotten it is asked without it, which does no harm. The answer is of a state not older than `through`, or refused.

    Raises RpcRefused, ChainUnavailable, and ChainDisagrees for pages that do not fit together.
    """
    held: deque[Hit] = deque(maxlen=HELD_MAX)
    dropped = False
    seen: set[bytes] = set()  # of the slot that the pages have come to
    options: dict[str, Any] = {**FINALIZED, "limit": PAGE, "minContextSlot": through}
    if until is not None:
        options["until"] = rpc.text(until)
    slot = rpc.U64_MAX
    for _ in range(PAGES_MAX):
        try:
            hits = _parse(await ask("getSignaturesForAddress", [rpc.text(account), options]))
        except RpcRefused as refused:
            if refused.code != UNKNOWN_CURSOR or options.pop("until", None) is None:
                raise
            continue
        for hit in hits:
            if hit.slot > slot:
                raise ChainDisagrees("the endpoint lists transactions out of order")
            if hit.slot < slot:
                seen.clear()
            if hit.signature in seen:
                raise ChainDisagrees("the endpoint lists a transaction twice")
            slot = hit.slot
            seen.add(hit.signature)
            if slot <= after:
                break
            if slot <= through:
                dropped = dropped or len(held) == HELD_MAX
                held.append(hit)
        if not hits or slot <= after:
            complete = held[0].slot - 1 if dropped else through
            return Listing(tuple(hit for hit in reversed(held) if hit.slot <= complete), complete)
        options["before"] = rpc.text(hits[-1].signature)
    raise ChainUnavailable(f"more than {PAGES_MAX * PAGE} transactions of one account")


async def newest_hits(ask: Ask, account: Address, pages_max: int) -> list[Hit]:
    """Hits of all slots, newest first. Of more than fit so many pages the oldest are left out.

    Raises as `ask` does, and ChainDisagrees.
    """
    found: list[Hit] = []
    options: dict[str, Any] = {**FINALIZED, "limit": PAGE}
    for _ in range(pages_max):
        hits = _parse(await ask("getSignaturesForAddress", [rpc.text(account), options]))
        found += hits
        if len(hits) < PAGE:
            break
        options["before"] = rpc.text(hits[-1].signature)
    return found


def _parse(page: object) -> Sequence[Hit]:
    if not isinstance(page, list) or len(page) > PAGE:
        raise ChainDisagrees("the endpoint sent something that is no page of signatures")
    return [
        Hit(
            slot=rpc.number(entry.get("slot")),
            signature=rpc.signature(entry.get("signature")),
            failed=entry.get("err") is not None,
            memo=str(entry.get("memo") or ""),
        )
        for entry in map(rpc.mapping, page)
    ]
