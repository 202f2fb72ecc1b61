"""Notifications over WebSocket.

Each subscription remembers the slot up to which it has told (`seen`). After every block it looks at the blocks that
have reached its commitment since. Slots are never used twice, so after a fork exactly the new fork's blocks are above
it: what was told of a dead fork is not taken back, as on a real node.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from bridge.simulation.svm.chain import Block, Commitment
from bridge.simulation.svm.encodings import encode_account
from bridge.simulation.svm.parameters import Config, Parameters, key_of
from bridge.simulation.svm.records import Record
from bridge.simulation.svm.refusals import invalid_params, method_not_found
from bridge.simulation.svm.transactions import signature_of
from bridge.simulation.svm.view import View, with_context

QUEUE_MAX = 10_000


class Outbox:
    """What waits to be sent to one client. A client that does not read is cut off, as a node does it."""

    def __init__(self) -> None:
        self._texts: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_MAX)
        self.overflown = False

    def put(self, message: dict[str, Any]) -> None:
        """Let a message wait, or cut the client off."""
        try:
            self._texts.put_nowait(orjson.dumps(message))
        except asyncio.QueueFull:
            self.overflown = True

    async def get(self) -> bytes:
        """The next message."""
        return await self._texts.get()


@dataclass(slots=True)
class Subscription:
    """One client's wish. `tell` is called with the blocks that newly reached `commitment`; true: it is fulfilled."""

    number: int
    kind: str
    outbox: Outbox
    commitment: Commitment
    seen: int  # slot
    tell: Callable[[Subscription, list[Block]], bool]


