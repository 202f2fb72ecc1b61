"""A period as ISO 20022 statements (camt.053.001.08), one an account and asset, for programs that read those of banks.

    roll_forward row ──► Stmt: opening and closing balance        movements of that account ──► Ntry, one each
                     └─► SplmtryData: account, asset, block, and every amount in exact atoms

An amount there has at most 18 digits, 5 of them decimals, and a currency of ISO 4217. So it is the number of tokens,
rounded, under XXX (no currency): books keep no prices. Balances are rounded, entries are what lies between two rounded
balances: opening + entries = closing holds in what is written too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree as ET

from bridge.domain.errors import ConfigError
from bridge.stages.report_files.tables import Document

NAME = "camt053.xml"
NAMESPACE = "urn:iso:std:iso:20022:tech:xsd:camt.053.001.08"
EXACT_NAMESPACE = "urn:bridge:report:exact:1"
CURRENCY = "XXX"
_PLACES = 5
_HIGHEST = 10**18


def camt_text(document: Document) -> str:
    """The whole message, for a report over a period with at least one account.

    Raises ConfigError where an amount has too many digits.
    """
    root = ET.Element("Document", xmlns=NAMESPACE)
    message = ET.SubElement(root, "BkToCstmrStmt")
    header = ET.SubElement(message, "GrpHdr")
    created = _time(document["generated_at"])
    _add(header, "MsgId", _digest("message", str(document["period"]), document["sentence"], created))
    _add(header, "CreDtTm", created)
    exact = [_statement(message, document, row) for row in document["roll_forward"]]
    for number, content in enumerate(exact, 1):
        extra = ET.SubElement(message, "SplmtryData")
        _add(extra, "PlcAndNm", f"/Document/BkToCstmrStmt/Stmt[{number}]")
        ET.SubElement(extra, "Envlp").append(content)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def has_statements(document: Document) -> bool:
    """A message without a statement is none."""
    return bool(document["roll_forward"])


def _statement(message: ET.Element, document: Document, row: dict[str, Any]) -> ET.Element:
    """Add the statement of one account; returns its exact amounts."""
    period, asset = document["period"], _asset(document, row["asset"])
    cut = _cut_off(document, row["asset"])
    account = _digest(row["account"], row["asset"], size=34)
    made = ET.SubElement(message, "Stmt")
    _add(made, "Id", _digest(account, str(period["start"]), str(period["end"])))
    _add(made, "CreDtTm", _time(cut["timestamp"]))
    span = ET.SubElement(made, "FrToDt")
    _add(span, "FrDtTm", _time(period["start"]))
    _add(span, "ToDtTm", _time(period["end"] - 1))  # the last second of it: here both ends are included
    holder = ET.SubElement(made, "Acct")
    identity = ET.SubElement(ET.SubElement(holder, "Id"), "Othr")
    _add(identity, "Id", account)
    _add(ET.SubElement(identity, "SchmeNm"), "Prtry", "SHA256 of account and asset")
    _add(holder, "Ccy", CURRENCY)
    _add(holder, "Nm", f"{row['account']} {asset['symbol']}"[:70])
    decimals = asset["decimals"]
    for code, name, at in (("OPBD", "opening", period["start"]), ("CLBD", "closing", cut["timestamp"])):
        balance = ET.SubElement(made, "Bal")
        _add(ET.SubElement(ET.SubElement(balance, "Tp"), "CdOrPrtry"), "Cd", code)
        _amount(balance, rounded(int(row[name]), decimals), row["account"], negative=int(row[name]) < 0)
        _add(ET.SubElement(balance, "Dt"), "DtTm", _time(at))
    exact = ET.Element(
        "Statement",
        {
            "xmlns": EXACT_NAMESPACE,
            **{name: str(row[name]) for name in ("account", "asset", "opening", "closing")},
            "decimals": str(decimals),
            "block": str(cut["number"]),
            "hash": cut["hash"],
        },
    )
    held = int(row["opening"])
    for number, (entry, received) in enumerate(_entries(document, row), 1):
        before, held = held, held + (1 if received else -1) * int(entry["amount"])
        booked = ET.SubElement(made, "Ntry")
        _add(booked, "NtryRef", str(number))
        step = rounded(held, decimals) - rounded(before, decimals)
        _amount(booked, step, row["account"], negative=not received)
        _describe(booked, entry, cut["timestamp"], received=received)
        details = {name: entry[name] for name in ("debit", "credit", "amount")}
        ET.SubElement(exact, "Entry", {"ref": str(number), **details})
    return exact


def _describe(booked: ET.Element, entry: dict[str, Any], timestamp: int, *, received: bool) -> None:
    """What an entry says beside its number and amount."""
    if entry["reverses"]:
        _add(booked, "RvslInd", "true")
    _add(ET.SubElement(booked, "Sts"), "Cd", "BOOK")
    _add(ET.SubElement(booked, "BookgDt"), "DtTm", _time(timestamp))
    kind = ET.SubElement(ET.SubElement(booked, "BkTxCd"), "Prtry")
    _add(kind, "Cd", entry["source"][:35])
    _add(booked, "AddtlNtryInf", (f"from {entry['credit']}" if received else f"to {entry['debit']}")[:500])


def _entries(document: Document, row: dict[str, Any]) -> Iterator[tuple[dict[str, Any], bool]]:
    """Movements of that account, and whether it received: but for the opening of the books, which is in its balance."""
    for entry in document["movements"]:
        ours = row["account"] in (entry["debit"], entry["credit"])
        if ours and entry["asset"] == row["asset"] and entry["source"] != "opening":
            yield entry, entry["debit"] == row["account"]


def rounded(atoms: int, decimals: int) -> int:
    """In hundred-thousandths of a token; half away from zero. Monotone: what grows is not written as less."""
    if decimals <= _PLACES:
        return int(atoms * 10 ** (_PLACES - decimals))
    unit = 10 ** (decimals - _PLACES)
    size = (abs(atoms) + unit // 2) // unit
    return int(size if atoms >= 0 else -size)


def _amount(parent: ET.Element, value: int, account: str, *, negative: bool) -> None:
    if abs(value) >= _HIGHEST:
        raise ConfigError(
            f"an amount of {account} has more digits than camt.053 can hold", mend="leave out camt053", where="--format"
        )
    whole, fraction = divmod(abs(value), 10**_PLACES)
    _add(parent, "Amt", f"{whole}.{fraction:0{_PLACES}}").set("Ccy", CURRENCY)
    _add(parent, "CdtDbtInd", "DBIT" if negative else "CRDT")


def _cut_off(document: Document, asset: str) -> dict[str, Any]:
    for chain in document["chains"]:
        if asset.startswith(chain["reference"] + "/") and chain["cut_off"] is not None:
            found: dict[str, Any] = chain["cut_off"]
            return found
    raise ValueError(f"{asset} is of no chain with a cut-off")


def _asset(document: Document, asset: str) -> dict[str, Any]:
    """As in the tables: one that the ledger has not seen yet has whole atoms."""
    known = (item for item in document["assets"] if item["id"] == asset)
    return next(known, {"symbol": asset.rsplit("/", 1)[-1], "decimals": 0})


def _add(parent: ET.Element, name: str, text: str) -> ET.Element:
    made = ET.SubElement(parent, name)
    made.text = text
    return made


def _digest(*parts: str, size: int = 35) -> str:
    """What identifies something where an identifier has at most `size` characters: the same in each report."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:size]


def _time(timestamp: int) -> str:
    return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
