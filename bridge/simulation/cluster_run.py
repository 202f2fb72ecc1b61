"""What a daemon lives through on the local Solana chain, and what must come of it; alone, or beside another chain.

first window     a recipient's account is frozen: it is left out, its share is held with the reason
after it         a send gets lost; blocks with a payout are rolled back; somebody gives the vault a present
after the last   the account is thawed, and a person releases what was held
all the time     a share of SOL is too little for the fresh account that it is for: it stays held, and a person is told
"""

from __future__ import annotations

from collections.abc import Iterable

from bridge.domain.errors import RetryableError
from bridge.domain.interventions import InterventionKind
from bridge.domain.reports.wording import count_of
from bridge.domain.states import ActionState
from bridge.domain.units import format_address
from bridge.simulation.audit import audit_rule
from bridge.simulation.cluster import FORK_DEPTH, Cluster, Gift
from bridge.simulation.run import Run, unbooked
from bridge.simulation.svm.files import CHAIN
from bridge.stages.intervene import intervene
from bridge.store.database import Database
from bridge.store.summaries import Step, Summary

RELEASES = "ann (simulated)"


class ClusterRun:
    """A cluster that is being played on. `live` lets one slot pass, and what is due in it."""

    def __init__(self, cluster: Cluster, database: Database, reorgs: int) -> None:
        self.cluster = cluster
        self._database = database
        self._reorgs = reorgs
        self._dropped = False
        self._thawed_in: int | None = None  # slot
        self._released: set[int] = set()

    @property
    def gifts(self) -> list[Gift]:
        return [] if self.cluster.gift is None else [self.cluster.gift]

    async def skip_to_windows(self) -> None:
        """Nothing of this is decided, so it need not take time."""
        while self.cluster.now < self.cluster.windows_start:
            self.cluster.live()
        self.cluster.freeze(frozen=True)

    async def live(self) -> None:
        cluster = self.cluster
        cluster.live()
        elapsed = cluster.now - cluster.windows_start
        closed = elapsed >= cluster.epoch_s  # the first window
        if closed and not self._dropped:
            cluster.drop_next()
            self._dropped = True
        if cluster.gift is None and 2 * elapsed >= cluster.epochs * cluster.epoch_s:
            cluster.give()
        if closed and cluster.forks < self._reorgs:
            cluster.fork()
        if cluster.over:
            await self._release()

    async def _release(self) -> None:
        held = {
            step.action_id: step.reason
            for summary in await self._summaries()
            for step in summary.steps
            if step.state == ActionState.HELD and step.action_id not in self._released and not self._stays(step)
        }
        if not held:
            return
        if self._thawed_in is None:
            self.cluster.freeze(frozen=False)
            self._thawed_in = self.cluster.chain.head.slot
        elif self.cluster.final >= self._thawed_in:
            for action_id, reason in held.items():
                if "is frozen" not in (reason or ""):
                    raise RetryableError(f"step {action_id} is held for another reason: {reason}")
                await intervene(
                    self._database, InterventionKind.RELEASE, str(action_id), None, reason="thawed", by=RELEASES
                )
                self._released.add(action_id)

    async def _summaries(self) -> list[Summary]:
        async with self._database.snapshot() as transaction:
            return [each for each in await transaction.summaries.read() if each.chain == CHAIN]

    def _stays(self, step: Step) -> bool:
        """Whether it is held for good: what somebody would get is less than the rent of an account."""
        return f"{format_address(self.cluster.poor)} would hold less than" in (step.reason or "")

    def waiting(self, summaries: Iterable[Summary]) -> list[Summary]:
        """Those that are over but for shares that are held for good."""
        return [
            each
            for each in summaries
            if each.chain == CHAIN
            and each.state == "held"
            and all(step.state == ActionState.FINAL or self._stays(step) for step in each.steps)
        ]

    async def missing(self) -> str | None:
        """What must still be decided and paid, or None."""
        if not self.cluster.over:
            return "the traffic"
        async with self._database.snapshot() as transaction:
            status = await transaction.status.read()
        decided = {rule.rule: rule.decided_until for rule in status.rules if rule.chain == CHAIN}
        for rule in self.cluster.rules:
            if decided.get(rule.name, 0) < self.cluster.windows_end:
                return f"{rule.name} has decided until {decided.get(rule.name)}, not {self.cluster.windows_end}"
        summaries = await self._summaries()
        over = self.waiting(summaries)
        unfinished = [each for each in summaries if each.state != "final" and each not in over]
        return (
            None if not unfinished else f"distribution 0x{unfinished[0].distribution_id.hex()}: {unfinished[0].state}"
        )

    async def unbooked(self) -> str | None:
        """What is final on the chain and not in the books yet, or None."""
        return await unbooked(self._database, CHAIN, self.cluster.final)

    def reasons(self, run: Run) -> list[str]:
        """Why the run is not balanced, by the chain and by what its people did."""
        wrong = self.cluster.audit(run.payouts)
        history = self.cluster.history()
        for rule in self.cluster.rules:
            wrong += audit_rule(rule, history, run.decided.get((CHAIN, rule.name), []), self.cluster.ends())
        if self._thawed_in is None:
            wrong.append("nobody was left out, though an account was frozen")
        if not self.cluster.looked_up:
            wrong.append("no payout went through a lookup table, though there is one")
        poor, left = format_address(self.cluster.poor), self.waiting(run.distributions)
        told = [each for each in run.status.waiting if poor in (each.reason or "")]
        if not left or len(told) != len(left):
            wrong.append(
                f"{len(told)} shares of {poor} are told to a person, {len(left)} are less than an account's rent"
            )
        return wrong

    def happened(self, run: Run) -> list[str]:
        told = []
        if self.cluster.forks:
            times = count_of(self.cluster.forks, "rollback")
            told.append(
                f"{times} of {FORK_DEPTH} blocks took a transaction of the daemon away before it was final: it landed "
                "once (Scope)"
            )
        if self.cluster.looked_up:
            told.append(
                f"{count_of(len(self.cluster.looked_up), 'payout')} went through a lookup table, with up to "
                f"{max(self.cluster.looked_up)} recipients where 6 fit without (Distributions)"
            )
        if self._released:
            who = format_address(self.cluster.suspect)[:10]
            told.append(
                f"the token account of {who}… was frozen: it was left out, {count_of(len(self._released), 'share')} "
                "waited with the reason, and was paid after a thaw and a release (Distributions)"
            )
        if left := self.waiting(run.distributions):
            who = format_address(self.cluster.poor)[:10]
            told.append(
                f"the fresh account {who}… would get less SOL than its rent: the others were paid, and "
                f"its share of {count_of(len(left), 'window')} waits, with that reason (Waits for a person)"
            )
        return told
