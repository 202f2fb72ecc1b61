"""The language of rules: a small, typed part of Python's expressions over exact integers.

text ──ast.parse──► tree ──check every node──► type and width known ──compile once──► a plain function

What an expression may hold: whole numbers, addresses as their chain writes them (0x hex or base58), the names it is
given, `source.field`, + - *, comparisons, and / or / not, `a if condition else b`,
the functions in FUNCTIONS and what AGGREGATES say of a table. Division is always a function,
so that its rounding is said.

Numbers have units (quantities.py). What is added, compared or chosen between has one unit; products and quotients have
the product and the quotient of units. A number written out takes the unit of what it stands beside, and has none in a
product.

Nothing in it can run for long or grow without bound: there are no loops, no powers and no shifts; the text and the tree
are bounded; and the widest number that could ever appear is worked out when the expression is loaded, from names of 256
bits each where no narrower type is known. An expression that could pass BITS_MAX is refused then, so nothing needs to
be checked while it runs.
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
from bridge.domain.quantities import BPS_UNIT, NO_UNIT, PRICE_SCALE, SCALE_UNIT, Unit, amount_of
from bridge.domain.units import BPS, Address, is_address, parse_address

LENGTH_MAX = 1_000  # characters
NODES_MAX = 200
BITS_MAX = 640  # of any intermediate result: the product of two uint256 fits, and of sums of them; of three does not
NAME_BITS = 256  # of any integer that an expression is given
COUNT_BITS = 40  # of how many accounts a table has

_WORD = re.compile(r"(?<![\w.])[0-9A-Za-z]{32,44}(?![\w.(])", re.ASCII)
"""What may be an address in base58: to Python it is a name, or no word at all where it begins with a digit."""


class Kind(Enum):
    """What a value is."""

    NUMBER = "a number"
    BOOL = "true or false"
    ADDRESS = "an address"
    BYTES = "bytes"
    TEXT = "text"
    TABLE = "a table by account"  # can be split by and asked for its AGGREGATES, never calculated with


@dataclass(frozen=True, slots=True)
class Type:
    """Kind, and for numbers and tables of numbers the unit: None for a number written out, which takes any."""

    kind: Kind
    unit: Unit | None = None
    bits: int = field(default=NAME_BITS, compare=False)  # no value of a number is wider

    def __str__(self) -> str:
        if self.kind is not Kind.NUMBER or self.unit in (None, NO_UNIT):
            return self.kind.value
        return str(self.unit)

    def takes(self, other: Type) -> bool:
        """Whether a value of type `other` can stand where this one is due."""
        return self.kind is other.kind and (self.unit == other.unit or other.unit is None)


PLAIN = Type(Kind.NUMBER, NO_UNIT)
BOOL = Type(Kind.BOOL)


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
    names: tuple[
        str, ...
    ]  # what it reads, in order of first use; fields as `source.field`, aggregates as `total(table)`
    type: Type
    bits: int  # no result is wider
    function: Callable[..., Value] = field(repr=False, compare=False)  # takes the values of `names`, in order
    by_name: Callable[[Mapping[str, Value]], Value] = field(repr=False, compare=False)
    addresses: tuple[tuple[int, Address], ...] = ()  # those written out, each with the character where it begins

    def evaluate(self, values: Mapping[str, Value]) -> Value:
        """Raises ZeroDivisionError or OverflowError where the numbers have no result; never anything else."""
        return self.by_name(values)


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


def smallest(*values: int) -> int:
    """The smallest of two to eight values."""
    return min(values)


def largest(*values: int) -> int:
    """The largest of two to eight values."""
    return max(values)


def clamp(value: int, low: int, high: int) -> int:
    """`value`, but at least `low` and at most `high`."""
    return max(low, min(value, high))


def _fits(value: int) -> int:
    if value.bit_length() > NAME_BITS:
        raise OverflowError(f"a quotient of {value.bit_length()} bits does not fit {NAME_BITS}")
    return value


def value(amount: int, price: int) -> int:
    """What an amount<A> is worth in B at price<A/B>, rounded down: amount × price / 10^36, exact until divided."""
    return mul_div(amount, price, PRICE_SCALE)


def value_up(amount: int, price: int) -> int:
    """As value, rounded up."""
    return mul_div_up(amount, price, PRICE_SCALE)


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the language. `form` shows how it is written; its docstring says what it gives."""

    call: Callable[..., int]
    form: str
    least: int  # arguments
    most: int


