"""Orders to a node from outside its process, by whoever knows its secret path: POST {"do": …, …}.

{"do": "advance", "slots": 3}                        let slots pass                         → the slots with a block
{"do": "fork", "depth": 2, "fate": "relanded"}       replace the newest blocks              → signatures in them
{"do": "fault", "kind": "error", "method": "getSlot", "code": -32005, "remaining": 2}        see faults.py
{"do": "set", "lag_blocks": 3, "drop_next": 1}       set switches                           → all switches
{"do": "clear"}                                      behave well again
{"do": "close_sockets"}                              close all WebSockets
{"do": "endow", "account": "…", "lamports": 5}       put lamports there
{"do": "state"}                                      where the chain stands
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from solders.account import Account
from solders.pubkey import Pubkey

from bridge.domain.errors import RefusedError
from bridge.simulation.svm.chain import Chain, Commitment, Fate
from bridge.simulation.svm.faults import Fault, Faults, Kind
from bridge.simulation.svm.machine import SYSTEM_PROGRAM

ADVANCE_MAX = 10_000

Order = Mapping[str, Any]


class Control:
    """What orders to one node do."""

    def __init__(self, chain: Chain, faults: Faults) -> None:
        self.path = f"/{secrets.token_urlsafe(16)}/control"
        self.close_sockets: Callable[[], Awaitable[None]] | None = None
        self._chain = chain
        self._faults = faults
        self._orders: dict[str, Callable[[Order], Any]] = {
            "advance": self._advance,
            "fork": self._fork,
            "fault": self._fault,
            "set": self._set,
            "clear": self._clear,
            "endow": self._endow,
            "state": self._state,
        }

    async def obey(self, order: Any) -> Any:
        """Do it. Raises RefusedError for an order that makes no sense."""
        if not isinstance(order, dict):
            raise RefusedError("an order is an object")
        if order.get("do") == "close_sockets":
            if self.close_sockets is not None:
                await self.close_sockets()
            return None
        if order.get("do") not in self._orders:
            raise RefusedError(f"unknown order: {order.get('do')}; there are {', '.join(self._orders)}, close_sockets")
        try:
            return self._orders[order["do"]](order)
        except (KeyError, ValueError, TypeError) as error:
            raise RefusedError(f"{order['do']}: {error}") from None

    def _advance(self, order: Order) -> list[int]:
        slots = order.get("slots", 1)
        if not 1 <= slots <= ADVANCE_MAX:
            raise RefusedError(f"1 … {ADVANCE_MAX} slots can pass at once")
        return [block.slot for block in self._chain.advance(slots)]

    def _fork(self, order: Order) -> list[str]:
        dead = self._chain.fork(order["depth"], Fate(order.get("fate", Fate.DROPPED.value)))
        return [record.signature for record in dead]

    def _fault(self, order: Order) -> None:
        members = {name: value for name, value in order.items() if name != "do"}
        fault = Fault(**{**members, "kind": Kind(order["kind"])})
        fault.check()
        self._faults.requests.append(fault)

    def _set(self, order: Order) -> dict[str, Any]:
        switches = {switch.name: getattr(self._faults, switch.name) for switch in fields(self._faults)}
        for name, value in order.items():
            if name in {"do", "requests"}:
                continue
            if name not in switches or type(value) is not type(switches[name]):
                raise RefusedError(f"no such switch, or not such a value: {name} = {value!r}")
            setattr(self._faults, name, value)
        return asdict(self._faults)

    def _clear(self, _: Order) -> None:
        self._faults.clear()

    def _endow(self, order: Order) -> None:
        key = Pubkey.from_string(order["account"])
        self._chain.endow(key, Account(int(order["lamports"]), b"", SYSTEM_PROGRAM))

    def _state(self, _: Order) -> dict[str, Any]:
        newest = {commitment.value: self._chain.newest(commitment).slot for commitment in Commitment}
        return {**newest, "next_slot": self._chain.next_slot, "transactions": self._chain.landed}
