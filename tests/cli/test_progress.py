"""What a long command says of itself: without a terminal a line now and then, and nothing if it is short."""

import io

import pytest

from bridge.cli.progress import QUIET_S, Progress


def test_progress__no_terminal__a_line_only_once_it_takes_long(monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr("bridge.cli.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress(stream) as progress:
        progress.tell("reading rows")
        now[0] += QUIET_S
        progress.tell("writing [red]report.html[/red]")
        progress.tell("writing report.json")
    assert stream.getvalue() == "writing [red]report.html[/red]\n"