FUNCTIONS: Mapping[str, Function] = {
    "min": Function(smallest, "min(a, b, …)", 2, 8),
    "max": Function(largest, "max(a, b, …)", 2, 8),
    "clamp": Function(clamp, "clamp(a, low, high)", 3, 3),
    "floor_div": Function(floor_div, "floor_div(a, b)", 2, 2),
    "ceil_div": Function(ceil_div, "ceil_div(a, b)", 2, 2),
    "mul_div": Function(mul_div, "mul_div(a, b, c)", 3, 3),
    "mul_div_up": Function(mul_div_up, "mul_div_up(a, b, c)", 3, 3),
    "value": Function(value, "value(amount, price)", 2, 2),
    "value_up": Function(value_up, "value_up(amount, price)", 2, 2),
}

AGGREGATES: Mapping[str, str] = {
    "total": "the sum of all weights of a table",
    "overdraft": "the sum of what accounts of a `sums` table are below zero, as a positive number",
    "count": "how many accounts of a table have a weight",
}

CONSTANTS: Mapping[str, tuple[int, Unit]] = {"BPS": (BPS, BPS_UNIT)}

_NOT_PART: Mapping[type[ast.AST], str] = {
    ast.Div: "use floor_div(a, b) or ceil_div(a, b): division says how it rounds",
    ast.FloorDiv: "use floor_div(a, b) or ceil_div(a, b): division says how it rounds",
    ast.Mod: "there is no remainder; use a - floor_div(a, b) * b",
    ast.Pow: "there are no powers; write the number out",
    ast.LShift: "there are no shifts; multiply",
    ast.RShift: "there are no shifts; use floor_div(a, b)",
}


def compile_expression(text: str, names: Mapping[str, Type], *, wants: Type | Kind) -> Expression:
    """Check `text` against the types of `names` (fields as `source.field`) and compile it.

    `wants` is the type that its place accepts, or the kind where any unit will do. Raises ExpressionError, with the
    place and the mend.
    """
    text = text.strip().replace("\n", " ")
    plain, written = _take_out_addresses(text, names)
    tree = _parse(plain)
    checker = _Checker(text, names, written)
    result = checker.check(tree)
    fits = result.type.kind is wants if isinstance(wants, Kind) else wants.takes(result.type)
    if not fits:
        due = wants.value if isinstance(wants, Kind) else str(wants)
        checker.refuse(tree, f"this is {result.type}, but {due} is due here", _how_to_get(wants, result.type))
    used = tuple(checker.used)
    function = _compiled([f"v{index}" for index in range(len(used))], result.node)
    by_name = _compiled(["values"], _ByName(used).visit(result.node))
    addresses = tuple(sorted(checker.addresses.items()))
    return Expression(text, used, result.type, result.bits, function, by_name, addresses)


def _take_out_addresses(text: str, names: Mapping[str, Type]) -> tuple[str, Mapping[str, Address]]:
    """The text with a name of the same length for each address in base58, and the addresses by these names.

    A row of digits stays what it looks like, a number; see _comparison. Raises ExpressionError for a word that is both
    an address and a name of this place.
    """
    written: dict[str, Address] = {}

    def name_of(match: re.Match[str]) -> str:
        word = match[0]
        if word.isdecimal() or not is_address(word):
            return word
        if word in names:
            raise ExpressionError(
                f"`{word}` is a name here and an address", match.start(), "give the name another word"
            )
        stand_in = f"_{len(written)}".ljust(len(word), "_")
        written[stand_in] = parse_address(word)
        return stand_in

    return _WORD.sub(name_of, text), written


def _compiled(parameters: Sequence[str], body: ast.expr) -> Callable[..., Value]:
    arguments = ast.arguments(
        args=[ast.arg(name) for name in parameters],
        posonlyargs=[],
        kwonlyargs=[],
        kw_defaults=[],
        defaults=[],
    )
    tree = ast.fix_missing_locations(ast.Expression(ast.Lambda(arguments, body)))
    scope = {"__builtins__": {}, **{name: function.call for name, function in FUNCTIONS.items()}}
    # Safe: the tree was built node by node by the checker; it names nothing but its arguments and FUNCTIONS.
    function: Callable[..., Value] = eval(compile(tree, "<rule>", "eval"), scope)  # noqa: S307
    return function


