"""The language of rules: a small, typed part of Python's expressions over exact integers.

text ──ast.parse──► tree ──check every node──► kind and width known ──compile once──► a plain function

What an expression may hold: whole numbers, the names it is given, `source.field`, + - *, comparisons, and / or / not,
`a if condition else b`, and the functions in FUNCTIONS. Division is always a function, so that its rounding is said.

Nothing in it can run for long or grow without bound: there are no loops, no powers and no shifts; the text and the tree
are bounded; and the widest number that could ever appear is worked out when the expression is loaded, from names of 256
bits each. An expression that could pass BITS_MAX is refused then, so nothing needs to be checked while it runs.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn

from bridge.domain.events import Value

LENGTH_MAX = 1_000  # characters
NODES_MAX = 200
BITS_MAX = 512  # of any intermediate result: the product of two uint256 fits
NAME_BITS = 256  # of any integer that an expression is given

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")


class Kind(Enum):
    """What a value is. A plain number takes the unit that its place asks for; an amount keeps it."""

    AMOUNT = "an amount"
    NUMBER = "a number"
    BOOL = "true or false"
    ADDRESS = "an address"
    BYTES = "bytes"
    TEXT = "text"
    TABLE = "a table by account"  # can be split by, never calculated with


NUMERIC = (Kind.AMOUNT, Kind.NUMBER)


class ExpressionError(ValueError):
    """The text is no expression of this language. `offset` is the character where the mistake is."""

    def __init__(self, problem: str, offset: int = 0, mend: str | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression. Equal texts over equal names are equal."""

    text: str
    names: tuple[str, ...]  # what it reads, in order of first use; fields as `source.field`
    kind: Kind
    bits: int  # no result is wider
    function: Callable[..., Value] = field(repr=False, compare=False)  # takes the values of `names`, in order

    def evaluate(self, values: Mapping[str, Value]) -> Value:
        """Raises ZeroDivisionError or OverflowError where the numbers have no result; never anything else."""
        return self.function(*[values[name] for name in self.names])


# ── Functions of the language ───────────────────────────────────────────────────────────────────────────────────────
def floor_div(dividend: int, divisor: int) -> int:
    """dividend / divisor, rounded down (towards minus infinity)."""
    return dividend // divisor


