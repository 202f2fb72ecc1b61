"""The report over a small world, and the two files that it is written to."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bridge.chains.fake.chain import FakeChain
from bridge.chains.fake.reader import FakeReader
from bridge.domain.errors import ChainUnavailable
from bridge.domain.reports.assembly import assemble
from bridge.domain.reports.report import Report, Verdict
from bridge.domain.units import Address, AssetId, BlockStamp, hexed
from bridge.domain.windows import Window
from bridge.stages.report import render_json, report, write
from bridge.stages.report_html import render_html
from bridge.stages.report_sections.charts import WIDTH
from bridge.store.database import Database
from tests.stages.world import (
    CHAIN,
    DISTRIBUTOR,
    DISTRIBUTOR_CODE,
    ETH,
    FEE,
    OPERATOR,
    OPERATOR_CODE,
    T0,
    USDX,
    VAULT,
    VAULT_CODE,
    WEI,
    block_hash,
    build_world,
)


@pytest.fixture
async def small_report(database: Database) -> Report:
    await build_world(database)
    return await report(database)


VOID_ELEMENTS = {"meta", "br", "rect", "wbr"}


class Page(HTMLParser):
    """Elements, texts, and whether every element that was opened was closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID_ELEMENTS:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_report__small_world__books_and_chain_side_by_side(small_report: Report):
    assert small_report.verdict is Verdict.BREAKS
    assert small_report.sentence == "Books and chain do not agree: 1 break open."
    assert small_report.generated_at == T0 + 400
    rows = {(row.account, row.closing.asset.symbol): row for row in small_report.roll_forward}
    vault = rows[VAULT_CODE, "USDX"]
    assert [amount.text for amount in (vault.opening, vault.received, vault.sent, vault.closing)] == [
        "500",
        "1,257.5",
        "999.4",
        "758.1",
    ]
    assert vault.difference is not None
    assert vault.difference.atoms == 0
    assert rows[OPERATOR_CODE, "ETH"].fees.text == "0.000900000000000369"
    assert rows[VAULT_CODE, "ETH"].on_chain is None
    assert small_report.contracts == (DISTRIBUTOR_CODE, VAULT_CODE)


async def test_report__small_world__surplus_adds_up_from_earned_to_left(small_report: Report):
    (fall,) = small_report.waterfalls
    assert (fall.opening.text, fall.earned.text, fall.allocated.text) == ("500", "1,250.5", "1,199.4")
    assert (fall.paid.text, fall.credited.text, fall.in_flight.text) == ("600", "399.4", "200")
    assert (fall.carried.text, fall.unallocated.text, fall.undecided.text) == ("0.6", "550.5", "0")
    (bridge,) = [item for item in small_report.pending if item.asset.id == USDX]
    assert (bridge.free.text, bridge.in_flight.text, bridge.owed.text) == ("558.1", "200", "399.4")
    assert {item.account: item.balance.text for item in small_report.suspense} == {
        "suspense:in": "7",
        "suspense:out": "0",
    }


async def test_report__same_rows__same_bytes(database: Database, small_report: Report):
    again = await report(database)
    assert (render_html(again), render_json(again)) == (render_html(small_report), render_json(small_report))


async def test_report__empty_database__nothing_reconciled_and_still_a_page(database: Database):
    empty = await report(database)
    assert empty.verdict is Verdict.UNRECONCILED
    assert "Nothing has been distributed yet." in Page(render_html(empty)).text


async def test_json__small_world__amounts_are_strings_and_keys_sorted(small_report: Report):
    text = render_json(small_report)
    document = json.loads(text)
    assert document["waterfalls"][0]["earned"] == "1250500000"
    assert document["generated_at"] == T0 + 400
    assert text == json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


async def test_html__small_world__needs_nothing_else(small_report: Report):
    page = Page(render_html(small_report))
    assert page.open == []
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "form"}
    assert not [attrs for _, attrs in page.elements if {"src", "href", "onclick"} & set(attrs)]
    css = render_html(small_report).split("<style>")[1].split("</style>")[0]
    assert not re.search(r"url\(|@import|https?:", css)


async def test_html__text_from_outside__escaped(small_report: Report):
    html = render_html(small_report)
    assert "<b>" not in html
    assert "&lt;b&gt;donation&lt;/b&gt;" in html


