"""Gather one payout's whole story, from the logs that caused it to the rows that book it.

    id ──find──► decision ──► rule, inputs, guardrails, split ──► distribution ──► steps ──► journals
                    └──► source logs, by the positions that the decision recorded

Reads only, in one snapshot; what is not there yet is left out, so a story can be told at any moment of a payout's life.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from bridge.domain.declarations import compile_where, field_types, parse_declaration
from bridge.domain.errors import ConfigError
from bridge.domain.events import Value
from bridge.domain.quantities import NO_UNIT, parse_unit
from bridge.domain.reports.canonical import to_json
from bridge.domain.reports.report import Amount
from bridge.domain.stories import JournalFact, Match, Share, SourceEvents, SourceLog, Step, Story, StoryFacts
from bridge.domain.units import base58_ranges, format_address, format_tx, from_base58, hexed, parse_address
from bridge.ports.database import Database, Transaction
from bridge.ports.reading import EventDecoder

PREFIX_MIN = 6
"""Digits, or signs of base58: fewer would name too much."""

LOGS_MAX = 1_000
"""Source logs of one kind that a story holds; the decision's count says how many there are."""

ID_BYTES_MAX = 64
"""A signature, which some chains name transactions by; hashes and our own ids have 32."""

BASE58_MAX = 88
"""Signs of a signature in base58."""


async def explain(
    database: Database, asked: str, *, decoder: Callable[[str, str], EventDecoder], recipient: str | None = None
) -> Story:
    """The story of the decision, distribution or transaction that `asked` names: as its chain writes it, whole or
    its first digits.

    `decoder` compiles, for a chain by its name, an event declaration of its interface language. With `recipient` (an
    address, whole or its first digits) shares and ledger rows are those of that recipient. Raises ConfigError where
    either names nothing or several things.
    """
    async with database.snapshot() as transaction:
        match = await _find(transaction, asked)
        facts = await transaction.stories.facts(match.decision_id)
        artifact: Mapping[str, Any] = json.loads(facts.decision.artifact)
        sources = await _sources(transaction, facts.decision.chain, artifact, decoder)
        shares = _shares(facts, artifact)
        chosen = None if recipient is None else _choose(shares, recipient)
        others = {share.recipient for share in shares if chosen is not None and share != chosen}
        journals = await transaction.stories.journals(await _journal_keys(transaction, facts, sources, others))
    if chosen is not None:
        shares, journals = (chosen,), [_only(journal, chosen.recipient) for journal in journals]
    return Story(
        asked=match,
        decision=facts.decision,
        artifact=artifact,
        total=Amount(sum(share.amount for share in facts.shares), facts.asset),
        sources=tuple(sources),
        shares=shares,
        distribution=facts.distribution,
        steps=_steps_of(facts.steps, shares, chosen is not None),
        journals=tuple(journals),
    )


async def find_decision(database: Database, asked: str) -> bytes:
    """The id of the one decision that `asked` names, as explain takes it. Raises ConfigError where it is not one."""
    async with database.snapshot() as transaction:
        return (await _find(transaction, asked)).decision_id


# ── Finding ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def _hex_digits(text: str) -> str | None:
    """Lower-case hex digits without 0x; None where it is something else."""
    digits = text.lower().removeprefix("0x")
    fits = PREFIX_MIN <= len(digits) <= 2 * ID_BYTES_MAX and not set(digits) - set("0123456789abcdef")
    return digits if fits else None


def _is_base58(text: str) -> bool:
    """What chains without hex write, or its beginning."""
    try:
        from_base58(text)
    except ValueError:
        return False
    return PREFIX_MIN <= len(text) <= BASE58_MAX


def _check_form(text: str, what: str) -> None:
    """Raises ConfigError where it is neither hex nor base58, or too short."""
    if _hex_digits(text) is None and not _is_base58(text):
        raise ConfigError(
            f"{text!r} is no id: hex digits are expected, or signs of base58, at least {PREFIX_MIN} of them",
            where=what,
            mend="copy an id or a transaction from bridge status or from the report; 0x may be left out",
        )