class Subscriptions:
    """All subscriptions of one node."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._numbers = itertools.count(1)
        self._live: dict[int, Subscription] = {}
        self._kinds: dict[str, Callable[[Parameters], tuple[Commitment, Callable[..., bool]]]] = {
            "account": self._account,
            "logs": self._logs,
            "signature": self._signature,
            "slot": self._slot,
            "root": self._root,
        }
        view.chain.watchers.append(self.after_block)

    def close(self) -> None:
        """Watch no longer."""
        self._view.chain.watchers.remove(self.after_block)

    def call(self, method: str, parameters: Parameters, outbox: Outbox) -> Any:
        """`…Subscribe` gives a number, `…Unsubscribe` true. Raises RpcRefusal."""
        if method.endswith("Unsubscribe") and method.removesuffix("Unsubscribe") in self._kinds:
            subscription = self._live.get(parameters.number(0))
            if subscription is None or subscription.outbox is not outbox:
                raise invalid_params("Invalid subscription id.")
            del self._live[subscription.number]
            return True
        kind = method.removesuffix("Subscribe")
        if not method.endswith("Subscribe") or kind not in self._kinds:
            raise method_not_found()
        commitment, tell = self._kinds[kind](parameters)
        seen = self._view.newest(commitment).slot
        subscription = Subscription(next(self._numbers), kind, outbox, commitment, seen, tell)
        self._live[subscription.number] = subscription
        return subscription.number

    def subscribed(self, number: int) -> None:
        """The client knows the number now: what is so already can be told."""
        subscription = self._live.get(number)
        if subscription is not None and subscription.kind == "signature" and subscription.tell(subscription, []):
            del self._live[number]

    def forget(self, outbox: Outbox) -> None:
        """A client is gone."""
        self._live = {number: live for number, live in self._live.items() if live.outbox is not outbox}

    def after_block(self) -> None:
        """Tell everybody what is new."""
        for subscription in list(self._live.values()):
            newest = self._view.newest(subscription.commitment)
            blocks: list[Block] = []
            for height in range(newest.height, self._view.chain.blocks[0].height - 1, -1):
                block = self._view.chain.at_height(height)
                if block.slot <= subscription.seen:
                    break
                blocks.append(block)
            subscription.seen = max(subscription.seen, newest.slot)
            if blocks and subscription.tell(subscription, blocks[::-1]):
                del self._live[subscription.number]

    def _account(self, parameters: Parameters) -> tuple[Commitment, Callable[..., bool]]:
        parameters.require(1)
        key, config = parameters.key(0), parameters.config(1)

        def tell(subscription: Subscription, blocks: list[Block]) -> bool:
            writing = [block for block in blocks if key in block.before]
            if writing:
                block = writing[-1]
                account = self._view.account(key, block)
                value = encode_account(account, config, lambda other: self._view.account(other, block))
                self._notify(subscription, with_context(block, value if value is not None else _EMPTY_ACCOUNT))
            return False

        encode_account(None, config, lambda _: None)  # refuses an unknown encoding now
        return config.commitment(), tell

    def _logs(self, parameters: Parameters) -> tuple[Commitment, Callable[..., bool]]:
        parameters.require(1)
        wanted, config = parameters.get(0), parameters.config(1)
        mentioned = _mentioned(wanted)

        def tell(subscription: Subscription, blocks: list[Block]) -> bool:
            for block in blocks:
                for record in block.records:
                    if mentioned is None or mentioned in {str(key) for key in record.loaded.keys}:
                        self._notify(subscription, with_context(block, _told(record)))
            return False

        return config.commitment(), tell

    def _signature(self, parameters: Parameters) -> tuple[Commitment, Callable[..., bool]]:
        parameters.require(1)
        signature, config = signature_of(parameters.text(0)), parameters.config(1)

        def tell(subscription: Subscription, _: list[Block]) -> bool:
            record = self._view.record(signature)
            newest = self._view.newest(subscription.commitment)
            if record is None or record.slot > newest.slot:
                return False
            block = self._view.chain.at_slot(record.slot)
            assert block is not None, "a record's block is kept as long as the record"
            self._notify(subscription, with_context(block, {"err": record.err}))
            return True

        return config.commitment(), tell

    def _slot(self, _: Parameters) -> tuple[Commitment, Callable[..., bool]]:
        def tell(subscription: Subscription, blocks: list[Block]) -> bool:
            root = self._view.newest(Commitment.FINALIZED).slot
            for block in blocks:
                self._notify(subscription, {"parent": block.parent_slot, "root": root, "slot": block.slot})
            return False

        return Commitment.PROCESSED, tell

    def _root(self, _: Parameters) -> tuple[Commitment, Callable[..., bool]]:
        def tell(subscription: Subscription, blocks: list[Block]) -> bool:
            for block in blocks:
                self._notify(subscription, block.slot)
            return False

        return Commitment.FINALIZED, tell

    def _notify(self, subscription: Subscription, result: Any) -> None:
        if self._view.faults.withhold_notifications:
            return  # lost for good: the client is not told later either
        subscription.outbox.put(
            {
                "jsonrpc": "2.0",
                "method": f"{subscription.kind}Notification",
                "params": {"result": result, "subscription": subscription.number},
            }
        )


_EMPTY_ACCOUNT = {
    "lamports": 0,
    "data": ["", "base64"],
    "owner": "11111111111111111111111111111111",
    "executable": False,
    "rentEpoch": 0,
    "space": 0,
}


def _mentioned(wanted: Any) -> str | None:
    """The account that is watched; None: all transactions. Raises RpcRefusal."""
    if wanted in {"all", "allWithVotes"} if isinstance(wanted, str) else False:
        return None
    mentions = Config(wanted).get("mentions") if isinstance(wanted, dict) else None
    if not isinstance(mentions, list):
        raise invalid_params("Invalid params: unknown filter.")
    if len(mentions) != 1:
        raise invalid_params("Invalid Request: Only 1 address supported")
    return str(key_of(mentions[0]))


def _told(record: Record) -> dict[str, Any]:
    return {"signature": record.signature, "err": record.err, "logs": record.meta["logMessages"]}
