"""`bridge.toml`: what an operator writes, checked before anything starts.

Every mistake is reported at once, each with the file, the line where it can be found, the field and the mend. Secrets
are never in the file: it names a keystore and where its password is.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from bridge.domain.errors import ConfigError
from bridge.domain.units import BlockStamp, hash_of
from bridge.runtime.evm_section import EvmSection
from bridge.runtime.fields import KeySection, Name, Section
from bridge.runtime.solana_section import SolanaSection

# Of 32 bytes in hex, or of 64 in base58.
_PRIVATE_KEY = re.compile(r"((0x)?[0-9a-fA-F]{64}|[1-9A-HJ-NP-Za-km-z]{86,88})\Z")
_KEY_BYTES = 64
_SECTION_AND_FIELD = re.compile(r"\[([^\[\]]+)\] ?([\w.-]*)")
_PLACEHOLDER = re.compile(r"\{(?:timestamp|timestamp_ms|timestamp_iso|key)\}")
KEY_MEND = (
    "remove the key from the file (and treat it as stolen: it may be in backups and version control); "
    'keep it in a keystore file and name that: operator = { keystore = "operator.json", password_env = "…" }'
)

ChainSection = EvmSection | SolanaSection
KINDS: Mapping[str, type[BaseModel]] = {"evm": EvmSection, "solana": SolanaSection}


class DatabaseSection(Section):
    url: str | None = None
    url_env: str | None = None  # the URL holds a password: production keeps it in the environment

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("give either url or url_env")
        return self

    def resolve(self) -> str:
        """Raises ConfigError where the named environment variable is not set."""
        if self.url is not None:
            return self.url
        assert self.url_env is not None
        return from_environment(self.url_env, "[database] url_env")


class LogsSection(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "console"] = "json"


class ListenSection(Section):
    """Where the daemon listens."""

    listen: str  # HOST:PORT

    @model_validator(mode="after")
    def _host_and_port(self) -> Self:
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isascii() or not port.isdecimal() or int(port) > 65_535:
            raise ValueError(f"listen `{self.listen}` is not HOST:PORT, for example 127.0.0.1:8080")
        return self

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class HttpSection(ListenSection):
    """What the daemon serves over HTTP to everybody: proofs of claims."""


class MetricsSection(ListenSection):
    """What the daemon serves over HTTP to whoever watches it: /metrics."""


class PriceSection(Section):
    """A market that is asked for prices over HTTP: where, and what of its JSON counts.

    In `url` stand for the time of the block that a decision is about: {timestamp} in seconds, {timestamp_ms}, and
    {timestamp_iso} as 2026-01-31T23:59:59Z. {key} stands for what `key_env` holds.
    """

    url: str
    value: Annotated[list[str | int], Field(min_length=1)]  # keys and, counted from 0, places in lists
    decimals: Annotated[int, Field(ge=0, le=36)]  # kept of the value; what is finer is cut off
    time: Annotated[list[str | int], Field(min_length=1)] | None = None  # of which moment the value is
    time_format: Literal["seconds", "milliseconds", "iso8601"] = "seconds"
    key_env: str | None = None
    key_header: str | None = None  # send the key so, rather than in the URL
    timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = 10_000  # of one try
    tries: Annotated[int, Field(ge=1, le=10)] = 3
    bytes_max: Annotated[int, Field(ge=1, le=16_777_216)] = 262_144

    @model_validator(mode="after")
    def _usable(self) -> Self:
        rest = _PLACEHOLDER.sub("", self.url)
        if not re.match(r"https?://[^/{}?#]+", self.url):
            raise ValueError("url is not an http:// or https:// URL")
        if "{" in rest or "}" in rest:
            raise ValueError("url may hold {timestamp}, {timestamp_ms}, {timestamp_iso} and {key}, and no other braces")
        if self.time is None and "{timestamp" not in self.url:
            raise ValueError(
                "a price without its time could be of any day: ask for a moment with {timestamp} in the url, or name "
                "where the answer says its moment with time = […]"
            )
        if any(isinstance(step, int) and step < 0 for step in (*self.value, *(self.time or ()))):
            raise ValueError("places in lists are counted from 0")
        if ("{key}" in self.url or self.key_header is not None) != (self.key_env is not None):
            raise ValueError("key_env and a place for the key (key_header, or {key} in the url) are given together")
        if "{key}" in self.url and self.key_header is not None:
            raise ValueError("the key goes into the url or into key_header, not both")
        return self

    def url_at(self, timestamp: int) -> str:
        """Where the price at `timestamp`, seconds, is asked for; {key} is left in its place."""
        moment = datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        told = {"{timestamp}": str(timestamp), "{timestamp_ms}": f"{timestamp}000", "{timestamp_iso}": moment}
        return _PLACEHOLDER.sub(lambda match: told.get(match[0], match[0]), self.url)


class JobsSection(Section):
    """How often what is periodic is done."""

    sweep_interval_s: Annotated[int, Field(ge=1, le=86_400)] = 600  # a slice of old blocks and quiet accounts
    sweep_accounts: Annotated[int, Field(ge=1, le=10_000)] = 200  # asked in one slice: one call each
    seals_interval_s: Annotated[int, Field(ge=1, le=86_400)] = 60  # what was sealed since, and a slice of all
    partitions_interval_s: Annotated[int, Field(ge=1, le=86_400)] = 3_600


class RuleSection(Section):
    file: str
    chain: str
    # This version decides windows that begin with this block or later, the one before it those until then.
    from_block: Annotated[int, Field(ge=0)] = 0


class Config(Section):
    """The whole file. `path` is where it was read from; relative paths in it are relative to its folder."""

    path: Path = Field(exclude=True)
    database: DatabaseSection
    logs: LogsSection = LogsSection()
    chains: Annotated[dict[Name, Annotated[ChainSection, Field(discriminator="kind")]], Field(min_length=1)]
    rules: list[RuleSection] = []
    prices: dict[Name, PriceSection] = {}
    http: HttpSection | None = None  # nothing is served
    metrics: MetricsSection | None = None  # nor watched
    reconcile_interval_s: Annotated[int, Field(ge=1, le=86_400)] = 60
    jobs: JobsSection = JobsSection()
    # How long a dead instance keeps others from taking over; a clean stop hands over at once.
    lease_duration_ms: Annotated[int, Field(ge=1000)] = 10_000

    def relative(self, path: str) -> Path:
        return self.path.parent / path

    @contextlib.contextmanager
    def naming_file(self) -> Iterator[None]:
        """Mistakes found in use name only `[section]` and field: they leave the block with file and line named."""
        try:
            yield
        except ConfigError as error:
            said = (error.where or "").removeprefix(f"{self.path}: ")
            found = _SECTION_AND_FIELD.match(said)
            if found is None:
                raise
            trail = tuple(part for part in f"{found[1]}.{found[2]}".split(".") if part)
            line = None
            with contextlib.suppress(OSError, UnicodeDecodeError):
                line = _line_of(self.path.read_text(encoding="utf-8").splitlines(), trail)
            where = f"{self.path}{'' if line is None else f':{line}'}: {said}"
            raise ConfigError(error.problem, where=where, mend=error.mend) from error.__cause__

    def evm(self, chain: str) -> EvmSection:
        """Raises ConfigError for a chain of another kind: it has no contracts of ours."""
        section = self.chains[chain]
        if not isinstance(section, EvmSection):
            raise ConfigError(
                f"chain {chain} is of kind {section.kind}, and has no contracts to deploy, approve or veto",
                where=f"{self.path}: [chains.{chain}]",
                mend="name a chain of kind evm",
            )
        return section

    def hash_of(self, stamp: BlockStamp) -> bytes:
        """A block's hash that knows how its chain writes it."""
        section = self.chains.get(stamp.chain)
        return stamp.hash if section is None else hash_of(stamp.hash, section.reference)

    @property
    def included_within(self) -> dict[str, int]:
        """By chain: blocks after which a transaction that is in none of them is a condition."""
        return {name: chain.spending.included_within_blocks for name, chain in self.chains.items()}

    def price_key(self, name: str) -> str | None:
        """Raises ConfigError where the variable that holds it is not set."""
        variable = self.prices[name].key_env
        return None if variable is None else from_environment(variable, f"{self.path}: [prices.{name}] key_env")

    def password(self, key: KeySection, where: str) -> str:
        """Raises ConfigError where the file or the variable is missing."""
        if key.password_env is not None:
            return from_environment(key.password_env, f"{where} password_env")
        assert key.password_file is not None
        path = self.relative(key.password_file)
        try:
            return path.read_text(encoding="utf-8").rstrip("\n")
        except OSError as error:
            raise ConfigError(
                f"cannot read {path}: {error.strerror}",
                where=f"{where} password_file",
                mend="write the keystore's password into that file, readable by the daemon's user only",
            ) from None


