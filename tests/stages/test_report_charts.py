"""Charts as text: their labels leave room for their figures, whatever these are; and the page on paper."""

import re

from hypothesis import given
from hypothesis import strategies as st

from bridge.domain.ledger import Asset
from bridge.domain.reports.assembly import assemble
from bridge.domain.reports.facts import Facts
from bridge.domain.reports.report import Amount
from bridge.domain.units import AssetId
from bridge.stages.report_html import render_html
from bridge.stages.report_pdf import render_pdf
from bridge.stages.report_sections.charts import short_amount
from bridge.stages.report_sections.page import page_of
from tests.stages.rich import rich_report


@given(st.integers(-(2**256), 2**256), st.integers(0, 36))
def test_short_amount__any__short_and_its_first_digits_are_right(atoms: int, decimals: int):
    amount = Amount(atoms, Asset(AssetId("a/b"), "a", None, "ANY", decimals))
    shown, whole = short_amount(amount), amount.text.replace("-", "−")
    assert len(shown) <= 25
    head = re.sub(r"…( \(\d+ digits\))?$", "", shown)
    assert whole.startswith(head) or (head.startswith(whole) and not head.strip(f"{whole}.0"))


def test_charts__same_report__same_bytes_and_a_name_of_its_own_each():
    def drawn() -> list[tuple[str, str]]:
        blocks = [block for section in page_of(rich_report()).sections for block in section.blocks]
        return [(chart.name, chart.draw("")) for block in blocks for chart in getattr(block, "charts", ())]

    assert drawn() == drawn()
    names = [name for name, _ in drawn()]
    assert len(set(names)) == len(names) > 6
    assert all(not re.search(r'[\d"]\.\d', svg.partition("<title")[0]) for _, svg in drawn())


def test_pdf__same_report__same_bytes_and_the_sections_of_the_page():
    made = render_pdf(rich_report())
    assert made == render_pdf(rich_report())
    pages = re.search(rb"<xmpTPg:NPages>(\d+)<", made)
    assert pages is not None
    assert 5 < int(pages[1]) < 30
    titles = re.findall(r'<h2 id="[a-z]+">([^<]+)</h2>', render_html(rich_report()))
    # The outline has the headings: plain text where it is of ASCII alone.
    assert titles == [section.title for section in page_of(rich_report()).sections]
    outline = [title for title in titles if f"/Title({title})".encode() in made]
    assert outline == titles


def test_pdf__nothing_yet__a_page_all_the_same():
    empty = assemble(Facts((), (), None, (), (), (), (), (), (), (), (), (), {}))
    assert render_pdf(empty).startswith(b"%PDF")
