"""What a reconciliation makes again, a full one all of it: rows must still say what they were made from.

    stored logs ──────────────────────► the digest that two reads agreed on       finalized ranges
    decision's artifact ──────────────► its hash, its columns, its rows           records
    decisions, distributions, gas,
    executed batches ─────────────────► journals, field by field, both ways       facts
    approved corrections ─────────────► journals, field by field, both ways       corrections

So an entry that was changed together with its balance is found too. What is not made again here: the decision itself
from its logs, for that needs a node with the states of old blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bridge.domain.breaks import Batches, BreakKind, Check, Difference, Level, Range
from bridge.domain.corrections import correction_key
from bridge.domain.events import LogColumns
from bridge.domain.ledger import (
    Decided,
    GasPaid,
    IntendedBatch,
    Intent,
    Journal,
    batch_ref,
    book_decision,
    book_gas,
    book_intent,
    book_settlement,
)
from bridge.domain.records import Record, carries_as_recorded, compare_with_record, follows
from bridge.domain.units import AssetId, BlockStamp
from bridge.ports.database import Transaction
from bridge.stages.correct import remake

PAGE = 200
LOGS_AT_ONCE = 5_000
"""Beside those of one range, which may have more."""
DIFFERENCES_MAX = 1_000


async def check_ranges(tx: Transaction, at: BlockStamp, spans: Sequence[tuple[int, int]]) -> Check:
    """The logs of each finalized range that ends within one of `spans` (after, last) are those that two reads agreed
    on, to the byte."""
    differences: list[Difference] = []
    count = 0
    for span in spans:
        after = -1
        while page := await tx.audits.ranges(at.chain, span, after, PAGE):
            for some in _read_together(page):
                logs = (await tx.events.log_columns(at.chain, some[0].first, some[-1].last)).logs
                found = [_of_range(each, logs.between(each.first, each.last)) for each in some]
                differences += [difference for difference in found if difference is not None]
            after, count = page[-1].first, count + len(page)
    return _check("logs of ranges", at, count, differences)


def _read_together(ranges: Sequence[Range]) -> list[list[Range]]:
    """Ranges in order, those that follow each other and have few logs as one: most are of one block, or of none."""
    groups: list[list[Range]] = []
    size = 0
    for each in ranges:
        if groups and groups[-1][-1].last + 1 == each.first and size + each.logs <= LOGS_AT_ONCE:
            groups[-1].append(each)
            size += each.logs
        else:
            groups.append([each])
            size = each.logs
    return groups


def _of_range(range_: Range, stored: LogColumns) -> Difference | None:
    first, last = range_.first, range_.last
    if (stored.count, stored.digest()) == (range_.logs, range_.digest):
        return None
    evidence = {"first": first, "last": last, "read": range_.logs, "stored": stored.count}
    subject = f"logs of blocks {first} to {last}"
    return Difference(BreakKind.AMOUNT_MISMATCH, subject, evidence, block=last, after=first - 1)


async def check_records(tx: Transaction, at: BlockStamp) -> Check:
    """Decisions, allocations, payouts and carries are what the artifacts say, and decisions of a rule join."""
    differences: list[Difference] = []
    last: dict[tuple[str, AssetId], Record] = {}
    after, count = ("", -1), 0
    while page := await tx.audits.stored(at.chain, after, PAGE):
        for record in map(compare_with_record, page):
            stored = record.stored
            wrong = [*record.contradictions, *follows(last.get((stored.rule, stored.asset)), record)]
            if wrong:
                differences.append(_changed(f"decision {stored.decision_id.hex()}", wrong))
            last[stored.rule, stored.asset] = record
        after, count = (page[-1].rule, page[-1].window.start), count + len(page)
    carries = await tx.audits.carries(at.chain)
    for rule, asset in sorted(last.keys() | carries.keys()):
        left = last[rule, asset].carried_out if (rule, asset) in last else {}
        if carries_as_recorded(carries.get((rule, asset), {})) != left:
            differences.append(_changed(f"carries of {rule}", [asset]))
    differences += [
        _changed(f"payout {payout}", ["outcome"])
        for payout in await tx.audits.false_outcomes(at.chain, DIFFERENCES_MAX)
    ]
    return _check("records", at, count, differences)


async def check_facts(tx: Transaction, at: BlockStamp, native: AssetId, batches: Batches) -> Check:
    """Whatever the bridge did, and whatever batch the chain executed, has the journal that it must have."""
    differences: list[Difference] = []
    count = 0
    for source in ("decision", "distribution", "attempt"):
        after = b""
        while refs := await tx.bookings.bookable(at.chain, at.number, source, after, PAGE):
            expected = [_book(fact, native) for fact in await tx.bookings.facts(at.chain, source, refs)]
            differences += await _compare(tx, source, expected)
            after, count = refs[-1], count + len(refs)
    keys = sorted(batches.executed)
    for first in range(0, len(keys), PAGE):
        page = keys[first : first + PAGE]
        planned = await tx.audits.intended(page)
        waiting = {(batch.distribution_id, batch.index) for batch in await tx.bookings.open_batches(page)}
        differences += [_missing(f"batch {batch_ref(*key)}") for key in sorted(waiting)]
        expected = [_settle(planned[key], batches) for key in page if key in planned and key not in waiting]
        differences += await _compare(tx, "batch", expected, optional=True)
        count += len(page)
    unfounded = await tx.audits.journals_without_fact(
        at.chain, at.number, [batch_ref(*key) for key in keys], DIFFERENCES_MAX
    )
    differences += [_changed(f"journal {journal}", ["nothing that happened is behind it"]) for journal in unfounded]
    return _check("facts", at, count, differences)


async def check_corrections(tx: Transaction, at: BlockStamp) -> Check:
    """Each correction that two people stand for is booked as they said; the facts tell if there are others."""
    differences: list[Difference] = []
    approved = await tx.corrections.approved(at.chain)
    for each in approved:
        source, ref = correction_key(each.correction)
        booked = await tx.ledger.journals(source, [ref])
        if not booked:
            differences.append(_missing(f"{source} {ref}"))
        elif booked[0] != await remake(tx, each, booked[0].at, booked[0].valid_at):
            differences.append(_changed(f"journal {source} {ref}", ["amounts, accounts or reason"]))
    return _check("corrections", at, len(approved), differences)


def _book(fact: Decided | Intent | GasPaid, native: AssetId) -> Journal:
    match fact:
        case Decided():
            return book_decision(fact)
        case Intent():
            return book_intent(fact)
        case GasPaid():
            return book_gas(fact, native)


def _settle(batch: IntendedBatch, batches: Batches) -> Journal:
    executed = batches.executed[batch.distribution_id, batch.index]
    return book_settlement(batch, executed.log, executed.credited, executed.left_out)


async def _compare(
    tx: Transaction, source: str, expected: Sequence[Journal], *, optional: bool = False
) -> list[Difference]:
    """`optional`: where its intent is not booked yet, a settlement cannot be."""
    booked = {journal.ref: journal for journal in await tx.ledger.journals(source, [each.ref for each in expected])}
    kind = BreakKind.FEE_MISMATCH if source == "attempt" else BreakKind.AMOUNT_MISMATCH
    return [
        _changed(f"journal {source} {journal.ref}", ["amounts, accounts, place or time"], kind)
        if journal.ref in booked
        else _missing(f"{source} {journal.ref}")
        for journal in expected
        if booked.get(journal.ref) != journal and (journal.ref in booked or not optional)
    ]


def _missing(subject: str) -> Difference:
    return Difference(BreakKind.MISSING_IN_LEDGER, subject, {"journal": "none"})


def _changed(subject: str, what: Iterable[str], kind: BreakKind = BreakKind.AMOUNT_MISMATCH) -> Difference:
    return Difference(kind, subject, {"changed": list(what)})


def _check(subject: str, at: BlockStamp, count: int, differences: Sequence[Difference]) -> Check:
    found = tuple(differences[:DIFFERENCES_MAX])
    return Check(Level.COMPLETENESS, subject, at, expected=count, actual=count, differences=found)
