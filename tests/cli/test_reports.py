"""What the options of `bridge report` mean."""

from pathlib import Path

import pytest

from bridge.cli.reports import _formats, _period, write_report
from bridge.domain.errors import ConfigError
from bridge.domain.windows import Window

NOVEMBER = Window(1_793_491_200, 1_796_083_200)


def test_period__month_or_its_bounds__the_same():
    assert _period("2026-11", None, None) == NOVEMBER
    assert _period(None, "2026-11-01", "2026-12-01T00:00Z") == NOVEMBER
    assert _period(None, None, None) is None


@pytest.mark.parametrize(
    ("name", "since", "until", "said"),
    [
        ("2026-11", "2026-11-01", None, "--period: names a period already"),
        ("2026-13", None, None, "--period: `2026-13` month must be"),
        ("November", None, None, "--period: `November` is not a year, month or day"),
        (None, "2026-11-01", None, "--to: is missing"),
        (None, None, "2026-11-01", "--from: is missing"),
        (None, "2026-11-01", "2026-11-01", "--to: `2026-11-01` is not after"),
        (None, "19000000", "2026-11-01", "--from: `19000000` is not a date"),
        (None, "1969-11-01", "2026-11-01", "--from: `1969-11-01` is not a date"),
    ],
)
def test_period__options_that_make_none__named_with_the_mend(
    name: str | None, since: str | None, until: str | None, said: str
):
    with pytest.raises(ConfigError, match=f"^{said}"):
        _period(name, since, until)


def test_formats__some__as_a_set():
    assert _formats("csv, html") == {"csv", "html"}


def test_formats__unknown_or_none__named_with_those_there_are():
    with pytest.raises(
        ConfigError, match="--format: `doc` is no format\n  mend: name some of: html, pdf, json, csv, parquet, camt053"
    ):
        _formats("html,doc")
    with pytest.raises(ConfigError, match="`` is no format"):
        _formats("")


def test_report__camt053_without_a_period__refused_before_anything_is_read():
    with pytest.raises(ConfigError, match="camt053 is a statement of a period"):
        write_report(formats="camt053", out=Path("nowhere"), period=None, since=None, until=None)
    assert not Path("nowhere").exists()
