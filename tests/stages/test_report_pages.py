"""The report's and the backtest's page in a real browser: as a desk, a phone and a sheet of paper show them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page

from bridge.replay.backtest_outcome import Contest
from bridge.stages.report_html import render_html
from bridge.stages.report_sections.charts import coverage_chart
from tests.browser import open_browser
from tests.replay.test_backtest import bound, run, small_history
from tests.stages.deciding import FEES
from tests.stages.rich import rich_report

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

DESK, PHONE = (1280, 900), (390, 844)
SHEET = (1032, 700)  # what A4 across leaves between its margins
SCREENS = {"desk": DESK, "phone": PHONE}

# What stands in a box that scrolls may be wider than the page; what is hidden from eyes has no place on it.
OUTSIDE = """
() => [...document.body.querySelectorAll('*')].filter(element => {
    if (element.closest('.scroll') && !element.matches('.scroll')) return false;
    if (element.closest('svg') && element.tagName !== 'svg') return false;
    if (element.closest('.unseen, thead')) return false;
    const box = element.getBoundingClientRect();
    return box.width > 0 && (box.right > innerWidth + 0.5 || box.left < -0.5);
}).map(element => element.outerHTML.slice(0, 120))
"""

# Texts of a cell that stick out of it, and elements that hide a part of their text.
CLIPPED = """
() => [...document.querySelectorAll('th, td, dd, p, li, h1, h2, figcaption')].filter(element => {
    if (element.closest('thead') && getComputedStyle(element.closest('thead')).position === 'absolute') return false;
    if (element.matches('.unseen')) return false;
    return element.scrollWidth > element.clientWidth + 1 && getComputedStyle(element).display !== 'inline';
}).map(element => element.outerHTML.slice(0, 160))
"""

CHARTS = """
() => [...document.querySelectorAll('svg.drawing')].map(svg => {
    const frame = svg.getBoundingClientRect();
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    const cut = texts.filter(([, box]) => box.left < frame.left - 1 || box.right > frame.right + 1
        || box.top < frame.top - 1 || box.bottom > frame.bottom + 1).map(([text]) => text);
    const met = [];
    texts.forEach(([one, a], at) => texts.slice(at + 1).forEach(([other, b]) => {
        if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 2 && b.top < a.bottom - 2)
            met.push(`${one} | ${other}`);
    }));
    const marks = [...svg.querySelectorAll('.mark, polyline, circle')].filter(mark => {
        const box = mark.getBoundingClientRect();
        return box.width > 0 && box.height > 0;
    });
    return {
        title: svg.querySelector('title').textContent, words: svg.querySelector('desc').textContent.length,
        width: frame.width, height: frame.height, letter: texts[0][1].height, cut, met, marks: marks.length,
    };
})
"""

# Of each chart the kinds of marks and how each is filled: by a pattern's name, or by its brightness (0 … 1).
FILLS = """
() => [...document.querySelectorAll('svg.drawing')].map(svg => {
    const linear = part => { const s = part / 255; return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; };
    const kinds = {};
    for (const mark of svg.querySelectorAll('.mark')) {
        const fill = getComputedStyle(mark).fill;
        const rgb = fill.match(/^rgb\\((\\d+), (\\d+), (\\d+)\\)$/);
        kinds[mark.getAttribute('class')] = rgb === null ? fill.replace(/.*-/, '')
            : 0.2126 * linear(rgb[1]) + 0.7152 * linear(rgb[2]) + 0.0722 * linear(rgb[3]);
    }
    return kinds;
})
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with open_browser() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pages(browser: Browser, folder: Path) -> AsyncIterator[dict[str, Page]]:
    """Both pages, with all that they asked for and complained of."""
    chain = small_history()
    (rule,) = bound(chain, FEES)
    await run(chain, Contest(rule), folder / "backtest")
    (folder / "report.html").write_text(render_html(rich_report()), encoding="utf-8")
    opened = {}
    for name, file in (("report", "report.html"), ("backtest", "backtest/index.html")):
        page = await browser.new_page(color_scheme="light")
        asked = _listen(page)
        url = (folder / file).as_uri()
        await page.goto(url)
        assert asked == [url], "a page needs nothing but itself, and has nothing to complain of"
        opened[name] = page
    yield opened


def _listen(page: Page) -> list[str]:
    """What it asks for and complains of, as it comes."""
    heard: list[str] = []
    page.on("request", lambda request: heard.append(request.url))
    page.on("console", lambda message: heard.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))
    return heard


async def shown(pages: dict[str, Page], name: str, size: tuple[int, int], media: str = "screen") -> Page:
    page = pages[name]
    await page.emulate_media(media="print" if media == "print" else "screen", color_scheme="light")
    await page.set_viewport_size({"width": size[0], "height": size[1]})
    return page


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", ["report", "backtest"])
async def test_page__screen__fits_and_clips_nothing(pages: dict[str, Page], folder: Path, name: str, screen: str):
    page = await shown(pages, name, SCREENS[screen])
    assert await page.evaluate("document.documentElement.scrollWidth") == SCREENS[screen][0]
    assert await page.evaluate(OUTSIDE) == []
    assert await page.evaluate(CLIPPED) == []
    picture = await page.screenshot(path=folder / f"{name}-{screen}.png", full_page=True)
    assert len(picture) > 20_000


