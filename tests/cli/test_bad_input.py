"""What the program says to mistakes: exit code 2 and one message with the place and the mend, never a stack trace."""

import asyncio
import http.server
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from bridge.runtime.rulefile import load_rule
from bridge.store.database import Database
from bridge.store.migrations import migrate
from tests.cli.program import bridge

pytestmark = pytest.mark.slow  # each starts the program anew

START_TIMEOUT_S = 60
GENESIS = bytes(32)
PRIVATE_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The directory of a running `bridge sandbox`."""
    directory = tmp_path_factory.mktemp("cli") / "sandbox"
    command = [sys.executable, "-m", "bridge", "sandbox", str(directory), "--seed", "7", "--block-time", "0.2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not (directory / "sandbox.json").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield directory
        finally:
            process.send_signal(signal.SIGTERM)


@dataclass(frozen=True)
class Place:
    """An operator's directory: the sandbox's files, with a database of its own."""

    directory: Path
    facts: dict[str, Any]

    @property
    def config(self) -> Path:
        return self.directory / "bridge.toml"

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace the one place in the file that reads `old`, a regular expression."""
        path = self.directory / name
        text, count = re.subn(old, lambda _: new, path.read_text(), count=1, flags=re.MULTILINE)
        assert count == 1, f"{path} has no {old}"
        path.write_text(text)

    def refused(self, *arguments: str, **environment: str) -> str:
        """The one message of a run that ends with exit code 2."""
        run = bridge(*(arguments or ("run",)), "--config", self.config, environment=environment)
        return self.without_line(refusal(run))

    def without_line(self, message: str) -> str:
        """The message without the line of the file that it names, which is the field's or its section's own."""
        found = re.search(rf"{self.config}:(\d+): \[([\w.]+)\] ?([\w.]*)", message)
        if found is None:
            return message
        line = self.config.read_text().splitlines()[int(found[1]) - 1]
        *_, section = found[2].split(".")
        assert section in line or line.startswith(found[3].split(".")[-1]), (line, message)
        return message.replace(f"{self.config}:{found[1]}: [", f"{self.config}: [")


def refusal(run: subprocess.CompletedProcess[str]) -> str:
    assert (run.returncode, "Traceback" in run.stderr) == (2, False), run.stderr
    # The daemon's log goes to standard error too: a record a line, in JSON.
    said = "\n".join(line for line in run.stderr.splitlines() if not line.startswith('{"'))
    assert said.startswith("bridge: "), run.stderr
    assert said.count("bridge: ") == 1, run.stderr
    assert "\n  mend: " in said, said
    return said


async def in_database(url: str, work: Callable[[Database], Awaitable[None]]) -> None:
    database = await Database.open(url, connections_max=1)
    try:
        await work(database)
    finally:
        await database.close()


