"""What stands between a proposal and its money on the fake distributor, as in contracts/src/ProposalGate.sol.

propose ─► waits for approval and delay ─► approved ─► expired ─► approved again …       veto: never, from here on
   └─ under the auto-limit: open at once
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.domain.payouts import ActionKind, Refusal
from bridge.domain.units import UINT256_MAX, Address

APPROVE, VETO = "approve", "veto"
APPROVER, GUARDIAN = Address(b"\x0a" * 20), Address(b"\x0b" * 20)


class Done(Protocol):
    """A transaction that succeeded, in the order of blocks."""

    @property
    def payload(self) -> bytes: ...
    @property
    def timestamp(self) -> int: ...  # of its block


@dataclass(frozen=True, slots=True)
class Gate:
    """Who opens and shuts it, and when it opens by itself."""

    approver: Address = APPROVER
    guardian: Address = GUARDIAN
    auto_limit: int = UINT256_MAX  # atoms; a proposal of more waits
    delay_s: int = 0
    lifetime_s: int = 86_400  # of an approval

    def refusal(self, account: Address, call: Mapping[str, Any], before: Sequence[Done], now: int) -> Refusal | None:
        """Why the gate lets `call` of `account` not through at second `now`, in the words of chains/evm; or None."""
        kind = call.get("call")
        if kind not in (ActionKind.PROPOSE, ActionKind.EXECUTE, APPROVE, VETO):
            return None
        door = self._door(call["id"], before)
        if door.vetoed:
            return Refusal(f"vetoed by the guardian: 0x{call['id']}", temporary=False)
        if kind == ActionKind.EXECUTE and door.ready_at is not None:
            return door.shut(call["id"], now)
        proposed = door.content == call.get("content") and not door.done
        if kind == APPROVE and not (account == self.approver and proposed):
            return Refusal("would revert", temporary=True)
        if kind == VETO and not (account == self.guardian and not door.done):
            return Refusal("would revert", temporary=True)
        return None

    def _door(self, distribution_id: str, before: Sequence[Done]) -> _Door:
        door = _Door()
        for one in before:
            call = json.loads(one.payload)
            if call.get("id") != distribution_id:
                continue
            match call["call"]:
                case ActionKind.PROPOSE:
                    at_once = int(call["total"]) <= self.auto_limit
                    door.ready_at = one.timestamp + (0 if at_once else self.delay_s)
                    door.expires_at = UINT256_MAX if at_once else None
                    door.content, door.batches_left = call["content"], call["batches"]
                case ActionKind.EXECUTE:
                    door.batches_left -= 1
                case "approve":
                    door.expires_at = max(door.expires_at or 0, one.timestamp + self.lifetime_s)
                case "veto":
                    door.vetoed = True
        return door


@dataclass(slots=True)
class _Door:
    """The gate of one proposal; seconds."""

    ready_at: int | None = None  # None: nothing was proposed
    expires_at: int | None = None  # None: not approved
    content: str | None = None
    batches_left: int = 0
    vetoed: bool = False

    @property
    def done(self) -> bool:
        return self.ready_at is not None and self.batches_left <= 0

    def shut(self, distribution_id: str, now: int) -> Refusal | None:
        assert self.ready_at is not None
        reason = None
        if self.expires_at is None:
            reason = f"waits for approval of 0x{distribution_id}"
        elif now < self.ready_at:
            reason = f"waits until {self.ready_at}"
        elif now >= self.expires_at:
            reason = f"waits for a new approval of 0x{distribution_id}, the last one expired at {self.expires_at}"
        return None if reason is None else Refusal(reason, temporary=True)
