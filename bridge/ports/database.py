"""One transaction over all stores, and where it comes from."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from bridge.ports.book_stores import AuditStore, BookingStore, BreakStore, CorrectionStore, LedgerStore, SealStore
from bridge.ports.flow_stores import (
    ChainStore,
    ClaimStore,
    ConfirmationStore,
    DecisionStore,
    EventStore,
    InterventionStore,
    PayoutStore,
)
from bridge.ports.report_stores import ReportStore, StoryStore
from bridge.ports.running import DeadLetterStore, JobStore, Lease


class Transaction(Protocol):
    """One database transaction; it commits when the block that opened it ends."""

    @property
    def chains(self) -> ChainStore: ...
    @property
    def events(self) -> EventStore: ...
    @property
    def decisions(self) -> DecisionStore: ...
    @property
    def payouts(self) -> PayoutStore: ...
    @property
    def claims(self) -> ClaimStore: ...
    @property
    def interventions(self) -> InterventionStore: ...
    @property
    def confirmations(self) -> ConfirmationStore: ...
    @property
    def bookings(self) -> BookingStore: ...
    @property
    def ledger(self) -> LedgerStore: ...
    @property
    def corrections(self) -> CorrectionStore: ...
    @property
    def seals(self) -> SealStore: ...
    @property
    def jobs(self) -> JobStore: ...
    @property
    def audits(self) -> AuditStore: ...
    @property
    def breaks(self) -> BreakStore: ...
    @property
    def dead_letters(self) -> DeadLetterStore: ...
    @property
    def reports(self) -> ReportStore: ...
    @property
    def stories(self) -> StoryStore: ...


class Database(Protocol):
    def begin(self, lease: Lease | None = None) -> AbstractAsyncContextManager[Transaction]:
        """Read and write; raises LeaseLost where `lease` is not the newest epoch."""

    def snapshot(self) -> AbstractAsyncContextManager[Transaction]:
        """Read only; every statement sees the same moment."""