async def test_report__phone__wide_table_scrolls_in_its_own_box(pages: dict[str, Page]):
    page = await shown(pages, "report", PHONE)
    wider = await page.evaluate(
        "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth + 1).map(box =>"
        " [box.getAttribute('aria-label'), getComputedStyle(box).overflowX, box.tabIndex])"
    )
    assert wider == [["The same over time, in groups of runs", "auto", 0]]


@pytest.mark.parametrize("screen", SCREENS)
async def test_report__charts__drawn_with_every_text_whole_and_apart(pages: dict[str, Page], screen: str):
    page = await shown(pages, "report", SCREENS[screen])
    charts: list[dict[str, Any]] = await page.evaluate(CHARTS)
    assert {chart["title"].split(":")[0] for chart in charts} >= {
        "Surplus, USDX",
        "Open breaks by age",
        "Consistency",
        "Coverage",
        "mainnet",
        "Distributions by end of window (UTC), DAIX",
    }
    for chart in charts:
        assert (chart["cut"], chart["met"]) == ([], []), chart["title"]
        assert chart["width"] > 250, chart["title"]
        assert chart["height"] > 60, chart["title"]
        assert chart["letter"] >= 10, chart["title"]  # pixels: to be read
        assert chart["marks"], chart["title"]
        assert chart["words"] > 10, chart["title"]


# Beside each other on a line: how far apart, in letters of the text.
GAPS = """
() => [...document.querySelectorAll('svg.drawing')].flatMap(svg => {
    const texts = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    return texts.flatMap(([one, a], at) => texts.slice(at + 1)
        .filter(([, b]) => Math.abs(a.top - b.top) < 1)
        .map(([other, b]) => [one, other, Math.max(b.left - a.right, a.left - b.right) / (a.width / one.length)]));
})
"""


@pytest.mark.parametrize("font", ["system-ui", "monospace"])
@pytest.mark.parametrize("step_s", [60, 40_000])
async def test_report__heat_map_of_few_runs__its_labels_stand_apart(browser: Browser, step_s: int, font: str):
    """Within a day, and over several, in wide letters too; whatever there is room for, the last moment is told."""
    trend = rich_report().key_figures.trend
    times = [1_800_000_000 + step_s * at for at in range(6)]
    points = [replace(point, first_at=time, last_at=time) for point, time in zip(trend, times, strict=False)]
    page = await browser.new_page()
    await page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    await page.set_content("".join(coverage_chart(points[:runs]).draw(font) for runs in range(1, 7)))
    gaps = await page.evaluate(GAPS)
    assert gaps
    assert [(one, other) for one, other, gap in gaps if gap < 1] == []
    drawn = await page.evaluate(
        "[...document.querySelectorAll('svg')].map(svg => [...svg.querySelectorAll('text')].map(it => it.textContent))"
    )
    for time, texts in zip(times, drawn, strict=True):
        assert any(text.endswith(datetime.fromtimestamp(time, UTC).strftime("%H:%M")) for text in texts)
    await page.close()


async def test_report__charts_without_colour__kinds_differ_by_pattern_or_brightness(pages: dict[str, Page]):
    page = await shown(pages, "report", DESK)
    for kinds in await page.evaluate(FILLS):
        patterns = [fill for fill in kinds.values() if isinstance(fill, str)]
        assert len(set(patterns)) == len(patterns)
        tones = sorted(fill for fill in kinds.values() if not isinstance(fill, str))
        for dark, light in pairwise(tones):
            assert (light + 0.05) / (dark + 0.05) > 1.4, kinds


@pytest.mark.parametrize("name", ["report", "backtest"])
async def test_page__headings__one_title_and_no_level_left_out(pages: dict[str, Page], name: str):
    levels = await pages[name].evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4')].map(heading => Number(heading.tagName[1]))"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


async def test_report__verdict__is_the_first_thing_that_is_read(pages: dict[str, Page]):
    page = await shown(pages, "report", PHONE)
    verdict = page.locator("h1")
    assert "Books and chain do not agree" in await verdict.inner_text()
    box = await verdict.bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < PHONE[1] / 2


async def test_report__on_paper__dark_on_light_and_nothing_beside_the_sheet(pages: dict[str, Page]):
    page = await shown(pages, "report", SHEET, "print")
    assert await page.evaluate(OUTSIDE.replace("if (element.closest('.scroll')", "if (false && element")) == []
    ink, paper = await page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('section')).backgroundColor]"
    )
    assert (ink, paper) == ("rgb(0, 0, 0)", "rgb(255, 255, 255)")
    assert (await page.pdf(format="A4", landscape=True)).startswith(b"%PDF")


async def test_report__in_the_dark__text_stands_out_from_its_ground(pages: dict[str, Page]):
    page = await shown(pages, "report", DESK)
    await page.emulate_media(color_scheme="dark")
    ink, paper = await page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.querySelector('section')).backgroundColor]"
        ".map(colour => colour.match(/\\d+/g).map(Number).reduce((sum, part) => sum + part))"
    )
    assert ink - paper > 450
