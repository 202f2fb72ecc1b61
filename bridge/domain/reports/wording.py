"""Sentences of a report that are put together from its figures."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.domain.reports.facts import Facts, tally
from bridge.domain.reports.report import Break, Completeness, RollForward, Verdict
from bridge.domain.windows import Window


def sentence_of(
    verdict: Verdict,
    breaks: Sequence[Break],
    rows: Sequence[RollForward],
    period: Window | None,
    under_way: Sequence[str],
) -> str:
    checked = [row for row in rows if row.on_chain is not None]
    if under_way and verdict is Verdict.UNRECONCILED:
        return (
            f"This period has not ended on {' and '.join(under_way)}: no block after it is final there. "
            "No break of it is known, and no statement can be made about all of it."
        )
    if period is not None and verdict is Verdict.UNRECONCILED:
        return "This period has not been reconciled to its end: no statement can be made about books and chain."
    if period is not None and verdict is Verdict.BALANCED:
        return (
            f"This period was reconciled to its end and no break of it is open; {len(checked):,} of "
            f"{count_of(len(rows), 'watched balance')} read at the cut-off itself, equal to the last unit."
        )
    if verdict is Verdict.UNRECONCILED:
        return "Nothing has been reconciled yet: no statement can be made about books and chain."
    if verdict is Verdict.BALANCED:
        return (
            f"Books and chain agree: {count_of(len(checked), 'watched balance')} equal to the last unit"
            f"{'' if len(checked) == len(rows) else f', {len(rows) - len(checked)} not checked'}, no break is open."
        )
    opened = sum(item.open for item in breaks)
    differ = sum(bool(row.difference and row.difference.atoms) for row in checked)
    parts = [f"{count_of(opened, 'break')} open"] if opened else []
    parts += (
        [f"{count_of(differ, 'watched balance')} {'differs' if differ == 1 else 'differ'} from the chain"]
        if differ
        else []
    )
    return f"Books and chain do not agree: {' and '.join(parts) or 'the last reconciliation found differences'}."


def count_of(number: int, noun: str) -> str:
    """`1 break`, `2 breaks`, `3 batches`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}{'es' if noun.endswith(('ch', 's')) else 's'}"


def limitations_of(facts: Facts, rows: Sequence[RollForward], completeness: Sequence[Completeness]) -> tuple[str, ...]:
    """What a reader must not conclude from this report."""
    found = []
    for item in completeness:
        if item.spans and not item.independent:
            found.append(
                f"{item.chain}: blocks were read and verified by the same provider; the second read is not independent."
            )
        found += [f"{item.chain}: blocks {first} to {last} were not read as final." for first, last in item.gaps]
    for chain in facts.chains:
        if chain.cut_off and (chain.posted_through is None or chain.posted_through < chain.cut_off.number):
            upto = "nothing" if chain.posted_through is None else f"block {chain.posted_through}"
            found.append(f"{chain.chain}: the ledger is booked through {upto}, the cut-off is {chain.cut_off.number}.")
    found += [
        f"{chain.chain}: no block at or after the end of the period is final yet; its figures may still grow."
        for chain in facts.chains
        if not chain.ended
    ]
    unread = [row for row in rows if row.on_chain is None]
    if unread:
        where = "in the last reconciliation" if facts.period is None else "at the block that ends the period"
        found.append(f"{count_of(len(unread), 'watched balance')} had no on-chain reading {where}.")
    skipped = tally(facts.checks).skipped
    if skipped:
        found.append(f"{count_of(skipped, 'check')} skipped, with the causes listed under “Checks”.")
    unsealed = sum(item.journals - item.sealed for item in facts.seals)
    if unsealed:
        found.append(f"{count_of(unsealed, 'journal')} not sealed into the hash chain when the report was read.")
    found.append("Movements of a native coin that emit no log show as a balance difference, not as an event.")
    found.append(
        "States of distributions, what is held, and breaks, are as they stood when the report was read; books end at "
        "the cut-off."
    )
    if facts.period is not None:
        found.append(
            "Of distributions only those decided within the period are listed; what waits for a person is today's."
        )
    return tuple(found)
