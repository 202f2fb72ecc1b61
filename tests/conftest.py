"""What every test shares: how far random tests search, and how a failure is run again."""

import asyncio
import os
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from hypothesis import HealthCheck, settings

from bridge.simulation.postgres import Postgres
from bridge.store.database import Database
from bridge.store.migrations import migrate

TESTS = Path(__file__).parent
TEMPLATE = "bridge_template"

QUICK_ONE_IN = 10
QUICK_WHOLE = ("domain", "http", "prices", "rules", "runtime")
"""Folders whose tests need neither a database nor a chain."""

# Each failure prints the blob that reproduces it. Seeds differ on each run, on purpose: over time more is searched.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=False,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", settings.get_profile("default"), max_examples=25)
settings.register_profile("long", settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="what is slow is left out, of other modules a tenth is run")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With --quick: the same ones each time, and of each module the first, so that nothing is wholly broken."""
    if not config.getoption("--quick"):
        return
    places: Counter[Path] = Counter()
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        if item.get_closest_marker("slow") is not None:
            left.append(item)
            continue
        whole = item.path.relative_to(TESTS).parts[0] in QUICK_WHOLE
        (kept if whole or places[item.path] % QUICK_ONE_IN == 0 else left).append(item)
        places[item.path] += 1
    config.hook.pytest_deselected(items=left)
    items[:] = kept


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Postgres server for this process, with one migrated database to copy from."""
    with asyncio.Runner() as runner:  # its loop outlives each test's
        postgres = runner.run(Postgres.start(tmp_path_factory.mktemp("postgres") / "postgres.log"))
        runner.run(_make_template(postgres.url))
        yield postgres.url
        runner.run(postgres.stop())


@pytest.fixture
async def database_url(postgres_url: str) -> AsyncIterator[str]:
    """The URL of a fresh, migrated database of this test's own."""
    name = f"test_{uuid.uuid4().hex}"
    await _administer(postgres_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield database_named(postgres_url, name)
    await _administer(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A fresh, migrated database of this test's own, opened."""
    database = await Database.open(database_url)
    yield database
    await database.close()


def database_named(url: str, name: str) -> str:
    """The same server, another database."""
    return url.replace("/bridge?", f"/{name}?")


async def _administer(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def _make_template(url: str) -> None:
    await _administer(url, f"CREATE DATABASE {TEMPLATE}")
    database = await Database.open(database_named(url, TEMPLATE))
    await migrate(database)
    await database.close()
