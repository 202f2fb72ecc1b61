"""Switches that make a node behave badly, so that its clients can be tested.

A `Fault` meets single requests: the first one in the list that fits a request takes it. The other switches are states
of the node that last until they are set back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from bridge.domain.errors import ConfigError

ANY = "*"


class Kind(StrEnum):
    """What a fault does to a request."""

    ERROR = "error"  # answers with `code` and `message` and does nothing
    RATE_LIMIT = "rate_limit"  # HTTP 429 with Retry-After: `retry_after_s`
    HANG = "hang"  # does nothing and never answers: the client has to give up
    CLOSE = "close"  # does nothing and closes the connection
    LOSE_ANSWER = "lose_answer"  # does it and closes the connection instead of answering
    SLOW = "slow"  # does it `delay_ms` later
    GARBAGE = "garbage"  # answers with what is no JSON


@dataclass(slots=True)
class Fault:
    """Meets requests for `method` (`*`: any), `remaining` times (None: until removed), each with chance `per_mille`."""

    kind: Kind
    method: str = ANY
    remaining: int | None = 1
    per_mille: int = 1000
    code: int = -32603
    message: str = "Internal error"
    data: Any = None
    retry_after_s: int = 1
    delay_ms: int = 1000

    def check(self) -> None:
        """Raises ConfigError for a value that makes no sense."""
        if self.remaining is not None and self.remaining < 1:
            raise ConfigError("a fault must happen once or more", where="remaining")
        if not 1 <= self.per_mille <= 1000:
            raise ConfigError("a chance must be 1 … 1000 per mille", where="per_mille")
        if not 0 <= self.retry_after_s <= 3600:
            raise ConfigError("must be 0 … 3600 seconds", where="retry_after_s")
        if not 0 <= self.delay_ms <= 3_600_000:
            raise ConfigError("must be 0 … 3600000 ms", where="delay_ms")


@dataclass(slots=True)
class Faults:
    """All switches of one node."""

    requests: list[Fault] = field(default_factory=list)
    drop_next: int = 0  # sendTransaction answers as always, but so many transactions get lost on their way
    drop_per_mille: int = 0  # the same by chance
    delay_slots: int = 0  # transactions land so many slots later than they would
    lag_blocks: int = 0  # the node sees the chain as it was so many blocks ago; what is sent still gets through
    unhealthy: bool = False  # getHealth and preflights say so
    forgotten_before_slot: int = 0  # transactions and blocks before are gone from this node
    no_history: bool = False  # the node keeps no transactions at all
    archive: bool = False  # a slot without a block is told as nodes with an archive tell it
    strict_cursors: bool = False  # an unknown `before` or `until` is refused, as newer releases of Agave do it
    unwritten_blocks: int = 0  # the newest so many blocks are there, their transactions not written yet
    withhold_notifications: bool = False  # WebSockets stay open, but nothing is told, then or later
    refuse_sockets: bool = False  # no new WebSocket is let in

    def take(self, method: str, chance: random.Random) -> Fault | None:
        """The fault that meets a request for this method; it is used up by one."""
        for fault in self.requests:
            if fault.method in {ANY, method} and (fault.per_mille == 1000 or chance.randrange(1000) < fault.per_mille):
                if fault.remaining is not None:
                    fault.remaining -= 1
                    if fault.remaining == 0:
                        self.requests.remove(fault)
                return fault
        return None

    def drops(self, chance: random.Random) -> bool:
        """Whether a transaction that was just sent gets lost."""
        if self.drop_next > 0:
            self.drop_next -= 1
            return True
        return self.drop_per_mille > 0 and chance.randrange(1000) < self.drop_per_mille

    def clear(self) -> None:
        """Behave well again."""
        for switch, value in zip(fields(self), fields_of(Faults()), strict=True):
            setattr(self, switch.name, value)


def fields_of(faults: Faults) -> list[Any]:
    """The values of all switches in their order."""
    return [getattr(faults, switch.name) for switch in fields(faults)]