def ceil_div(dividend: int, divisor: int) -> int:
    """dividend / divisor, rounded up (towards plus infinity)."""
    return -(-dividend // divisor)


def mul_div(left: int, right: int, divisor: int) -> int:
    """left × right / divisor, rounded down; the product is exact. Overflows past 256 bits, as it does in Solidity."""
    return _fits(left * right // divisor)


def mul_div_up(left: int, right: int, divisor: int) -> int:
    """left × right / divisor, rounded up; otherwise as mul_div."""
    return _fits(-(-left * right // divisor))


def clamp(value: int, low: int, high: int) -> int:
    """`value`, but at least `low` and at most `high`."""
    return max(low, min(value, high))


def _fits(value: int) -> int:
    if value.bit_length() > NAME_BITS:
        raise OverflowError(f"a quotient of {value.bit_length()} bits does not fit {NAME_BITS}")
    return value


FUNCTIONS: Mapping[str, tuple[Callable[..., int], int, int]] = {
    # name: (function, least and most arguments)
    "min": (min, 2, 8),
    "max": (max, 2, 8),
    "clamp": (clamp, 3, 3),
    "floor_div": (floor_div, 2, 2),
    "ceil_div": (ceil_div, 2, 2),
    "mul_div": (mul_div, 3, 3),
    "mul_div_up": (mul_div_up, 3, 3),
}

_NOT_PART: Mapping[type[ast.AST], str] = {
    ast.Div: "use floor_div(a, b) or ceil_div(a, b): division says how it rounds",
    ast.FloorDiv: "use floor_div(a, b) or ceil_div(a, b): division says how it rounds",
    ast.Mod: "there is no remainder; use a - floor_div(a, b) * b",
    ast.Pow: "there are no powers; write the number out",
    ast.LShift: "there are no shifts; multiply",
    ast.RShift: "there are no shifts; use floor_div(a, b)",
}


def compile_expression(text: str, names: Mapping[str, Kind], *, wants: Sequence[Kind]) -> Expression:
    """Check `text` against the kinds of `names` (fields as `source.field`) and compile it.

    `wants` are the kinds that its place accepts. Raises ExpressionError, with the place and the mend.
    """
    text = text.strip().replace("\n", " ")
    tree = _parse(text)
    checker = _Checker(text, names)
    result = checker.check(tree)
    if result.kind not in wants:
        checker.refuse(tree, f"this is {result.kind.value}, but {wants[0].value} is due here")
    arguments = ast.arguments(
        args=[ast.arg(f"v{index}") for index in range(len(checker.used))],
        posonlyargs=[],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    compiled = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, result.node)))
    scope = {"__builtins__": {}, **{name: function for name, (function, _, _) in FUNCTIONS.items()}}
    # Safe: the tree was built node by node by the checker; it names nothing but its arguments and FUNCTIONS.
    function = eval(compile(compiled, "<rule>", "eval"), scope)  # noqa: S307
    return Expression(text, tuple(checker.used), result.kind, result.bits, function)


def _parse(text: str) -> ast.expr:
    if len(text) > LENGTH_MAX:
        raise ExpressionError(f"longer than {LENGTH_MAX} characters", LENGTH_MAX, "name parts of it as inputs")
    if not text.isascii():
        offset = next(i for i, character in enumerate(text) if not character.isascii())
        raise ExpressionError(f"`{text[offset]}` cannot stand in an expression", offset)
    if not text:
        raise ExpressionError("an expression is missing")
    try:
        tree = ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ExpressionError(f"not an expression: {error.msg}", max((error.offset or 1) - 1, 0)) from None
    except (RecursionError, MemoryError, ValueError):
        raise ExpressionError("not an expression: too deep or malformed") from None
    for count, node in enumerate(ast.walk(tree), start=1):
        if count > NODES_MAX:
            raise ExpressionError("too large", getattr(node, "col_offset", 0), "name parts of it as inputs")
    return tree


@dataclass(frozen=True, slots=True)
class _Checked:
    node: ast.expr  # rewritten: names became v0, v1, …
    kind: Kind
    bits: int


class _Checker:
    """One walk over a tree; `used` collects the names it reads."""

    def __init__(self, text: str, names: Mapping[str, Kind]) -> None:
        self._text = text
        self._names = names
        self.used: dict[str, int] = {}

    def refuse(self, node: ast.AST, problem: str, mend: str | None = None) -> NoReturn:
        raise ExpressionError(problem, getattr(node, "col_offset", 0), mend)

    def check(self, node: ast.expr) -> _Checked:
        checks: Mapping[type[ast.expr], Callable[..., _Checked]] = {
            ast.Constant: self._constant,
            ast.Name: self._name,
            ast.Attribute: self._field,
            ast.UnaryOp: self._unary,
            ast.BinOp: self._arithmetic,
            ast.Compare: self._comparison,
            ast.BoolOp: self._logic,
            ast.IfExp: self._conditional,
            ast.Call: self._call,
        }
        if type(node) not in checks:
            parts = "numbers, names, source.field, + - *, comparisons, and, or, not, if-else"
            problem = f"{type(node).__name__.lower()} is not part of this language"
            self.refuse(node, problem, f"there are {parts}, {', '.join(FUNCTIONS)}")
        return checks[type(node)](node)

    def _constant(self, node: ast.Constant) -> _Checked:
        if isinstance(node.value, bool):
            return _Checked(node, Kind.BOOL, 1)
        segment = ast.get_source_segment(self._text, node) or ""
        if _ADDRESS.match(segment):
            return _Checked(ast.Constant(bytes.fromhex(segment[2:])), Kind.ADDRESS, 0)
        if not isinstance(node.value, int):
            self.refuse(node, f"`{segment}` is not a whole number", "amounts are whole numbers of atoms")
        return self._bounded(node, ast.Constant(node.value), Kind.NUMBER, node.value.bit_length())

    def _name(self, node: ast.Name) -> _Checked:
        return self._named(node, node.id)

    def _field(self, node: ast.Attribute) -> _Checked:
        if not isinstance(node.value, ast.Name):
            self.refuse(node, "only source.field is part of this language")
        return self._named(node, f"{node.value.id}.{node.attr}")

    def _named(self, node: ast.expr, name: str) -> _Checked:
        kind = self._names.get(name)
        if kind is None:
            near = difflib.get_close_matches(name, self._names, n=1, cutoff=0.5)
            known = ", ".join(sorted(self._names)) or "none"
            self.refuse(
                node, f"unknown name `{name}`", f"did you mean `{near[0]}`?" if near else f"known here: {known}"
            )
        index = self.used.setdefault(name, len(self.used))
        return _Checked(ast.Name(f"v{index}", ast.Load()), kind, NAME_BITS)

    def _unary(self, node: ast.UnaryOp) -> _Checked:
        if isinstance(node.op, ast.Not):
            inner = self._expect(node.operand, Kind.BOOL)
            return _Checked(ast.UnaryOp(ast.Not(), inner.node), Kind.BOOL, 1)
        if isinstance(node.op, ast.USub):
            inner = self._number(node.operand)
            return _Checked(ast.UnaryOp(ast.USub(), inner.node), inner.kind, inner.bits)
        return self.refuse(node, "only - and not may stand before a value")

    def _logic(self, node: ast.BoolOp) -> _Checked:
        parts = [self._expect(part, Kind.BOOL) for part in node.values]
        return _Checked(ast.BoolOp(node.op, [part.node for part in parts]), Kind.BOOL, 1)

    def _arithmetic(self, node: ast.BinOp) -> _Checked:
        if type(node.op) in _NOT_PART:
            self.refuse(node, "this operator is not part of the language", _NOT_PART[type(node.op)])
        left, right = self._number(node.left), self._number(node.right)
        rewritten = ast.BinOp(left.node, node.op, right.node)
        if isinstance(node.op, (ast.Add, ast.Sub)):
            return self._bounded(node, rewritten, _joined(left, right), max(left.bits, right.bits) + 1)
        if isinstance(node.op, ast.Mult):
            if left.kind is right.kind is Kind.AMOUNT:
                self.refuse(node, "an amount times an amount is no amount", "use mul_div(a, b, c)")
            return self._bounded(node, rewritten, _joined(left, right), left.bits + right.bits)
        return self.refuse(node, "this operator is not part of the language", "there are + - * and comparisons")

    def _comparison(self, node: ast.Compare) -> _Checked:
        operands = [self.check(part) for part in (node.left, *node.comparators)]
        for operator, source, left, right in zip(node.ops, node.comparators, operands, operands[1:], strict=False):
            numeric = left.kind in NUMERIC and right.kind in NUMERIC
            if not isinstance(operator, (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
                self.refuse(source, "this comparison is not part of the language", "there are == != < <= > >=")
            if Kind.TABLE in (left.kind, right.kind) or not (numeric or left.kind is right.kind):
                self.refuse(source, f"{left.kind.value} cannot be compared with {right.kind.value}")
            if not numeric and not isinstance(operator, (ast.Eq, ast.NotEq)):
                self.refuse(source, f"{left.kind.value} has no order", "compare with == or !=")
        rewritten = ast.Compare(operands[0].node, node.ops, [operand.node for operand in operands[1:]])
        return _Checked(rewritten, Kind.BOOL, 1)

    def _conditional(self, node: ast.IfExp) -> _Checked:
        condition = self._expect(node.test, Kind.BOOL)
        then, otherwise = self.check(node.body), self.check(node.orelse)
        if then.kind in NUMERIC and otherwise.kind in NUMERIC:
            kind = _joined(then, otherwise)
        elif then.kind is otherwise.kind is not Kind.TABLE:
            kind = then.kind
        else:
            self.refuse(node.orelse, f"one branch is {then.kind.value}, the other {otherwise.kind.value}")
        rewritten = ast.IfExp(condition.node, then.node, otherwise.node)
        return _Checked(rewritten, kind, max(then.bits, otherwise.bits))

    def _call(self, node: ast.Call) -> _Checked:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name not in FUNCTIONS or name is None:
            near = difflib.get_close_matches(name or "", FUNCTIONS, n=1)
            mend = f"did you mean `{near[0]}`?" if near else f"the functions are {', '.join(FUNCTIONS)}"
            self.refuse(node, f"unknown function `{name}`" if name else "this cannot be called", mend)
        _, least, most = FUNCTIONS[name]
        if node.keywords or not least <= len(node.args) <= most:
            span = str(least) if least == most else f"{least} to {most}"
            self.refuse(node, f"{name} takes {span} values, by position")
        values = [self._number(argument) for argument in node.args]
        rewritten = ast.Call(ast.Name(name, ast.Load()), [value.node for value in values], [])
        if name.endswith("_div") or name == "mul_div_up":
            return self._quotient(node, name, rewritten, values)
        kind = Kind.AMOUNT if any(value.kind is Kind.AMOUNT for value in values) else Kind.NUMBER
        return _Checked(rewritten, kind, max(value.bits for value in values))

    def _quotient(self, node: ast.Call, name: str, rewritten: ast.Call, values: list[_Checked]) -> _Checked:
        divisor = values[-1]
        if isinstance(divisor.node, ast.Constant) and divisor.node.value == 0:
            self.refuse(node.args[-1], "division by zero")
        # Amounts above the line less amounts below it: one makes an amount, none a plain number.
        power = sum(value.kind is Kind.AMOUNT for value in values[:-1]) - (divisor.kind is Kind.AMOUNT)
        if power not in (0, 1):
            self.refuse(node, f"the result of this {name} is neither an amount nor a number")
        kind = Kind.AMOUNT if power else Kind.NUMBER
        if name.startswith("mul_div"):
            self._bounded(node, rewritten, kind, values[0].bits + values[1].bits)
            return _Checked(rewritten, kind, NAME_BITS)
        return self._bounded(node, rewritten, kind, values[0].bits + 1)

    def _expect(self, node: ast.expr, kind: Kind) -> _Checked:
        result = self.check(node)
        if result.kind is not kind:
            self.refuse(node, f"this is {result.kind.value}, but {kind.value} is due here")
        return result

    def _number(self, node: ast.expr) -> _Checked:
        result = self.check(node)
        if result.kind is Kind.TABLE:
            self.refuse(node, "this is a table by account and cannot be calculated with", "name it in `split`")
        if result.kind not in NUMERIC:
            self.refuse(node, f"this is {result.kind.value}, but an amount or a number is due here")
        return result

    def _bounded(self, node: ast.AST, rewritten: ast.expr, kind: Kind, bits: int) -> _Checked:
        if bits > BITS_MAX:
            mend = f"every name may hold {NAME_BITS} bits; use mul_div(a, b, c), which divides before it goes on"
            self.refuse(node, f"this could take {bits} bits, more than {BITS_MAX}", mend)
        return _Checked(rewritten, kind, bits)


def _joined(left: _Checked, right: _Checked) -> Kind:
    return Kind.AMOUNT if Kind.AMOUNT in (left.kind, right.kind) else Kind.NUMBER
