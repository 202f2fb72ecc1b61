"""When somebody is to be woken. Nothing is kept: a table says what is due, and is asked again after a restart."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler


class Timetable:
    """Calls back at a time, or again and again. A call that was missed is made once, late."""

    def __init__(self) -> None:
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._scheduler.start()
        try:
            yield
        finally:
            self._scheduler.shutdown(wait=False)

    def every(self, interval_s: int, call: Callable[[], Awaitable[None]]) -> None:
        self._scheduler.add_job(call, "interval", seconds=interval_s)

    def at(self, name: str, time: int, call: Callable[[], Awaitable[None]]) -> None:
        """At `time`, in seconds since 1970; replaces what was said for `name` before."""
        when = datetime.fromtimestamp(time, UTC)
        self._scheduler.add_job(call, "date", run_date=when, id=name, replace_existing=True)