async def test_html__every_table__has_caption_scopes_and_labels(small_report: Report):
    page = Page(render_html(small_report))
    tags = [tag for tag, _ in page.elements]
    assert tags.count("table") == tags.count("caption") > 10
    assert all("scope" in attrs for tag, attrs in page.elements if tag == "th")
    assert all(attrs.get("data-label") for tag, attrs in page.elements if tag == "td")


async def test_html__every_amount__carries_its_atoms(small_report: Report):
    amounts = [attrs for tag, attrs in Page(render_html(small_report)).elements if tag == "data"]
    assert len(amounts) > 40
    assert all(re.fullmatch(r"-?\d+", attrs["value"] or "") and "atoms" in (attrs["title"] or "") for attrs in amounts)


async def test_html__eighteen_decimals__every_digit_is_there(small_report: Report):
    assert "9.999099999999999631" in Page(render_html(small_report)).text


async def test_html__charts__every_mark_stays_inside_its_drawing(small_report: Report):
    rects = [attrs for tag, attrs in Page(render_html(small_report)).elements if tag == "rect" and "mark" in str(attrs)]
    assert len(rects) > 10
    assert all(int(r["x"] or "") >= 0 and int(r["x"] or "") + int(r["width"] or "") <= WIDTH for r in rects)


async def test_html__negative_remainder__chart_shows_it(database: Database):
    await build_world(database)
    async with database.snapshot() as transaction:
        facts = await transaction.reports.facts()
    # Without the opening, what decisions took from it leaves less than nothing unallocated.
    flows = tuple(flow for flow in facts.flows if flow.source not in ("opening", "log"))
    html = render_html(assemble(dataclasses.replace(facts, flows=flows)))
    rects = [attrs for tag, attrs in Page(html).elements if tag == "rect" and "mark" in str(attrs)]
    assert all(int(r["x"] or "") >= 0 and int(r["x"] or "") + int(r["width"] or "") <= WIDTH for r in rects)
    assert "−1,200.00" in html


async def test_write__directory_missing__made_and_both_files_whole(small_report: Report, tmp_path: Path):
    page, data, manifest = await write(small_report, tmp_path / "reports" / "today")
    assert page.read_text(encoding="utf-8") == render_html(small_report)
    assert data.read_text(encoding="utf-8") == render_json(small_report)
    assert sorted(path.name for path in page.parent.iterdir()) == [
        "manifest.json",
        "report.html",
        "report.json",
    ]
    assert manifest == page.with_name("manifest.json")


async def test_write__again__replaces_the_last_one(small_report: Report, tmp_path: Path):
    (tmp_path / "report.html").write_text("old")
    page, *_ = await write(small_report, tmp_path)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


async def test_html__distribution__says_where_it_landed(small_report: Report):
    html = render_html(small_report)
    for distribution in small_report.distributions:
        assert hexed(distribution.distribution_id) in html
        assert all(hexed(tx) in html for tx in distribution.tx_hashes)


# ── Periods ─────────────────────────────────────────────────────────────────────────────────────────────────────────
async def test_report__two_periods__opening_is_the_prior_closing_and_both_make_the_whole(database: Database):
    await build_world(database)
    first = await report(database, Window(T0 - 100, T0 + 160))
    second = await report(database, Window(T0 + 160, T0 + 410))
    closing = {(row.account, row.closing.asset): row.closing for row in first.roll_forward}
    opening = {(row.account, row.opening.asset): row.opening for row in second.roll_forward}
    assert closing[VAULT_CODE, first.waterfalls[0].asset].text == "1,757.5"
    assert closing == {key: opening[key] for key in closing}
    whole = await report(database)
    assert [row.closing for row in second.roll_forward] == [row.closing for row in whole.roll_forward]
    assert [row.difference for row in second.roll_forward] == [row.difference for row in whole.roll_forward]
    assert second.verdict is Verdict.BREAKS


async def test_report__empty_period__closes_as_it_opened_and_says_so_on_the_page(database: Database):
    await build_world(database)
    empty = await report(database, Window(T0 + 300, T0 + 330))
    assert all(row.opening == row.closing for row in empty.roll_forward)
    assert (empty.movements, empty.distributions, empty.gas) == ((), (), ())
    text = Page(render_html(empty)).text
    assert "From 2026-09-21 14:18:20 UTC to 2026-09-21 14:18:50 UTC, the end not included." in " ".join(text.split())