class _ByName(ast.NodeTransformer):
    """Rewrites v0, v1, … to `values["name"]`: looked up there, a value costs half of what passing it on costs."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = {f"v{index}": name for index, name in enumerate(names)}

    def visit_Name(self, node: ast.Name) -> ast.expr:  # the name that ast looks for
        if node.id not in self._names:
            return node
        return ast.Subscript(ast.Name("values", ast.Load()), ast.Constant(self._names[node.id]), ast.Load())


def _how_to_get(wants: Type | Kind, found: Type) -> str | None:
    """What a person may have forgotten, where a number has another unit than is due."""
    if isinstance(wants, Kind) or wants.kind is not Kind.NUMBER or found.unit is None or wants.unit is None:
        return None
    rest = found.unit / wants.unit
    if rest == BPS_UNIT:
        return "divide basis points by BPS: mul_div(amount, rate, BPS)"
    if rest == SCALE_UNIT:
        return "use value(amount, price)"
    if found.unit.token and wants.unit.token:
        return (
            f"say amount<{wants.unit.token}> where it comes from, or convert it with "
            f"value(amount, price<{found.unit.token}/{wants.unit.token}>)"
        )
    if found.unit == NO_UNIT:
        return f"say what the number counts where it comes from: `units` of an event, `{wants.unit}` after a parameter"
    return None


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
    type: Type
    bits: int

    @property
    def unit(self) -> Unit:
        """Of a number, as a factor: one written out has none."""
        return self.type.unit or NO_UNIT


class _Checker:
    """One walk over a tree; `used` collects the names it reads, `addresses` what is written out, by its place."""

    def __init__(self, text: str, names: Mapping[str, Type], written: Mapping[str, Address]) -> None:
        self._text = text
        self._names = names
        self._written = written  # addresses by the names that stand for them in the tree
        self.used: dict[str, int] = {}
        self.addresses: dict[int, Address] = {}

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
            self.refuse(node, problem, f"there are {parts}, {', '.join([*FUNCTIONS, *AGGREGATES])}")
        return checks[type(node)](node)

    # ── Leaves ───────────────────────────────────────────────────────────────────────────────────────────────────
    def _constant(self, node: ast.Constant) -> _Checked:
        if isinstance(node.value, bool):
            return _Checked(node, BOOL, 1)
        segment = ast.get_source_segment(self._text, node) or ""
        if segment.startswith(("0x", "0X")) and is_address(segment):
            return self._address(node, parse_address(segment))
        if not isinstance(node.value, int):
            self.refuse(node, f"`{segment}` is not a whole number", "amounts are whole numbers of atoms")
        return self._bounded(node, ast.Constant(node.value), None, node.value.bit_length())

    def _address(self, node: ast.expr, address: Address) -> _Checked:
        self.addresses[node.col_offset] = address
        return _Checked(ast.Constant(bytes(address)), Type(Kind.ADDRESS), 0)

    def _name(self, node: ast.Name) -> _Checked:
        if node.id in self._written:
            return self._address(node, self._written[node.id])
        if node.id in CONSTANTS and node.id not in self._names:
            number, unit = CONSTANTS[node.id]
            return _Checked(ast.Constant(number), Type(Kind.NUMBER, unit), number.bit_length())
        return self._named(node, node.id)

    def _field(self, node: ast.Attribute) -> _Checked:
        if not isinstance(node.value, ast.Name):
            self.refuse(node, "only source.field is part of this language")
        return self._named(node, f"{node.value.id}.{node.attr}")

    def _named(self, node: ast.expr, name: str) -> _Checked:
        found = self._names.get(name)
        if found is None:
            near = difflib.get_close_matches(name, self._names, n=1, cutoff=0.5)
            known = ", ".join(sorted(known for known in self._names if "@" not in known)) or "none"
            self.refuse(
                node, f"unknown name `{name}`", f"did you mean `{near[0]}`?" if near else f"known here: {known}"
            )
        if found.kind is Kind.TABLE:
            ask = ", ".join(f"{aggregate}({name})" for aggregate in AGGREGATES)
            mend = f"name it in `split`, or ask for {ask}"
            self.refuse(node, "this is a table by account and cannot be calculated with", mend)
        return self._read(name, found)

    def _read(self, name: str, found: Type) -> _Checked:
        index = self.used.setdefault(name, len(self.used))
        return _Checked(ast.Name(f"v{index}", ast.Load()), found, found.bits)

    # ── Operators ────────────────────────────────────────────────────────────────────────────────────────────────
    def _unary(self, node: ast.UnaryOp) -> _Checked:
        if isinstance(node.op, ast.Not):
            inner = self._truth(node.operand)
            return _Checked(ast.UnaryOp(ast.Not(), inner.node), BOOL, 1)
        if isinstance(node.op, ast.USub):
            inner = self._number(node.operand)
            return _Checked(ast.UnaryOp(ast.USub(), inner.node), inner.type, inner.bits)
        return self.refuse(node, "only - and not may stand before a value")

    def _logic(self, node: ast.BoolOp) -> _Checked:
        parts = [self._truth(part) for part in node.values]
        return _Checked(ast.BoolOp(node.op, [part.node for part in parts]), BOOL, 1)

    def _arithmetic(self, node: ast.BinOp) -> _Checked:
        if type(node.op) in _NOT_PART:
            self.refuse(node, "this operator is not part of the language", _NOT_PART[type(node.op)])
        left, right = self._number(node.left), self._number(node.right)
        rewritten = ast.BinOp(left.node, node.op, right.node)
        if isinstance(node.op, (ast.Add, ast.Sub)):
            unit = self._one_unit(node.right, left, right)
            return self._bounded(node, rewritten, unit, max(left.bits, right.bits) + 1)
        if isinstance(node.op, ast.Mult):
            both_written = left.type.unit is right.type.unit is None
            unit = None if both_written else left.unit * right.unit
            return self._bounded(node, rewritten, unit, left.bits + right.bits)
        return self.refuse(node, "this operator is not part of the language", "there are + - * and comparisons")

    def _comparison(self, node: ast.Compare) -> _Checked:
        sources = (node.left, *node.comparators)
        operands = [self.check(part) for part in sources]
        if any(operand.type.kind is Kind.ADDRESS for operand in operands):
            operands = [self._if_address(*pair) for pair in zip(sources, operands, strict=True)]
        for operator, source, left, right in zip(node.ops, node.comparators, operands, operands[1:], strict=False):
            if not isinstance(operator, (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)):
                self.refuse(source, "this comparison is not part of the language", "there are == != < <= > >=")
            if left.type.kind is not right.type.kind:
                self.refuse(source, f"{left.type} cannot be compared with {right.type}")
            if left.type.kind is Kind.NUMBER:
                self._one_unit(source, left, right, "compared with")
            elif not isinstance(operator, (ast.Eq, ast.NotEq)):
                self.refuse(source, f"{left.type} has no order", "compare with == or !=")
        rewritten = ast.Compare(operands[0].node, node.ops, [operand.node for operand in operands[1:]])
        return _Checked(rewritten, BOOL, 1)

    def _if_address(self, node: ast.expr, found: _Checked) -> _Checked:
        """Beside an address, a row of digits is one too where it can be: that of the zero address is 32 ones."""
        text = ast.get_source_segment(self._text, node) or ""
        digits = isinstance(node, ast.Constant) and text.isdecimal()
        return self._address(node, parse_address(text)) if digits and is_address(text) else found

    def _conditional(self, node: ast.IfExp) -> _Checked:
        condition = self._truth(node.test)
        then, otherwise = self.check(node.body), self.check(node.orelse)
        if then.type.kind is not otherwise.type.kind:
            self.refuse(node.orelse, f"one branch is {then.type}, the other {otherwise.type}")
        unit = (
            self._one_unit(node.orelse, then, otherwise, "an alternative to") if then.type.kind is Kind.NUMBER else None
        )
        rewritten = ast.IfExp(condition.node, then.node, otherwise.node)
        return _Checked(rewritten, Type(then.type.kind, unit), max(then.bits, otherwise.bits))

    # ── Functions ────────────────────────────────────────────────────────────────────────────────────────────────
    def _call(self, node: ast.Call) -> _Checked:
        name = node.func.id if isinstance(node.func, ast.Name) else None
        if name is not None and name in AGGREGATES:
            return self._aggregate(node, name)
        if name not in FUNCTIONS or name is None:
            known = [*FUNCTIONS, *AGGREGATES]
            near = difflib.get_close_matches(name or "", known, n=1)
            mend = f"did you mean `{near[0]}`?" if near else f"the functions are {', '.join(known)}"
            self.refuse(node, f"unknown function `{name}`" if name else "this cannot be called", mend)
        least, most = FUNCTIONS[name].least, FUNCTIONS[name].most
        if node.keywords or not least <= len(node.args) <= most:
            span = str(least) if least == most else f"{least} to {most}"
            self.refuse(node, f"{name} takes {span} values, by position", f"write {FUNCTIONS[name].form}")
        values = [self._number(argument) for argument in node.args]
        rewritten = ast.Call(ast.Name(name, ast.Load()), [value.node for value in values], [])
        if name in ("value", "value_up"):
            return self._worth(node, rewritten, *values)
        if name.endswith("_div") or name == "mul_div_up":
            return self._quotient(node, name, rewritten, values)
        unit = values[0].type.unit
        for source, before, after in zip(node.args[1:], values, values[1:], strict=False):
            unit = self._one_unit(source, _Checked(before.node, Type(Kind.NUMBER, unit), 0), after, "chosen beside")
        return _Checked(rewritten, Type(Kind.NUMBER, unit), max(value.bits for value in values))

    def _aggregate(self, node: ast.Call, name: str) -> _Checked:
        table = node.args[0].id if len(node.args) == 1 and isinstance(node.args[0], ast.Name) else None
        found = self._names.get(table or "")
        if table is None or found is None or found.kind is not Kind.TABLE or node.keywords:
            tables = ", ".join(sorted(known for known, each in self._names.items() if each.kind is Kind.TABLE))
            mend = f"the tables are: {tables or 'none; add a time_weighted, balances, sums or members input'}"
            self.refuse(node, f"{name} takes one table by account", mend)
        if name == "count":
            return self._read(f"{name}({table})", Type(Kind.NUMBER, NO_UNIT, COUNT_BITS))
        return self._read(f"{name}({table})", Type(Kind.NUMBER, found.unit))

    def _worth(self, node: ast.Call, rewritten: ast.Call, amount: _Checked, price: _Checked) -> _Checked:
        pair = price.unit.pair
        if pair is None:
            self.refuse(node.args[1], f"this is {price.type}, but a price is due here", "name a `price` input")
        base, quote = pair
        if amount.type.unit is not None and amount.unit.token != base:
            self.refuse(node.args[0], f"this is {amount.type}, but the price is of {base}", f"give an amount<{base}>")
        self._bounded(node, rewritten, None, amount.bits + price.bits)
        return _Checked(rewritten, Type(Kind.NUMBER, amount_of(quote)), NAME_BITS)

    def _quotient(self, node: ast.Call, name: str, rewritten: ast.Call, values: list[_Checked]) -> _Checked:
        divisor = values[-1]
        if isinstance(divisor.node, ast.Constant) and divisor.node.value == 0:
            self.refuse(node.args[-1], "division by zero")
        written = all(value.type.unit is None for value in values)
        unit = values[0].unit / divisor.unit
        if name.startswith("mul_div"):
            unit = unit * values[1].unit
            self._bounded(node, rewritten, None, values[0].bits + values[1].bits)
            return _Checked(rewritten, Type(Kind.NUMBER, None if written else unit), NAME_BITS)
        return self._bounded(node, rewritten, None if written else unit, values[0].bits + 1)

    # ── What is due ──────────────────────────────────────────────────────────────────────────────────────────────
    def _truth(self, node: ast.expr) -> _Checked:
        result = self.check(node)
        if result.type.kind is not Kind.BOOL:
            self.refuse(node, f"this is {result.type}, but {Kind.BOOL.value} is due here")
        return result

    def _number(self, node: ast.expr) -> _Checked:
        result = self.check(node)
        if result.type.kind is not Kind.NUMBER:
            self.refuse(node, f"this is {result.type}, but a number is due here")
        return result

    def _one_unit(self, node: ast.expr, left: _Checked, right: _Checked, verb: str = "added to") -> Unit | None:
        """The unit that both have; one written out takes that of the other."""
        if left.type.unit is None:
            return right.type.unit
        if right.type.unit not in (None, left.type.unit):
            problem = f"{right.type} cannot be {verb} {left.type}"
            self.refuse(node, problem, _how_to_get(left.type, right.type) or _how_to_get(right.type, left.type))
        return left.type.unit

    def _bounded(self, node: ast.AST, rewritten: ast.expr, unit: Unit | None, bits: int) -> _Checked:
        if bits > BITS_MAX:
            mend = f"every name may hold {NAME_BITS} bits; use mul_div(a, b, c), which divides before it goes on"
            self.refuse(node, f"this could take {bits} bits, more than {BITS_MAX}", mend)
        return _Checked(rewritten, Type(Kind.NUMBER, unit), bits)
