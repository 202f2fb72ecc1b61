"""Dead man's rules: what calls for a person although every stage runs.

Each condition has a name, and lasts until its cause is gone; none is ever set or cleared by hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ConditionName(StrEnum):
    LOW_GAS_BALANCE = "low_gas_balance"  # the sending account holds less than it should
    NOT_INCLUDED = "not_included"  # a transaction is in no block within its time
    QUARANTINE = "quarantine"  # a nonce was spent by a transaction that nobody here signed
    UNEXPECTED_OUTFLOW = "unexpected_outflow"  # money left without our intent, and nobody has explained it
    BROKEN_SEAL = "broken_seal"  # the books are not as they were sealed


@dataclass(frozen=True, slots=True)
class Condition:
    name: ConditionName
    chain: str
    subject: str
    since: datetime  # database time
    detail: str
