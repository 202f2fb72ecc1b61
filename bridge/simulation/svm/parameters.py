"""The parameters of a request, read as Agave reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from solders.pubkey import Pubkey

from bridge.simulation.svm.chain import Commitment
from bridge.simulation.svm.refusals import RpcRefusal, invalid_params

U64_MAX = 2**64 - 1


class Config(Mapping[str, Any]):
    """The object that many methods take last. A member that is null counts as absent."""

    def __init__(self, members: Mapping[str, Any]) -> None:
        self._members = {name: value for name, value in members.items() if value is not None}

    def __getitem__(self, name: str) -> Any:
        return self._members[name]

    def __iter__(self) -> Any:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def commitment(self, name: str = "commitment") -> Commitment:
        """Finalized unless it says otherwise. Raises RpcRefusal."""
        text = self.get(name, Commitment.FINALIZED.value)
        try:
            return Commitment(text)
        except ValueError:
            raise invalid_params(
                f"Invalid params: unknown variant `{text}`, expected one of `processed`, `confirmed`, `finalized`."
            ) from None

    def at_least_confirmed(self) -> Commitment:
        """For what is read from the ledger rather than from a bank. Raises RpcRefusal for `processed`."""
        commitment = self.commitment()
        if commitment is Commitment.PROCESSED:
            raise invalid_params("Method does not support commitment below `confirmed`")
        return commitment

    def number(self, name: str, default: int) -> int:
        """Raises RpcRefusal unless it is an unsigned 64-bit integer."""
        return _number(self.get(name, default))

    def version_max(self) -> int | None:
        """The newest version of transactions that the client understands; None: only legacy ones."""
        name = "maxSupportedTransactionVersion"
        return self.number(name, 0) if name in self else None

    def text(self, name: str, default: str) -> str:
        """Raises RpcRefusal unless it is a text."""
        value = self.get(name, default)
        if not isinstance(value, str):
            raise _wrong_type(value, "a string")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Raises RpcRefusal unless it is true or false."""
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise _wrong_type(value, "a boolean")
        return value

    def texts(self, name: str) -> list[str]:
        """Empty where there is none. Raises RpcRefusal unless it is a list of texts."""
        return _texts(self.get(name, []))

    def config(self, name: str) -> Config | None:
        """An object within."""
        value = self.get(name)
        if value is not None and not isinstance(value, dict):
            raise _wrong_type(value, f"struct {name}")
        return None if value is None else Config(value)


class Parameters:
    """Positional parameters of one request."""

    def __init__(self, values: Any) -> None:
        if values is None:
            values = []
        if not isinstance(values, list):
            raise invalid_params("Invalid params: invalid type: map, expected a sequence.")
        self._values: Sequence[Any] = values

    def require(self, count: int) -> None:
        """Raises RpcRefusal when there are fewer."""
        if len(self._values) < count:
            raise invalid_params(f"`params` should have at least {count} argument(s)")

    def get(self, position: int) -> Any:
        """None where there is none."""
        return self._values[position] if position < len(self._values) else None

    def text(self, position: int) -> str:
        """Raises RpcRefusal unless it is a text."""
        value = self.get(position)
        if not isinstance(value, str):
            raise _wrong_type(value, "a string")
        return value

    def texts(self, position: int) -> list[str]:
        """Raises RpcRefusal unless it is a list of texts."""
        return _texts(self.get(position))

    def number(self, position: int) -> int:
        """Raises RpcRefusal unless it is an unsigned 64-bit integer."""
        return _number(self.get(position))

    def key(self, position: int) -> Pubkey:
        """Raises RpcRefusal unless it is an account's key in base 58."""
        return key_of(self.text(position))

    def config(self, position: int) -> Config:
        """Empty where there is none. Raises RpcRefusal unless it is an object."""
        value = self.get(position)
        if value is None:
            return Config({})
        if not isinstance(value, dict):
            raise _wrong_type(value, "struct")
        return Config(value)

    def config_or_encoding(self, position: int) -> Config:
        """The same; an older form gave the encoding alone."""
        value = self.get(position)
        return Config({"encoding": value}) if isinstance(value, str) else self.config(position)


def key_of(text: Any) -> Pubkey:
    """Raises RpcRefusal unless it is an account's key in base 58."""
    try:
        return Pubkey.from_string(text)
    except (ValueError, TypeError) as error:
        problem = "WrongSize" if "wrong size" in str(error) else "Invalid"
        raise invalid_params(f"Invalid param: {problem}") from None


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= U64_MAX:
        raise _wrong_type(value, "u64")
    return value


def _texts(value: Any) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong_type(value, "a sequence of strings")
    return value


def _wrong_type(value: Any, expected: str) -> RpcRefusal:
    return invalid_params(f"Invalid params: invalid type: {_describe(value)}, expected {expected}.")


def _describe(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, str):
        return f'string "{value}"'
    return "map" if isinstance(value, dict) else "sequence"
