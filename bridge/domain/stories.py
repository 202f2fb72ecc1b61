"""One payout's whole story, from the logs that caused it to the rows that book it.

source logs ─► rule, inputs, guardrails ─► split ─► distribution ─► steps: nonce, attempts, transitions ─► journals
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.domain.events import Log
from bridge.domain.ledger import Asset
from bridge.domain.payouts import Leg
from bridge.domain.reports.report import Amount


@dataclass(frozen=True, slots=True)
class Match:
    """Something that an id, or the beginning of one, names."""

    kind: str  # decision, distribution, transaction
    id: bytes
    decision_id: bytes


# ── Facts: rows as the store reads them ─────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class DecisionFact:
    decision_id: bytes
    chain: str
    rule: str
    version: int
    content_hash: bytes  # of the rule's text
    asset: str
    window_start: int  # half-open, seconds
    window_end: int
    block_number: int
    block_hash: bytes
    verdict: str
    reason: str
    decided_at: int  # seconds
    artifact: bytes  # canonical JSON


@dataclass(frozen=True, slots=True)
class ShareFact:
    recipient: bytes
    amount: int
    carried_in: int
    batch_index: int | None  # None before it is planned
    outcome: str | None  # paid, credited, claimable; held, given_up; None while it is on its way
    held: str | None = None  # why it waits for a person


@dataclass(frozen=True, slots=True)
class Planned:
    """The distribution that the decision became."""

    distribution_id: bytes
    leg: Leg
    recipients: int
    batches: int
    content_hash: bytes
    state: str
    created_at: int


@dataclass(frozen=True, slots=True)
class SignedAttempt:
    """One signed transaction. Amounts are in the smallest unit of the chain's coin; fees are per gas."""

    tx_id: bytes
    ordinal: int
    purpose: str
    gas_limit: int
    max_fee: Amount
    priority_fee: Amount
    signed_at: int
    sent_at: int | None
    block_number: int | None
    block_hash: bytes | None
    succeeded: bool | None
    gas_used: int | None
    fee_paid: Amount | None  # all that was taken; None before it is in a block
    l1_fee: Amount  # of fee_paid: for its data on the chain below
    operator_fee: Amount  # of fee_paid: to the operator of the chain
    deposits: Amount  # beside fee_paid: left in accounts that it made
    final: bool

    @property
    def gas_fee(self) -> Amount | None:
        """What is left of fee_paid for its gas."""
        if self.fee_paid is None:
            return None
        return Amount(self.fee_paid.atoms - self.l1_fee.atoms - self.operator_fee.atoms, self.fee_paid.asset)


@dataclass(frozen=True, slots=True)
class Slot:
    account: bytes
    nonce: int | None  # None where accounts of the chain have none
    state: str
    attempts: tuple[SignedAttempt, ...]


@dataclass(frozen=True, slots=True)
class Transition:
    from_state: str
    to_state: str
    reason: str | None
    tx_id: bytes | None
    block_number: int | None
    confirmed_at: int


@dataclass(frozen=True, slots=True)
class Step:
    """One on-chain step of the distribution."""

    ordinal: int  # 0 proposes, n executes batch n − 1
    kind: str
    state: str
    reason: str | None
    target: bytes
    slots: tuple[Slot, ...]
    transitions: tuple[Transition, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger: `amount` to `debit` from `credit`."""

    debit: str
    credit: str
    amount: Amount
    phase: str


@dataclass(frozen=True, slots=True)
class JournalFact:
    journal_id: int
    source: str
    ref: str
    kind: str
    reason: str
    block_number: int
    block_hash: bytes
    entries: tuple[Entry, ...]  # none where the fact moves nothing by itself


@dataclass(frozen=True, slots=True)
class StoryFacts:
    decision: DecisionFact
    asset: Asset
    shares: tuple[ShareFact, ...]
    distribution: Planned | None
    steps: tuple[Step, ...]


# ── The story ───────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class SourceLog:
    log: Log
    fields: Mapping[str, str]  # decoded, in the order of declaration; integers in full


@dataclass(frozen=True, slots=True)
class SourceEvents:
    """The logs of one kind that the decision counted."""

    name: str  # as the rule calls them
    contracts: tuple[str, ...]
    declaration: str
    where: str | None  # the rule's condition on them
    count: int  # as the decision recorded it
    logs: tuple[SourceLog, ...]  # those that are shown: of this kind, from the first counted to the last


@dataclass(frozen=True, slots=True)
class Share:
    recipient: bytes
    amount: Amount
    carried_in: Amount
    weight: str | None  # digits, of weights_total; None where the rule's split has no weights
    weights_total: str | None
    batch_index: int | None
    outcome: str | None
    held: str | None  # why it waits for a person


@dataclass(frozen=True, slots=True)
class Story:
    asked: Match
    decision: DecisionFact
    artifact: Mapping[str, Any]  # the decision's own record of its inputs, guardrails and results
    total: Amount
    sources: tuple[SourceEvents, ...]
    shares: tuple[Share, ...]  # of the recipient that was asked for, or all
    distribution: Planned | None
    steps: tuple[Step, ...]
    journals: tuple[JournalFact, ...]
