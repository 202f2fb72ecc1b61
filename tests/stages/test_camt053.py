"""Statements for programs that read those of banks: their structure, and sums that hold though they are rounded."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from bridge.domain.errors import ConfigError
from bridge.domain.reports.assembly import assemble
from bridge.domain.reports.facts import Flow
from bridge.domain.windows import Window
from bridge.stages.report import render_json, write
from bridge.stages.report_files.camt053 import EXACT_NAMESPACE, NAMESPACE, camt_text, rounded
from bridge.stages.report_files.folder import check_folder
from tests.domain.test_reports import FLOWS, HASH, OPERATOR, USDX, VAULT, any_flow, facts

PERIOD = Window(1_793_491_200, 1_796_083_200)

# The standard's own schema; scripts/setup fetches it.
SCHEMA = etree.XMLSchema(
    file=Path(__file__).parents[2] / ".cache" / "schemas" / "camt053" / "xsd" / f"{NAMESPACE.rpartition(':')[2]}.xsd"
)


def report_of(flows: tuple[Flow, ...], earlier: tuple[Flow, ...] = ()) -> dict[str, Any]:
    content = assemble(facts(period=PERIOD, flows=flows, earlier=earlier, decided={}, balance_checks=(), gas=()))
    document: dict[str, Any] = json.loads(render_json(content))
    return document


def parsed(document: dict[str, Any]) -> ET.Element:
    """Once the schema has nothing against it."""
    text = camt_text(document)
    SCHEMA.assertValid(etree.fromstring(text.encode()))
    return ET.fromstring(text)


def named(element: ET.Element, path: str) -> list[ET.Element]:
    return element.findall("/".join(f"{{{NAMESPACE}}}{step}" for step in path.split("/")))


def signed(element: ET.Element) -> int:
    """In hundred-thousandths."""
    (amount,), (side,) = named(element, "Amt"), named(element, "CdtDbtInd")
    return int((amount.text or "").replace(".", "")) * (1 if side.text == "CRDT" else -1)


def test_camt__small_period__structure_accounts_and_exact_amounts():
    root = parsed(report_of(FLOWS[5:], FLOWS[:5]))
    statements = named(root, "BkToCstmrStmt/Stmt")
    assert [named(each, "Acct/Nm")[0].text for each in statements] == [
        "distributor:0x02 USDX",
        f"{OPERATOR} ETH",
        f"{VAULT} USDX",
    ]
    exact = {each.attrib["account"]: each for each in root.iter(f"{{{EXACT_NAMESPACE}}}Statement")}
    assert exact[VAULT].attrib == {
        "account": VAULT,
        "asset": USDX.id,
        "opening": "150",
        "closing": "80",
        "decimals": "6",
        "block": "9",
        "hash": "0x" + HASH.hex(),
    }
    assert [entry.attrib for entry in exact[VAULT]] == [
        {"ref": "1", "debit": "distributor:0x02", "credit": VAULT, "amount": "70"}
    ]
    assert [ref.text for ref in named(statements[2], "Ntry/NtryRef")] == ["1"]
    assert named(statements[0], "FrToDt/ToDtTm")[0].text == "2026-11-30T23:59:59Z"


@given(st.lists(any_flow, min_size=1, max_size=10).map(tuple), st.integers(0, 10))
def test_camt__any_flows__written_balances_and_entries_add_up(flows: tuple[Flow, ...], cut: int):
    small = tuple(Flow(f.debit, f.credit, f.asset, f.source, f.reverses, f.atoms % 10**12 + 1) for f in flows)
    document = report_of(small[cut:], small[:cut])
    if not document["roll_forward"]:
        return
    root = parsed(document)
    for statement, row in zip(named(root, "BkToCstmrStmt/Stmt"), document["roll_forward"], strict=True):
        opening, closing = (signed(balance) for balance in named(statement, "Bal"))
        assert opening + sum(signed(entry) for entry in named(statement, "Ntry")) == closing
        assert closing == rounded(int(row["closing"]), 6)


@given(st.integers(-(10**30), 10**30), st.integers(0, 10**30), st.integers(0, 24))
def test_rounded__any_amount__nearest_and_monotone(atoms: int, more: int, decimals: int):
    assert rounded(atoms, decimals) <= rounded(atoms + more, decimals)
    assert 2 * abs(rounded(atoms, decimals) * 10**decimals - atoms * 10**5) <= 10**decimals
    assert rounded(-atoms, decimals) == -rounded(atoms, decimals)


def test_camt__more_digits_than_it_holds__refused():
    most = 10**18 * 10 - 6  # atoms of USDX: one less than what rounds to 10^13 tokens
    assert "9999999999999.99999" in camt_text(report_of((Flow(VAULT, "suspense:in", USDX.id, "log", False, most),)))
    with pytest.raises(ConfigError, match="more digits than camt"):
        camt_text(report_of((Flow(VAULT, "suspense:in", USDX.id, "log", False, most + 1),)))


async def test_camt__in_a_report__checked_with_it(tmp_path: Path):
    content = assemble(facts(period=PERIOD, flows=FLOWS, decided={}, balance_checks=()))
    await write(content, tmp_path, ("camt053",))
    assert check_folder(tmp_path).problems == ()
    path = tmp_path / "camt053.xml"
    path.write_text(path.read_text().replace("CRDT", "DBIT", 1))
    problems = check_folder(tmp_path).problems
    assert [problem.partition(":")[0] for problem in problems] == ["camt053.xml", "camt053.xml"]
    assert problems[1] == "camt053.xml: is not what report.json says"


async def test_camt__no_period_or_no_account__not_written(tmp_path: Path):
    for content in (assemble(facts()), assemble(facts(period=PERIOD, flows=(), decided={}, balance_checks=()))):
        paths = await write(content, tmp_path, ("camt053",))
        assert [path.name for path in paths] == ["report.json", "manifest.json"]
