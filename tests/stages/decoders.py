"""What decoders of tests share."""

from collections.abc import Collection, Mapping

from bridge.domain.events import EventColumns, Log, LogColumns, TimedLogs, Value, unpack_logs
from bridge.domain.units import Address


class OneByOne:
    """The part of ports.EventDecoder that takes many logs at once: here it takes one after the other."""

    topic0: bytes
    fields: Mapping[str, str]

    def decode(self, log: Log) -> Mapping[str, Value]:
        raise NotImplementedError

    def decode_columns(self, logs: LogColumns, addresses: Collection[Address]) -> EventColumns:
        rows: list[int] = []
        fields: dict[str, list[Value]] = {name: [] for name in self.fields}
        for row, log in enumerate(unpack_logs("", TimedLogs(logs, [0] * logs.count))):
            if log.address in addresses and log.topics[:1] == (self.topic0,):
                rows.append(row)
                for name, value in self.decode(log).items():
                    fields[name].append(value)
        return EventColumns(rows, fields)