def load_config(path: Path, *, deployed: bool = True) -> Config:
    """Raises ConfigError for a file that is missing, is no TOML, or says anything this program does not understand.

    With `deployed` every chain must name its contracts and the hashes of their code.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}",
            where=str(path),
            mend="name the file with --config; `bridge sandbox DIR` writes one to start from",
        ) from None
    except UnicodeDecodeError:
        raise ConfigError("is not UTF-8 text", where=str(path), mend="save it as UTF-8") from None
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not valid TOML: {error}", where=str(path), mend="correct that line") from None
    _refuse_private_keys(content, path, text)
    try:
        config = Config(path=path.resolve(), **content)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(item, path, text) for item in error.errors())) from None
    _check_rules(config, path)
    if deployed:
        _check_deployed(config, path, text)
    return config


def _check_deployed(config: Config, path: Path, text: str) -> None:
    for chain, section in config.chains.items():
        if not isinstance(section, EvmSection):
            continue
        for name in section.governed:
            for table, known in (("contracts", section.contracts), ("governance.code", section.governance.code)):
                if name not in known:
                    trail = ("chains", chain, *table.split("."))
                    raise ConfigError(
                        f"`{name}` is missing",
                        where=_where(path, text, trail),
                        mend="`bridge deploy` makes the contracts and prints these lines",
                    )


def _check_rules(config: Config, path: Path) -> None:
    for index, rule in enumerate(config.rules):
        if rule.chain not in config.chains:
            raise ConfigError(
                f"`{rule.chain}` is not one of the chains: {', '.join(config.chains)}",
                where=f"{path}: rules[{index}].chain",
                mend="name a [chains.…] section of this file",
            )
        if not config.relative(rule.file).is_file():
            raise ConfigError(
                f"there is no file {config.relative(rule.file)}",
                where=f"{path}: rules[{index}].file",
                mend="paths are relative to the folder of this file",
            )


def _refuse_private_keys(content: Any, path: Path, text: str, trail: tuple[str, ...] = ()) -> None:
    """A private key in plain text is refused wherever it stands, without repeating it."""
    if isinstance(content, dict):
        for key, value in content.items():
            _refuse_private_keys(value, path, text, (*trail, str(key)))
    elif isinstance(content, list):
        if len(content) == _KEY_BYTES and all(isinstance(byte, int) and 0 <= byte < 256 for byte in content):
            raise ConfigError(
                "these look like the bytes of a private key, and are refused",
                where=_where(path, text, trail),
                mend=KEY_MEND,
            )
        for index, value in enumerate(content):
            _refuse_private_keys(value, path, text, (*trail, str(index)))
    elif isinstance(content, str) and trail:
        named = any(re.search(r"private_?key|secret|mnemonic|seed_?phrase", part, re.IGNORECASE) for part in trail)
        words = content.split()
        mnemonic = len(words) in (12, 15, 18, 21, 24) and all(word.isalpha() and word.islower() for word in words)
        if _PRIVATE_KEY.match(content) or mnemonic or named:
            raise ConfigError(
                "this looks like a private key in plain text, and is refused",
                where=_where(path, text, trail),
                mend=KEY_MEND,
            )


def _explain(item: Any, path: Path, text: str) -> str:
    trail = tuple(str(part) for part in item["loc"])
    kind: type[BaseModel] = EvmSection
    if trail[:1] == ("chains",) and trail[2:3] and trail[2] in KINDS:
        kind = KINDS[trail[2]]
        trail = (*trail[:2], *trail[3:])  # which of the kinds it was read as stands in the file anyway
    where = _where(path, text, trail)
    if item["type"] == "extra_forbidden":
        known = _fields_at(trail[:-1], kind)
        near = difflib.get_close_matches(trail[-1], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
        return f"{where}: unknown key `{trail[-1]}`\n  mend: {hint}"
    if item["type"] == "missing":
        return f"{where}: `{trail[-1]}` is missing\n  mend: add it"
    message = item["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}"


def _models_in(annotation: object) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _fields_at(trail: tuple[str, ...], kind: type[BaseModel]) -> list[str]:
    """The keys that the section at `trail` understands; `kind` is what its chain was read as."""
    model: type[BaseModel] = Config
    for part in trail:
        field = model.model_fields.get(part)
        if field is None:
            continue  # the name of a chain or token, the index of a rule: its model was entered with the field
        found = list(_models_in(field.annotation))
        if not found:
            return []
        model = next((one for one in found if one is kind), found[0])
    return sorted(set(model.model_fields) - {"path"})


def _where(path: Path, text: str, trail: tuple[str, ...]) -> str:
    """`file:line: a.b.c`. tomllib keeps no positions, so the line is found by the section and the key."""
    dotted = ".".join(trail)
    line = _line_of(text.splitlines(), trail)
    return f"{path}:{line}: {dotted}" if line else f"{path}: {dotted}"


def _line_of(lines: list[str], trail: tuple[str, ...]) -> int | None:
    section: tuple[str, ...] = ()
    array_index: dict[str, int] = {}
    best: int | None = None
    for number, line in enumerate(lines, start=1):
        header = re.match(r"\s*\[(\[)?([^\[\]]+)\]", line)
        if header:
            name = tuple(part.strip().strip("\"'") for part in header[2].split("."))
            if header[1]:
                array_index[header[2]] = array_index.get(header[2], -1) + 1
                name = (*name, str(array_index[header[2]]))
            section = name
            if trail[: len(section)] == section:
                best = number
            continue
        key = re.match(r"\s*([\w.\"'-]+)\s*=", line)
        if key and trail[: len(section)] == section:
            full = (*section, *(part.strip("\"'") for part in key[1].split(".")))
            if trail[: len(full)] == full:
                return number
    return best


def from_environment(name: str, where: str) -> str:
    """Raises ConfigError where the variable is not set."""
    value = os.environ.get(name)
    if not value:
        raise ConfigError(f"the environment variable {name} is not set", where=where, mend=f"export {name}=…")
    return value