def _ranges(asked: str) -> list[tuple[bytes, bytes]]:
    """Bounds of the ids that `asked` begins to name: as hex, and as a signature in base58, where it can be both."""
    found: list[tuple[bytes, bytes]] = []
    if (digits := _hex_digits(asked)) is not None:
        # A prefix of digits is a range of bytes: 0xabc is 0xabc0… to 0xabcf…
        low = bytes.fromhex(digits + "0" * (len(digits) % 2))
        found.append((low, bytes.fromhex(digits.ljust(2 * ID_BYTES_MAX, "f"))))
    if _is_base58(asked):
        found += base58_ranges(asked, ID_BYTES_MAX)
    return found


async def _find(transaction: Transaction, asked: str) -> Match:
    asked = asked.strip()
    _check_form(asked, "ID")
    found = [match for bounds in _ranges(asked) for match in await transaction.stories.find(*bounds)]
    # Between the bounds of a signature's prefix lie shorter ids too, which are not meant: no one reads them as base58.
    matches = [match for match in dict.fromkeys(found) if _is_called(match.id, asked)]
    if not matches:
        raise ConfigError(
            f"nothing is known under {asked}",
            where="ID",
            mend="give a decision's id, a distribution's, or a transaction that the bridge has signed",
        )
    if len({match.decision_id for match in matches}) > 1:
        listed = "\n".join(f"  {match.kind:<12} {format_tx(match.id)}" for match in matches)
        raise ConfigError(f"{asked} names several things:\n{listed}", where="ID", mend="give more digits")
    return matches[0]


def _is_called(id_: bytes, asked: str) -> bool:
    return format_tx(id_).startswith(asked) or id_.hex().startswith(asked.lower().removeprefix("0x"))


def _choose(shares: Sequence[Share], recipient: str) -> Share:
    recipient = recipient.strip()
    _check_form(recipient, "RECIPIENT")
    digits = _hex_digits(recipient)
    found = [
        share
        for share in shares
        if format_address(share.recipient).startswith(recipient)
        or (digits is not None and share.recipient.hex().startswith(digits))
    ]
    if len(found) == 1:
        return found[0]
    if found:
        listed = "\n".join(f"  {format_address(share.recipient)}" for share in found[:20])
        raise ConfigError(
            f"{recipient} names several recipients:\n{listed}", where="RECIPIENT", mend="give more digits"
        )
    raise ConfigError(
        f"{recipient} receives nothing from this decision",
        where="RECIPIENT",
        mend="leave it out to see all recipients, or give the address of one of them",
    )


# ── Assembling ──────────────────────────────────────────────────────────────────────────────────────────────────────
async def _sources(
    transaction: Transaction, chain: str, artifact: Mapping[str, Any], decoder: Callable[[str, str], EventDecoder]
) -> list[SourceEvents]:
    found = []
    for name, event in artifact["events"].items():
        decoded: list[SourceLog] = []
        if event["count"]:
            plan, counts = decoder(chain, event["declaration"]), _counts(artifact, event)
            first, last = ((block, index) for block, index in (event["first"], event["last"]))
            addresses = [parse_address(contract) for contract in _emitters(event)]
            for log in await transaction.stories.logs(
                chain, addresses, plan.topic0, first=first, last=last, limit=LOGS_MAX
            ):
                fields = plan.decode(log)
                if counts(fields):
                    told = {field: _value(value, plan.fields[field]) for field, value in fields.items()}
                    decoded.append(SourceLog(log, told))
        found.append(
            SourceEvents(name, _emitters(event), event["declaration"], event["where"], event["count"], tuple(decoded))
        )
    return found


def _counts(artifact: Mapping[str, Any], event: Mapping[str, Any]) -> Callable[[Mapping[str, Value]], bool]:
    """The rule's `where`, made again from what the record says its names stood for."""
    if event["where"] is None:
        return lambda fields: True
    parameters = {name: text.split(" ", 1) for name, text in artifact["parameters"].items()}
    names: dict[str, Value] = {name: int(parts[0]) for name, parts in parameters.items()}
    # Records of the first format have plain numbers only.
    units = {name: parse_unit(parts[1]) if len(parts) > 1 else NO_UNIT for name, parts in parameters.items()}
    of_fields = {name: parse_unit(text) for name, text in event.get("units", {}).items()}
    contracts = {name: parse_address(value) for name, value in artifact["contracts"].items()}
    fields = field_types(parse_declaration(event["declaration"]), of_fields)
    where = compile_where(event["where"], units, contracts, fields)
    known = {**names, **contracts, "asset": parse_address(artifact["token"])}
    return lambda values: bool(where.evaluate({**known, **values}))


