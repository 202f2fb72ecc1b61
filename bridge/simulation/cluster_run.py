"""What a daemon lives through on the local Solana chain, and what must come of it; alone, or beside another chain.

first window     a recipient's account is frozen: it is left out, its share is held with the reason
after it         a send gets lost; blocks with a payout are rolled back; somebody gives the vault a present
after the last   the account is thawed, and a person releases what was held
"""

from __future__ import annotations

from pathlib import Path

from bridge.domain.errors import RetryableError
from bridge.domain.interventions import InterventionKind
from bridge.domain.reports import count_of
from bridge.domain.states import ActionState
from bridge.domain.units import format_address
from bridge.simulation.audit import audit_rule
from bridge.simulation.cluster import CHAIN, FORK_DEPTH, Cluster, Gift
from bridge.simulation.outcome import Run
from bridge.stages.intervene import intervene
from bridge.store.database import Database
from bridge.store.payouts import Summary

RELEASES = "ann (simulated)"


class ClusterRun:
    """A cluster that is being played on. `live` lets one slot pass, and what is due in it."""

    def __init__(self, cluster: Cluster, database: Database, reorgs: int) -> None:
        self.cluster = cluster
        self._database = database
        self._reorgs = reorgs
        self._frozen = False
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
            if step.state == ActionState.HELD and step.action_id not in self._released
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
            return [each for each in await transaction.payouts.summaries() if each.chain == CHAIN]

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
        unfinished = [each for each in await self._summaries() if each.state != "final"]
        return (
            None if not unfinished else f"distribution 0x{unfinished[0].distribution_id.hex()}: {unfinished[0].state}"
        )

    async def unbooked(self) -> str | None:
        """What is final on the chain and not in the books yet, or None."""
        final = self.cluster.final
        async with self._database.snapshot() as transaction:
            cursor = await transaction.chains.cursor("post", CHAIN)
            if cursor is None or cursor[0] < final:
                return f"posted through slot {cursor and cursor[0]}, final is {final}"
            if count := await transaction.bookings.unbooked_count(CHAIN, final):
                return f"{count} facts without a journal"
        return None

    def reasons(self, run: Run) -> list[str]:
        """Why the run is not balanced, by the chain and by what its people did."""
        wrong = self.cluster.audit(run.payouts)
        history = self.cluster.history()
        for rule in self.cluster.rules:
            wrong += audit_rule(rule, history, run.decided.get(rule.name, []), self.cluster.ends())
        if self._thawed_in is None:
            wrong.append("nobody was left out, though an account was frozen")
        if not self.cluster.looked_up:
            wrong.append("no payout went through a lookup table, though there is one")
        return wrong

    def happened(self) -> list[str]:
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
        return told


def write_configuration(path: Path, cluster: Cluster, database_url: str) -> None:
    """Of a daemon with this chain alone."""
    section = cluster.write_files(path.parent)
    path.write_text(
        f"""\
# Written by the simulation, which must be running for this to work.
lease_duration_ms = 3000

[database]
url = "{database_url}"

[logs]
level = "info"
format = "json"
{section}""",
        encoding="utf-8",
    )