async def test_report__period__same_bytes_when_the_chain_has_gone_on(database: Database):
    await build_world(database)
    period = Window(T0, T0 + 300)
    before = await report(database, period)
    async with database.begin() as transaction:
        run = transaction.connection.execute
        await run("UPDATE heads SET finalized_number = 41, finalized_timestamp = $1", T0 + 410)
        await run("UPDATE cursors SET block_number = 41")
        await run("INSERT INTO reconciliations (finished_at, verdict) VALUES (now(), 'balanced')")
        await run(
            "INSERT INTO reorgs (chain, ancestor_number, ancestor_hash, old_head, blocks_orphaned)"
            " SELECT chain, 40, ancestor_hash, 41, 1 FROM reorgs"
        )
    assert render_json(await report(database, period)) == render_json(before)


async def test_report__chain_was_down_when_the_period_ended__no_verdict_until_it_is_back(database: Database):
    """The runs up to the last final block, of T0 + 400, were balanced: that says nothing of an hour later."""
    await build_world(database)
    async with database.begin() as transaction:
        run = transaction.connection.execute
        await run("UPDATE breaks SET state = 'resolved', resolved_at = now()")
        await run("INSERT INTO reconciliations (finished_at, verdict) VALUES (now(), 'balanced')")
    down = await report(database, Window(T0, T0 + 4_000))
    assert down.verdict is Verdict.UNRECONCILED
    assert f"{CHAIN}: no block at or after the end of the period is final yet; its figures may still grow." in (
        down.limitations
    )
    assert f"This period has not ended on {CHAIN}: no block after it" in " ".join(Page(render_html(down)).text.split())
    assert down.generated_at == T0 + 400


class Mute(FakeReader):
    """A node that is down."""

    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        raise ChainUnavailable("no endpoint answers")


async def test_report__node_is_down__said_where_it_is_asked_and_written_where_it_is_not(database: Database):
    await build_world(database)
    period = Window(T0, T0 + 300)
    with pytest.raises(ChainUnavailable):
        await report(database, period, chains={CHAIN: Mute(FakeChain())})
    written = await report(database, period)
    assert {row.on_chain for row in written.roll_forward} == {None}
    assert "3 watched balances had no on-chain reading at the block that ends the period." in written.limitations


class Teller(FakeReader):
    """Says what each account held at one block, and is asked for nothing else."""

    def __init__(self, held: dict[tuple[bytes, str], int]) -> None:
        super().__init__(FakeChain())
        self.held = held
        self.asked: list[tuple[bytes, str, BlockStamp]] = []

    async def balance(self, account: Address, asset: AssetId, at: BlockStamp) -> int:
        self.asked.append((account, asset, at))
        return self.held[account, asset]


async def test_report__of_a_period_with_a_chain__asks_for_what_no_run_has_read_there(database: Database):
    await build_world(database)
    period = Window(T0, T0 + 300)
    teller = Teller({(VAULT, USDX): 758_100_000, (DISTRIBUTOR, USDX): 399_400_001, (OPERATOR, ETH): 10 * WEI - 3 * FEE})
    silent = await report(database, period)
    assert {row.on_chain for row in silent.roll_forward} == {None}
    asked = await report(database, period, chains={CHAIN: teller})
    assert {at for *_, at in teller.asked} == {BlockStamp(CHAIN, 29, block_hash(29))}
    assert {row.account: row.difference and row.difference.atoms for row in asked.roll_forward} == {
        VAULT_CODE: 0,
        DISTRIBUTOR_CODE: 1,
        OPERATOR_CODE: 0,
    }
    assert asked.verdict is Verdict.BREAKS


async def test_report__with_a_chain__what_was_skipped_is_asked_for_and_what_was_read_is_not(database: Database):
    await build_world(database)
    teller = Teller({(VAULT, ETH): 0})
    asked = await report(database, chains={CHAIN: teller})
    assert [account for account, *_ in teller.asked] == [VAULT]
    assert all(row.difference is not None and row.difference.atoms == 0 for row in asked.roll_forward)
