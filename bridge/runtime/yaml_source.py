"""YAML with positions: plain values, and where in the text each of them stands.

YAML is read more strictly than YAML is: no anchors, no keys twice, no floats; whole numbers are decimal digits, and an
address may stand without quotes.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from bridge.domain.errors import ConfigError

Trail = tuple[str, ...]
"""Keys and indexes from the top."""


@dataclass(slots=True)
class YamlSource:
    """The text, and where in it each value and each key stands (line and column from 0)."""

    name: str
    text: str
    values: dict[Trail, yaml.Node] = field(default_factory=dict)
    keys: dict[Trail, yaml.Node] = field(default_factory=dict)

    def read(self) -> Mapping[str, Any]:
        """The file as plain values. Raises ConfigError for what is no YAML, or YAML that we do not accept."""
        try:
            for token in yaml.scan(self.text, Loader=yaml.SafeLoader):
                if isinstance(token, (yaml.AnchorToken, yaml.AliasToken, yaml.TagToken)):
                    raise self._mark(token.start_mark, "anchors, aliases and tags are not read", "write the value out")
            root = yaml.compose(self.text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = f"is not valid YAML: {error.problem}"
            if mark is None:
                raise ConfigError(problem, where=self.name) from None
            raise self._mark(mark, problem, "look at this line and the one above it") from None
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ConfigError(f"is not valid YAML: {error}", where=self.name) from None
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError("holds no rule", where=self.name, mend="start with `rule: NAME`")
        content = self._value(root, ())
        assert isinstance(content, dict)
        return content

    def _value(self, node: yaml.Node, trail: Trail) -> Any:
        self.values[trail] = node
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, trail)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(item, (*trail, str(index))) for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, trail: Trail) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._mark(key.start_mark, "a key is a name")
            if key.value in result:
                raise self._mark(key.start_mark, f"the key `{key.value}` comes twice", "keep one of them")
            self.keys[*trail, key.value] = key
            result[key.value] = self._value(value, (*trail, key.value))
        return result

    def _scalar(self, node: yaml.Node) -> Any:
        text: str = node.value
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if kind == "int" and re.fullmatch(r"[+-]?(0|[1-9][0-9_]*)", text) and len(text) <= 100:
            return int(text.replace("_", ""))
        if kind == "float":
            raise self._mark(node.start_mark, f"`{text}` is not a whole number", "amounts are whole numbers of atoms")
        if kind == "null":
            return None
        if kind == "bool" and text.lower() in ("true", "false"):
            return text.lower() == "true"
        return text  # addresses, dates, `yes`, 0x10 and 010 are text: what needs a number will refuse them

    def explain(self, item: Any, fields_at: Callable[[Trail], list[str]]) -> ConfigError:
        """One of pydantic's findings, at its place. `fields_at`: the keys that a section understands."""
        trail: Trail = tuple(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = fields_at(trail[:-1])
            near = difflib.get_close_matches(trail[-1], known, n=1)
            mend = f"did you mean `{near[0]}`?" if near else f"known here: {', '.join(known)}"
            return self.at(trail, f"unknown key `{trail[-1]}`", mend, key=True)
        if item["type"] == "missing":
            return self.at(trail[:-1], f"`{trail[-1]}` is missing", f"add `{trail[-1]}: …`", key=True)
        message: str = item["msg"].removeprefix("Value error, ")
        return self.at(trail, message[0].lower() + message[1:])

    def at(
        self, trail: Trail, problem: str, mend: str | None = None, *, offset: int = 0, key: bool = False
    ) -> ConfigError:
        """An error `offset` characters into the value at `trail`; at its key where the value itself is not to blame."""
        while trail and trail not in self.values:
            trail = trail[:-1]
        node = self.keys.get(trail) if key else None
        node = node or self.values[trail]
        mark = node.start_mark
        style = getattr(node, "style", None)
        if style in ("|", ">"):
            offset = 0  # the text begins on another line
        return self._mark(mark, problem, mend, offset + (1 if offset and style in ("'", '"') else 0))

    def _mark(self, mark: yaml.Mark, problem: str, mend: str | None = None, offset: int = 0) -> ConfigError:
        lines = self.text.splitlines() or [""]
        line = lines[min(mark.line, len(lines) - 1)]
        column = min(mark.column + offset, len(line))
        shown = f"{problem}\n    {line}\n    {' ' * column}^"
        return ConfigError(shown, where=f"{self.name}:{mark.line + 1}:{column + 1}", mend=mend)
