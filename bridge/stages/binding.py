"""Rules on one chain: their names get addresses, their events decoders, and ingest what it must watch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, groupby, pairwise, zip_longest

from bridge.domain.accumulators import Key, State
from bridge.domain.batches import select_columns
from bridge.domain.errors import ConfigError, HoldError
from bridge.domain.events import Event, EventColumns, Log, LogColumns, TimedLogs
from bridge.domain.plans import Plan
from bridge.domain.rules import Binding, Rule, Token, fixed_recipients, made_by
from bridge.domain.units import Address, format_address
from bridge.ports.reading import ChainReader, EventDecoder, LogFilter

OURS = ("vault", "distributor", "claims")


@dataclass(frozen=True, slots=True)
class BoundRule:
    """A rule on one chain: its names have addresses, its events have decoders."""

    plan: Plan
    binding: Binding
    decoders: Mapping[str, EventDecoder]  # by event
    from_block: int = 0  # it decides windows that begin with this block or later

    @property
    def name(self) -> str:
        return self.plan.rule.name

    def emitters(self, source: str) -> frozenset[Address]:
        """The contracts whose events of this name count."""
        return frozenset(self.binding.contracts[name] for name in self.plan.rule.events[source].contracts)

    def places(self, sources: Iterable[str]) -> list[tuple[Address | None, bytes]]:
        """Contract and topic of each of the events named; None for any contract, where a factory makes them."""
        found: list[tuple[Address | None, bytes]] = []
        for source in sources:
            topic = self.decoders[source].topic0
            made = self.plan.rule.events[source].factory is not None
            found += [(None, topic)] if made else [(contract, topic) for contract in sorted(self.emitters(source))]
        return found

    def made(self, logs: LogColumns) -> set[Key]:
        """The states that say which emitters of `logs` a factory had made before."""
        return {
            (made_by(source), logs.emitter(row))
            for source, event in self.plan.rule.events.items()
            if event.factory is not None
            for row in range(logs.count)
            if logs.topics[128 * row : 128 * row + 32] == self.decoders[source].topic0
        }

    def events(self, log: Log) -> Iterator[Event]:
        """What `log` is to this rule; nothing where it concerns another, or where a `where` leaves it out. Contracts
        that a factory makes are left out: `columns` knows them.

        Raises HoldError where the contract's event is not as the rule declares it, or its `where` has no result.
        """
        for source, decoder in self.decoders.items():
            if log.address not in self.emitters(source) or not log.topics or log.topics[0] != decoder.topic0:
                continue
            try:
                fields = decoder.decode(log)
            except ValueError as error:
                raise HoldError(
                    f"rule {self.name}: log {log.log_index} of block {log.block} is not as the event `{source}` is "
                    f"declared: {error}; correct the declaration (is `indexed` right?) and raise the version"
                ) from None
            try:
                selected = self.plan.selects(source, fields, self.binding)
            except ArithmeticError as error:
                raise HoldError(
                    f"rule {self.name}: the `where` of `{source}` has no result for log {log.log_index} of block "
                    f"{log.block}: {error}; correct it and raise the version"
                ) from None
            if selected:
                yield Event(source, log, fields)

    def columns(self, timed: TimedLogs, states: Mapping[Key, State]) -> dict[str, EventColumns]:
        """What `events` finds in each of the logs, by event; and what it is of contracts that a factory made, those
        that `states` has of `made` and those that it makes in these logs.

        Raises ValueError or ArithmeticError where one of them is not as the rule needs it; `events` tells which.
        """
        events = self.plan.rule.events
        found: dict[str, EventColumns] = {}
        for source in sorted(self.decoders, key=lambda source: events[source].factory is not None):
            factory = events[source].factory
            if factory is None:
                decoded = self.decoders[source].decode_columns(timed.logs, self.emitters(source))
            else:
                made = made_by(source)
                since = _since(made, found[made], factory.address, timed, states)
                decoded = self.decoders[source].decode_columns(timed.logs, since.keys())
                decoded = _from_then_on(decoded, timed.logs, since)
            found[source] = select_columns(self.plan, source, decoded, self.binding)
        return {source: found[source] for source in self.decoders}


def _since(
    made: str, created: EventColumns, field: str, timed: TimedLogs, states: Mapping[Key, State]
) -> dict[Address, int]:
    """By contract that a factory made, the block from which its events count. Those of `states` were made in a block
    before all of these logs. A time would not do: several blocks can share a second."""
    since = {account: 0 for name, account in states if name == made}
    for row, address in zip(created.rows, created.fields[field], strict=True):
        assert isinstance(address, bytes)
        since.setdefault(Address(address), timed.logs.number(row))
    return since


def _from_then_on(events: EventColumns, logs: LogColumns, since: Mapping[Address, int]) -> EventColumns:
    """Without those from before their contract counts, as where one is registered long after it was made."""
    keep = [logs.number(row) >= since[logs.emitter(row)] for row in events.rows]
    fields = {name: list(compress(column, keep)) for name, column in events.fields.items()}
    return EventColumns(list(compress(events.rows, keep)), fields)


def bind_rules(
    plans: Sequence[Plan],
    *,
    chain: ChainReader,
    contracts: Mapping[str, Address],
    tokens: Mapping[str, Token],
    from_blocks: Sequence[int] = (),
) -> tuple[BoundRule, ...]:
    """By name and version. `from_blocks`: of each plan, 0 where left out.

    Raises ConfigError where a name is not configured, an event cannot be decoded, or versions of a rule do not follow
    one another.
    """
    bound: list[BoundRule] = []
    for plan, from_block in zip_longest(plans, from_blocks, fillvalue=0):
        assert isinstance(plan, Plan)
        rule = plan.rule
        where = f"rule {rule.name}"
        missing = sorted(plan.contracts() - contracts.keys())
        if missing:
            mend = f"add it to [chains.{chain.name}.contracts]"
            raise ConfigError(f"there is no contract `{missing[0]}`", where=where, mend=mend)
        for name in (rule.asset, *sorted(plan.tokens())):
            if name not in tokens:
                mend = f"add it to [chains.{chain.name}.tokens]"
                raise ConfigError(f"there is no token `{name}`", where=where, mend=mend)
        token = tokens[rule.asset]
        nobody = Address(bytes(len(token.address)))
        binding = Binding(
            reference=chain.reference,
            asset=token.asset,
            token=token.address,
            contracts={name: contracts[name] for name in sorted(plan.contracts())},
            tokens={name: tokens[name] for name in sorted(plan.tokens())},
            never_paid=frozenset({nobody, token.address, *(contracts[name] for name in OURS if name in contracts)}),
        )
        _check_recipients(rule, binding)
        decoders = {source: chain.decoder(event.declaration) for source, event in rule.events.items()}
        bound.append(BoundRule(plan, binding, decoders, from_block))
    bound.sort(key=lambda one: (one.name, one.plan.rule.version))
    for before, after in pairwise(bound):
        _check_order(before, after)
    _check_shared_balances(bound)
    return tuple(bound)


def versions_of(rules: Iterable[BoundRule]) -> dict[str, tuple[BoundRule, ...]]:
    """By rule, its versions in the order in which they decide."""
    return {name: tuple(versions) for name, versions in groupby(rules, key=lambda rule: rule.name)}


def _check_order(before: BoundRule, after: BoundRule) -> None:
    if before.name != after.name:
        return
    where = f"rule {after.name}"
    if before.plan.rule.version == after.plan.rule.version:
        raise ConfigError("two rules of this name and version", where=where, mend="keep one [[rules]] entry of them")
    if before.from_block >= after.from_block:
        raise ConfigError(
            f"version {after.plan.rule.version} does not begin after version {before.plan.rule.version}",
            where=where,
            mend="give its [[rules]] entry a from_block, or take out the entry of the older version",
        )


def _check_recipients(rule: Rule, binding: Binding) -> None:
    for recipient in fixed_recipients(rule.split):
        if recipient in binding.never_paid:
            raise ConfigError(
                f"{format_address(recipient)} cannot be a recipient: it is the token, or a contract of ours",
                where=f"rule {rule.name}: split",
                mend="name the account that is to have the money",
            )


def _check_shared_balances(rules: Sequence[BoundRule]) -> None:
    """A rule that reads a balance takes whatever no rule has decided yet, so all rules of its asset decide together.

    Raises ConfigError where their windows differ: what the other has earned and not yet decided would be paid twice.
    """
    for reader in rules:
        for other in rules:
            same_asset = reader.binding.asset == other.binding.asset and reader.name != other.name
            if not (same_asset and reader.plan.reads_balance):
                continue
            if other.plan.reads_balance:
                raise ConfigError(
                    f"rules {reader.name} and {other.name} both pay out what the same balance of "
                    f"{reader.plan.rule.asset} holds",
                    where=f"rule {reader.name}: inputs",
                    mend="keep one of them for each asset",
                )
            if reader.plan.rule.trigger != other.plan.rule.trigger:
                raise ConfigError(
                    f"rules {reader.name} and {other.name} pay from the same balance of {reader.plan.rule.asset} in "
                    "different windows: what the one has earned the other would pay out first",
                    where=f"rule {reader.name}: window",
                    mend="give both the same window",
                )


def log_filters(rules: Sequence[BoundRule]) -> tuple[LogFilter, ...]:
    """What ingest must watch for these rules: one filter a contract, and one for what factories make."""
    topics: dict[Address | None, set[bytes]] = {}
    for rule in rules:
        for contract, topic in rule.places(rule.decoders):
            topics.setdefault(contract, set()).add(topic)
    return tuple(
        LogFilter(() if contract is None else (contract,), (tuple(sorted(topics[contract])),))
        for contract in sorted(topics, key=lambda contract: contract or b"")
    )