def _emitters(event: Mapping[str, Any]) -> tuple[str, ...]:
    """The contracts of an event; a record of the first format has one."""
    return tuple(event["contracts"]) if "contracts" in event else (event["contract"],)


def _value(value: Value, kind: str) -> str:
    if isinstance(value, bytes) and kind == "address":
        return format_address(value)
    if isinstance(value, bytes):
        return hexed(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


async def _journal_keys(
    transaction: Transaction, facts: StoryFacts, sources: Sequence[SourceEvents], others: Collection[bytes]
) -> list[tuple[str, str]]:
    """(source, ref) of every journal that the story may have; the ledger says which are booked.

    What the transactions logged about `others` (a transfer to one of them, a credit) is no part of it.
    """
    words = {other.rjust(32, b"\0") for other in others}
    chain, decision = facts.decision.chain, facts.decision
    attempts = [attempt for step in facts.steps for slot in step.slots for attempt in slot.attempts]
    logs = [(source.log.block.hash, source.log.log_index) for events in sources for source in events.logs]
    logs += [
        (block_hash, index)
        for block_hash, index, topics in await transaction.stories.log_refs(chain, attempts)
        if words.isdisjoint(topics)
    ]
    keys = [(f"log:{chain}", f"{block_hash.hex()}:{index}") for block_hash, index in logs]
    keys.append(("decision", decision.decision_id.hex()))
    keys += [("attempt", attempt.tx_id.hex()) for attempt in attempts]
    if facts.distribution:
        planned = facts.distribution.distribution_id.hex()
        keys.append(("distribution", planned))
        indexes = {share.batch_index for share in facts.shares if share.batch_index is not None}
        keys += [("batch", f"{planned}:{index}") for index in sorted(indexes)]
    return list(dict.fromkeys(keys))


def _shares(facts: StoryFacts, artifact: Mapping[str, Any]) -> tuple[Share, ...]:
    weights = _weights(artifact)
    total = str(sum(weights.values())) if weights else None
    return tuple(
        Share(
            recipient=share.recipient,
            amount=Amount(share.amount, facts.asset),
            carried_in=Amount(share.carried_in, facts.asset),
            weight=str(weights.get(format_address(share.recipient), 0)) if weights else None,
            weights_total=total,
            batch_index=share.batch_index,
            outcome=share.outcome,
            held=share.held,
        )
        for share in facts.shares
    )


def _weights(artifact: Mapping[str, Any]) -> dict[str, int]:
    """Weight by account of the input that was split by; nothing where the split is fixed."""
    name = artifact["split"].get("pro_rata")
    if name is None:
        return {}
    weights = artifact["inputs"][name].get("weights", {})
    excluded = artifact.get("excluded", [])
    return {account: int(weight) for account, weight in weights.items() if account not in excluded}


def _only(journal: JournalFact, recipient: bytes) -> JournalFact:
    """Without the rows of other recipients; rows that concern no recipient stay."""
    own = format_address(recipient)
    kept = tuple(
        entry
        for entry in journal.entries
        if all(not _is_claim(code) or code.endswith(own) for code in (entry.debit, entry.credit))
    )
    return JournalFact(
        journal.journal_id,
        journal.source,
        journal.ref,
        journal.kind,
        journal.reason,
        journal.block_number,
        journal.block_hash,
        kept,
    )


def _is_claim(code: str) -> bool:
    return code.startswith(("payable:", "owed_on_chain:"))


def _steps_of(steps: tuple[Step, ...], shares: Sequence[Share], one: bool) -> tuple[Step, ...]:
    """All steps, or for one recipient the proposal and the batch that pays it."""
    if not one:
        return steps
    batches = {share.batch_index for share in shares}
    return tuple(step for step in steps if step.ordinal == 0 or step.ordinal - 1 in batches)


def render_json(story: Story) -> str:
    """Canonical JSON: keys sorted, amounts as strings of atoms, bytes as 0x hex; the artifact as it was hashed."""
    document = to_json(story)
    assert isinstance(document, dict)
    decision = {**document["decision"], "artifact": None}  # its text stands under `artifact`, in full
    return (
        json.dumps({**document, "decision": decision}, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    )