async def create_database(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()


@pytest.fixture
def empty(sandbox: Path, tmp_path: Path) -> Place:
    """With an empty database."""
    directory = tmp_path / "operator"
    shutil.copytree(sandbox, directory, ignore=shutil.ignore_patterns("*.log", "*.lock"))
    facts = json.loads((directory / "sandbox.json").read_text())
    name = f"cli_{uuid.uuid4().hex}"
    asyncio.run(create_database(facts["database_url"], name))
    facts["database_url"] = facts["database_url"].replace("/bridge?", f"/{name}?")
    place = Place(directory, facts)
    place.edit("bridge.toml", r"^url = .*$", f'url = "{facts["database_url"]}"')
    return place


@pytest.fixture
def place(empty: Place) -> Place:
    """With a migrated database."""
    asyncio.run(in_database(empty.facts["database_url"], migrated))
    return empty


async def migrated(database: Database) -> None:
    await migrate(database)


# ── The file ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_config__wrong_key__named_with_line_and_suggestion(place: Place):
    place.edit("bridge.toml", "^start_block", "start_blok")
    line = place.config.read_text().splitlines().index(f"start_blok = {place.facts['start_block']}") + 1
    message = place.refused()
    assert f"{place.config}:{line}: chains.anvil.start_blok: unknown key" in message
    assert "did you mean `start_block`?" in message


def test_config__no_toml__line_and_column(place: Place):
    place.edit("bridge.toml", r"^\[logs\]$", "[logs")
    message = place.refused()
    assert f"{place.config}: is not valid TOML" in message
    assert re.search(r"at line \d+, column \d+", message)


def test_config__missing__says_how_to_get_one(tmp_path: Path):
    message = refusal(bridge("run", "--config", tmp_path / "none.toml"))
    assert f"{tmp_path / 'none.toml'}: cannot be read: No such file" in message
    assert "bridge sandbox DIR" in message


def test_config__private_key_in_plain_text__refused_and_not_repeated(place: Place):
    place.edit("bridge.toml", '^keystore = "operator.json"', f'keystore = "{PRIVATE_KEY}"')
    message = place.refused()
    assert "chains.anvil.operator.keystore: this looks like a private key in plain text" in message
    assert "keystore file" in message
    assert PRIVATE_KEY[2:] not in message


# ── The node ────────────────────────────────────────────────────────────────────────────────────────────────────────
def serve_rpc_from(place: Place, url: str) -> None:
    place.edit("bridge.toml", r"^rpc = .*$", f'rpc = ["{url}"]')


def test_rpc__nobody_answers__names_field_and_endpoint(place: Place):
    serve_rpc_from(place, "http://127.0.0.1:1/secret-api-key")
    message = place.refused()
    assert f"{place.config}: [chains.anvil] rpc: no endpoint answers: 127.0.0.1:1 " in message
    assert "correct the URL, or start the node" in message
    assert "secret-api-key" not in message


@contextmanager
def web_server(body: bytes) -> Iterator[str]:
    """Says `body` to everything."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome</html>",
        b'{"status": "ok"}',
        b'{"jsonrpc": "2.0", "id": 1, "result": "welcome"}',
        b'{"jsonrpc": "2.0", "id": 1, "error": {"code": -32601, "message": "method not found"}}',
    ],
    ids=["html", "other json", "no number", "no method"],
)
def test_rpc__no_node_of_this_kind__says_what_it_answered(place: Place, body: bytes):
    with web_server(body) as url:
        serve_rpc_from(place, url)
        message = place.refused()
    assert f"{place.config}: [chains.anvil] rpc: " in message
    assert url.removeprefix("http://") in message


def test_rpc__other_chain__names_both_ids(place: Place):
    place.edit("bridge.toml", "^chain_id = .*$", "chain_id = 1")
    message = place.refused()
    assert f"{place.config}: [chains.anvil] chain_id: " in message
    assert "serves chain id 31337, configured is 1" in message
    assert "set chain_id = 31337" in message


@pytest.mark.parametrize(("kind", "name"), [("contracts", "vault"), ("tokens", "USDX")])
def test_address__without_code__named(place: Place, kind: str, name: str):
    entry = place.facts[kind][name]
    nobody = "0x00000000000000000000000000000000deadbeef"
    place.edit("bridge.toml", entry if isinstance(entry, str) else entry["address"], nobody)
    message = place.refused()
    assert f"{place.config}: [chains.anvil] {kind}.{name}: there is no contract at {nobody}" in message


# ── The contracts ───────────────────────────────────────────────────────────────────────────────────────────────────
def test_governance__not_as_configured__each_difference_named(place: Place):
    place.edit("bridge.toml", "^guardians = .*$", f'guardians = ["0x{"ab" * 20}"]')
    place.edit("bridge.toml", "^delay_s = .*$", "delay_s = 1")
    message = place.refused()
    assert f"{place.config}: [chains.anvil] governance: the contracts are not as configured:" in message
    assert f"vault: {place.facts['admin']} has GUARDIAN_ROLE and should not" in message
    assert f"distributor: 0x{'ab' * 20} should have GUARDIAN_ROLE and has it not" in message
    assert "distributor: delay is 3600, not 1" in message


def test_deploy__the_operator_itself__refused_before_anything_is_sent(place: Place):
    arguments = ("deploy", "--keystore", str(place.directory / "operator.json"), "--password-env", "OPERATOR_PASSWORD")
    password = (place.directory / "operator.password").read_text().strip()
    message = place.refused(*arguments, OPERATOR_PASSWORD=password)
    assert "the deployer is the operator" in message
    assert not (place.directory / "deployment-anvil.json").exists()


def test_deploy__password_not_set__says_so(place: Place):
    arguments = ("deploy", "--keystore", str(place.directory / "operator.json"), "--password-env", "NO_SUCH_VARIABLE")
    assert "the environment variable NO_SUCH_VARIABLE is not set" in place.refused(*arguments)


# ── The database ────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("command", ["run", "migrate"])
def test_database__nobody_answers__names_field(place: Place, command: str):
    place.edit("bridge.toml", "^url = .*$", 'url = "postgresql://bridge:hush@127.0.0.1:1/bridge"')
    message = place.refused(command)
    assert f"{place.config}: [database] url: the database cannot be reached" in message
    assert "start Postgres" in message
    assert "hush" not in message


def test_database__no_such_name__named(place: Place):
    place.edit("bridge.toml", "/cli_[0-9a-f]+", "/ledgers")
    message = place.refused()
    assert f"{place.config}: [database] url: the database cannot be reached: " in message
    assert 'database "ledgers" does not exist' in message


def test_database__no_url__says_what_one_looks_like(place: Place):
    place.edit("bridge.toml", "^url = .*$", 'url = "mysql://localhost/bridge"')
    assert f"{place.config}: [database] url: " in place.refused("status")


def test_database__variable_of_its_url_not_set__named(place: Place):
    place.edit("bridge.toml", "^url = .*$", 'url_env = "BRIDGE_DATABASE_URL"')
    message = place.refused("status", BRIDGE_DATABASE_URL="")
    assert f"{place.config}: [database] url_env: the environment variable BRIDGE_DATABASE_URL is not set" in message


def test_database__not_migrated__names_the_command_to_type(empty: Place):
    message = empty.refused()
    assert "schema version 0" in message
    assert f"mend: run: bridge migrate --config {empty.config}" in message


def test_database__newer_than_the_program__says_so(place: Place):
    async def from_the_future(database: Database) -> None:
        async with database.begin() as transaction:
            await transaction.connection.execute(
                "INSERT INTO schema_migrations (version, name, sha256) VALUES (999, '0999_future', '')"
            )

    asyncio.run(in_database(place.facts["database_url"], from_the_future))
    message = place.refused()
    assert f"{place.config}: [database]: " in message
    assert "newer than this program" in message


def test_database__of_another_chain__refused(place: Place):
    async def other_genesis(database: Database) -> None:
        async with database.begin() as transaction:
            await transaction.chains.register("anvil", "evm", "eip155:31337", GENESIS, place.facts["start_block"])

    asyncio.run(in_database(place.facts["database_url"], other_genesis))
    message = place.refused()
    assert f"{place.config}: [chains.anvil]: the database knows this name as " in message
    assert "use a new database for a new chain" in message


def test_start_block__changed__refused(place: Place):
    first = bridge("reconcile", "--config", place.config)
    assert "nothing is booked yet" in first.stderr
    place.edit("bridge.toml", "^start_block = .*$", "start_block = 0")
    message = place.refused()
    assert f"{place.config}: [chains.anvil] start_block: start_block is 0" in message
    assert f"set it back to {place.facts['start_block']}" in message


# ── Rules ───────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_rule__unknown_key__shown_where_it_stands(place: Place):
    place.edit("rules/fee_window.yaml", "^surplus:", "surpluss:")
    message = place.refused()
    assert re.search(rf"{place.directory}/rules/fee_window\.yaml:\d+:1: unknown key `surpluss`", message)
    assert "did you mean `surplus`?" in message


def test_rule__unknown_name_in_an_expression__caret_and_suggestion(place: Place):
    place.edit("rules/fee_window.yaml", "^surplus:.*$", "surplus: fes")
    message = place.refused()
    assert re.search(r"fee_window\.yaml:\d+:10: unknown name `fes`", message)
    assert f"    surplus: fes\n    {' ' * 9}^\n" in message
    assert "did you mean `fees`?" in message


def test_rule__other_text_under_the_same_version__stops_the_daemon(place: Place):
    async def remember(database: Database) -> None:
        async with database.begin() as transaction:
            rule = load_rule(place.directory / "rules/fee_window.yaml").rule
            await transaction.decisions.save_rule("anvil", rule)

    asyncio.run(in_database(place.facts["database_url"], remember))
    place.edit("rules/fee_window.yaml", "^ *minimum_total: .*$", "  minimum_total: 5")
    message = place.refused()
    assert "rule fee_window: version" in message
    assert "version 2 was loaded before with another text" in message
    assert "raise it to 3" in message


# ── The key ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_keystore__private_key_in_plain_text__refused_and_not_repeated(place: Place):
    (place.directory / "operator.json").write_text(PRIVATE_KEY + "\n")
    message = place.refused()
    assert f"{place.config}: [chains.anvil.operator] keystore: " in message
    assert "holds a private key in plain text" in message
    assert PRIVATE_KEY[2:] not in message


def test_keystore__wrong_password__says_so_and_not_which(place: Place):
    (place.directory / "operator.password").write_text("hunter2\n")
    message = place.refused()
    assert f"{place.config}: [chains.anvil.operator] password: the password does not open" in message
    assert "hunter2" not in message


def test_keystore__password_file_missing__named(place: Place):
    (place.directory / "operator.password").unlink()
    message = place.refused()
    assert f"{place.config}: [chains.anvil.operator] password_file: cannot read" in message


def test_keystore__variable_of_its_password_not_set__named(place: Place):
    place.edit("bridge.toml", "^password_file = .*$", 'password_env = "BRIDGE_PASSWORD"')
    message = place.refused("run", BRIDGE_PASSWORD="")
    assert "[chains.anvil.operator] password_env: the environment variable BRIDGE_PASSWORD is not set" in message


# ── The command line ────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["simulate", "--epochs", "0"], "'--epochs'"),
        (["simulate", "--seed", "seven"], "'--seed'"),
        (["sandbox"], "'DIR'"),
        (["reconsile"], "'reconsile'"),
        (["run", "--conf", "bridge.toml"], "--conf"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments__wrong__usage_and_what_is_wrong(arguments: list[str], said: str):
    run = bridge(*arguments)
    assert (run.returncode, "Traceback" in run.stderr) == (2, False), run.stderr
    assert run.stderr.startswith("Usage: ")
    assert said in run.stderr


def test_sandbox__senseless_number__refused(tmp_path: Path):
    run = bridge("sandbox", tmp_path / "box", "--block-time", "-1")
    assert (run.returncode, run.stderr) == (2, "bridge: block time must be 0.05 … 600 seconds\n")
    assert not (tmp_path / "box").exists()


@pytest.mark.parametrize("command", ["simulate", "sandbox"])
def test_simulation__rule_without_a_scene__refused_with_those_that_have_one(tmp_path: Path, command: str):
    directory = [tmp_path / "box"] if command == "sandbox" else []
    message = refusal(bridge(command, *directory, "--rule", "fee_windw"))
    assert "there is no scene for the rule `fee_windw`" in message
    assert "name one of reserve_buffer, fee_window, inflow_smoothing, price_improvement, signed_buffer, " in message
    assert list(tmp_path.iterdir()) == []


def test_sandbox__directory_of_something_else__refused_untouched(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("years of work")
    message = refusal(bridge("sandbox", tmp_path))
    assert f"{tmp_path}: is not empty and no sandbox" in message
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_simulate__output_that_cannot_be_written__refused_before_anything_starts(tmp_path: Path):
    (tmp_path / "file").touch()
    for option in ("--json", "--out"):
        message = refusal(bridge("simulate", option, tmp_path / "file" / "below"))
        assert f"{option} {tmp_path / 'file' / 'below'}" in message
