"""Metrics through a real socket, read by the library that reads them for others."""

from __future__ import annotations

from collections.abc import Iterable

import aiohttp
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from bridge.domain.errors import DatabaseUnavailable
from bridge.http.metrics import MetricRoutes, Read
from bridge.runtime.metrics import Sample, exposition
from bridge.store.database import Database
from bridge.store.metrics import read_metrics
from tests.stages.world import CHAIN, USDX, build_world


async def scraped(read: Read) -> tuple[int, str, str]:
    runner = web.AppRunner(MetricRoutes(read).application())
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/metrics"
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()
    finally:
        await runner.cleanup()


def told(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics__small_world__what_status_says(database: Database):
    await build_world(database)

    async def read() -> Iterable[Sample]:
        async with database.snapshot() as transaction:
            return await read_metrics(transaction, {CHAIN: 50})

    status, kind, text = await scraped(read)
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    found = told(text)

    def value(name: str, **labels: str) -> float:
        return found[name, frozenset(labels.items())]

    assert value("bridge_finalized_block", chain=CHAIN) == 40
    assert value("bridge_open_breaks", kind="unexpected_in") == 1
    assert value("bridge_balanced") == 0
    assert value("bridge_consistency_ppm") == 833_333  # five of six
    assert value("bridge_coverage_ppm") == 857_142  # six of seven
    assert value("bridge_distributions", state="final") == 1
    assert value("bridge_break_detect_seconds", quantile="0.5") == 3_200
    assert value("bridge_break_resolve_seconds", quantile="0.95") == 3_600
    assert value("bridge_post_lag_milliseconds", chain=CHAIN, quantile="0.95") == 0
    # This world is made just now, in no order: its payout is settled before or after it is booked, in whole seconds.
    posted, final = (value(f"bridge_mined_to_{what}_seconds", quantile="0.5") for what in ("posted", "final"))
    assert abs(posted - final) < 60
    assert value("bridge_auto_match_ppm") == 952_380  # twenty journals, one open break
    assert ("bridge_conditions", frozenset({("condition", "low_gas_balance")})) in found


async def test_metrics__database_away__the_scrape_fails():
    async def read() -> Iterable[Sample]:
        raise DatabaseUnavailable("nobody answers")

    assert (await scraped(read))[:1] == (503,)


@given(st.text(st.characters(exclude_characters="\r", codec="utf-8"), max_size=20), st.integers(-(2**256), 2**256))
def test_exposition__any_label_and_amount__read_back_and_every_digit_written(text: str, amount: int):
    written = exposition([Sample("bridge_suspense_atoms", "What lies there.", amount, {"symbol": text})])
    assert told(written) == {("bridge_suspense_atoms", frozenset({("symbol", text)})): amount}
    assert written.endswith(f" {amount}\n")


def test_sample__name_that_is_none__refused():
    with pytest.raises(AssertionError, match="no name"):
        Sample("bridge-lag", "", 1)


def test_suspense__asset__named_by_its_id():
    labels = {"account": "suspense:in", "asset": USDX, "symbol": "USDX"}
    (line,) = exposition([Sample("bridge_suspense_atoms", "x", -7, labels)]).splitlines()[2:]
    assert line == f'bridge_suspense_atoms{{account="suspense:in",asset="{USDX}",symbol="USDX"}} -7'
