"""A real browser for tests of pages: the Chromium of the system, without a window and without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_MAC = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--force-color-profile=srgb",
)


def find_browser() -> str:
    """Skips the test where there is none; where CI is set that is a failure."""
    named = [os.environ.get("BRIDGE_CHROMIUM", ""), *_NAMES, str(_MAC)]
    found = next((path for name in named if name and (path := shutil.which(name))), None)
    if found is not None:
        return found
    missing = "no Chromium on PATH: scripts/setup --browser installs one as root on Debian; else set BRIDGE_CHROMIUM"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    async with async_playwright() as driver:
        browser = await driver.chromium.launch(executable_path=find_browser(), args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()
