"""Which modules a command loads: its own, and all of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import typer

from bridge.cli.app import app
from bridge.cli.main import COMMANDS, register
from tests.cli.program import bridge

HEAVY = ("eth_abi", "eth_account", "solana", "aiohttp", "jinja2")


def registered(group: typer.Typer, words: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """(its words, the module that has it) of each command."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield " ".join([*words, command.name or ""]), command.callback.__module__
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        name = inner.typer_instance.info.name
        assert isinstance(name, str)
        yield from registered(inner.typer_instance, (*words, name))


def test_every_command_is_looked_for_where_it_is() -> None:
    register([])
    found = dict(registered(app))
    expected = {
        words: f"bridge.cli.{COMMANDS[words] if words in COMMANDS else COMMANDS[words.split()[0]]}" for words in found
    }
    assert found == expected
    assert {words.split()[0] for words in found} == {name.split()[0] for name in COMMANDS}


def test_where_no_command_is_named_all_are_listed() -> None:
    listed = bridge("--help").stdout
    assert [name for name in COMMANDS if f"  {name.split()[0]} " not in listed] == []


def test_a_group_lists_also_what_is_loaded_apart() -> None:
    register(["rules", "--help"])
    register(["payouts"])
    assert {"rules backtest", "payouts veto", "rules check"} <= dict(registered(app)).keys()


def test_an_unknown_command_is_named() -> None:
    run = bridge("no-such-command")
    assert run.returncode == 2
    assert "No such command 'no-such-command'" in run.stderr


def test_a_command_on_the_books_loads_no_library_of_a_chain() -> None:
    code = (
        "import sys; from bridge.cli.main import register; register(['status']); register(['rules', 'check']); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert loaded.stdout.strip() == "[]"


def test_the_version_is_said() -> None:
    assert bridge("--version").stdout == "bridge 0.1.0\n"
