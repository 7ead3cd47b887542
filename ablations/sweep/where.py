"""Which combinations of a grid are run: an expression over the names of its factors, never evaluated as Python.

`not (head == 'rbf' and optimizer == 'sgd')`, `trainer.batch_size > 8`. Python's parser reads it; what is more than
comparisons joined by and, or, not is refused.
"""

import ast
import warnings
from collections.abc import Callable, Mapping
from decimal import Decimal

from ablations.errors import InputError, printable
from ablations.tracking.spelling import exact, is_number, same

LONGEST, DEEPEST = 2000, 40
"""Characters of an expression, and how deep it may be nested."""
ACCEPTED = "accepted: factors, quoted texts, numbers, ==, !=, <, <=, >, >=, in, and, or, not, brackets"

Setting = Mapping[str, str]
"""By key the level, as text; a key that a combination lacks is None in comparisons."""
Operand = Callable[[Setting], str | tuple[str, ...]]
Condition = Callable[[Setting], bool]

ORDER: dict[type[ast.cmpop], Callable[[Decimal, Decimal], bool]] = {
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}
ABSENT = "null"
"""As a configuration writes None."""


def condition(text: object, levels: Mapping[str, set[str]]) -> Condition:
    """What an expression says of a combination of levels.

    Levels are equal as numbers where both sides are numbers, else as texts; `<` and its kin take numbers.

    Args:
        text: the expression.
        levels: of each name that it may use all values, as texts.

    Raises:
        InputError: anything else than `ACCEPTED`, or a name that is no factor.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"study.where: an expression over factors is expected; got {printable(text)!r}")
    if len(text) > LONGEST:
        raise InputError(f"study.where: {len(text)} characters; accepted are at most {LONGEST}")
    tree = _parsed(text.strip())
    return _Reading(text.strip(), levels).condition(tree)


def _parsed(text: str) -> ast.expr:
    """The expression as a tree. Raises InputError for what is none, or is nested too deeply."""
    try:
        with warnings.catch_warnings(action="ignore"):  # of escapes that Python does not know
            tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise InputError(f"study.where: {printable(text)[:80]}: {printable(reason)}; {ACCEPTED}") from None
    except (RecursionError, MemoryError):
        tree, layer = None, []
    else:
        layer = [tree]
    for _ in range(DEEPEST):
        layer = [child for node in layer for child in ast.iter_child_nodes(node)]
    if tree is None or layer:
        raise InputError(f"study.where: {printable(text)[:80]}: nested too deeply; {ACCEPTED}")
    return tree


class _Reading:
    """An expression while it is read."""

    def __init__(self, text: str, levels: Mapping[str, set[str]]) -> None:
        self.text, self.levels = text, levels
        self.shown = printable(text)[:80]

    def condition(self, node: ast.expr) -> Condition:
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self.condition(each) for each in values]
                every = all if isinstance(op, ast.And) else any
                return lambda setting: every(part(setting) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self.condition(operand)
                return lambda setting: not inner(setting)
            case ast.Compare(left=left, ops=ops, comparators=right):
                sides = [left, *right]
                parts = [self.comparison(*each) for each in zip(ops, sides, sides[1:], strict=False)]
                return lambda setting: all(part(setting) for part in parts)
        if isinstance(node, ast.Name | ast.Attribute):
            key = self.key(node)
            raise InputError(f"study.where: {key}: a comparison is expected, as in {key} == 'x'")
        raise self.refused(node)

    def comparison(self, op: ast.cmpop, left: ast.expr, right: ast.expr) -> Condition:
        if isinstance(op, ast.In | ast.NotIn):
            ours, theirs, wanted = self.operand(left), self.several(right), isinstance(op, ast.In)
            return lambda setting: any(_equal(ours(setting), each) for each in theirs) is wanted
        ours, theirs = self.operand(left), self.operand(right)
        if isinstance(op, ast.Eq | ast.NotEq):
            wanted = isinstance(op, ast.Eq)
            return lambda setting: _equal(ours(setting), theirs(setting)) is wanted
        if type(op) not in ORDER:  # is, is not
            raise InputError(f"study.where: {self.shown}: `is` is not accepted; == is")
        for side in (left, right):
            self.require_numbers(side)
        compare = ORDER[type(op)]

        def ordered(setting: Setting) -> bool:
            values = [exact(side(setting)) for side in (ours, theirs)]
            return ABSENT not in values and compare(*values)

        return ordered

    def require_numbers(self, node: ast.expr) -> None:
        """Raises InputError for a factor with levels, or a text, that `<` can do nothing with."""
        key = None if self.constant(node) is not None else self.key(node)
        values = {self.constant(node)} if key is None else self.levels[key] - {ABSENT}
        if texts := sorted(value for value in values if not is_number(value)):
            named = f"{key}={texts[0]}" if key else repr(texts[0])
            raise InputError(f"study.where: {self.shown}: {printable(named)} is no number; accepted: ==, in")

    def operand(self, node: ast.expr) -> Callable[[Setting], str]:
        value = self.constant(node)
        if value is not None:
            return lambda setting: value
        key = self.key(node)
        return lambda setting: setting.get(key, ABSENT)

    def several(self, node: ast.expr) -> list[str]:
        values = (
            [self.constant(each) for each in node.elts] if isinstance(node, ast.List | ast.Tuple) else [None]
        )
        if None in values:
            raise InputError(
                f"study.where: {self.shown}: after `in` a list of texts or numbers is expected, as in "
                "head in ['rbf', 'mse']"
            )
        return values

    def constant(self, node: ast.expr) -> str | None:
        """A text, a number, True, False or None as a configuration writes it; None for anything else."""
        match node:
            case ast.Constant(value=None):
                return ABSENT
            case ast.Constant(value=bool(value)):
                return str(value).lower()
            case ast.Constant(value=int(value) | float(value)):
                return repr(value)
            case ast.Constant(value=str(value)):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)) if type(value) in (int, float):
                return repr(-value)
        return None

    def key(self, node: ast.expr) -> str:
        """The factor that a name, or a dotted name, is. Raises InputError for another node."""
        parts, inner = [], node
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if not isinstance(inner, ast.Name):
            raise self.refused(node)
        name = ".".join([inner.id, *reversed(parts)])
        if name not in self.levels:
            there = ", ".join(self.levels) or "none"
            raise InputError(
                f"study.where: {printable(name)} is no factor; there are: {there} (texts stand in quotes)"
            )
        return name

    def refused(self, node: ast.expr) -> InputError:
        """What is not accepted, as it was written."""
        written = ast.get_source_segment(self.text, node) or self.text
        return InputError(f"study.where: {printable(written)[:80]}: not accepted; {ACCEPTED}")


def _equal(one: str, other: str) -> bool:
    """As numbers, as texts, or as true, false and null in any letters."""
    words = ("true", "false", ABSENT)
    return same(one, other) or (one.lower() in words and one.lower() == other.lower())
