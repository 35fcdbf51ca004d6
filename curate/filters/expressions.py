"""Rules of users: conditions in SQL, Polars in text, or Polars, that are true for documents to remove."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from curate.errors import UsageError, unknown

if TYPE_CHECKING:
    import polars as pl

_FUNCTIONS = ("col", "lit", "when", "coalesce", "concat_str", "all_horizontal", "any_horizontal", "min_horizontal",
              "max_horizontal", "sum_horizontal", "mean_horizontal")  # fmt: skip
_TYPES = ("String", "Boolean", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64", "Float32",
          "Float64", "Date", "Datetime")  # fmt: skip
_METHOD_NAMES = """
then when otherwise abs ceil floor round sign sqrt cbrt exp log log10 log1p sin cos tan tanh clip cast eq eq_missing
ne ne_missing lt le gt ge add sub mul truediv floordiv mod pow neg and_ or_ not_ xor is_null is_not_null is_nan
is_not_nan is_finite is_infinite is_in is_between fill_null fill_nan is_close str dt list arr struct contains
contains_any starts_with ends_with len_bytes len_chars count_matches to_lowercase to_uppercase strip_chars
strip_chars_start strip_chars_end strip_prefix strip_suffix slice head tail find extract replace replace_all split
to_integer reverse year month day hour minute second weekday date time ordinal_day len get first last any all min max
mean sum count field
"""
_OF_NAMESPACES = """
slice head tail reverse len get first last any all min max mean sum count
"""
_NAMESPACES = frozenset(("str", "dt", "list", "arr", "struct"))
_METHODS = frozenset(_METHOD_NAMES.split())
_ON_EXPRESSIONS = _METHODS - frozenset(_OF_NAMESPACES.split()) - _NAMESPACES  # the others are of lists, and of rows
_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge, ast.Eq: operator.eq,
    ast.NotEq: operator.ne, ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.Invert: operator.invert,
    ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
_NAMES_OF_ONE_ROW = """
not abs cast strict_cast coalesce is_null is_not_null pow sqrt cbrt exp log round floor ceil sign clip fill_null
"""
_OF_ONE_ROW = frozenset(_NAMES_OF_ONE_ROW.split())
_DECIMAL = re.compile(r"('(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")|(?<![\w.])(\d+\.\d*|\.\d+)(?![\w.])")
_QUOTED = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"")
_MAX_CHARACTERS, _MAX_DEPTH = 20_000, 100


def expression(rule: str, condition: Any) -> pl.Expr:
    """The Polars expression of a condition: one of Polars as it is, text with ``pl.col(`` as Polars, else SQL.

    Raises
    ------
    UsageError : it cannot be read, or what it says of a document depends on other documents.
    """
    import polars as pl

    if isinstance(condition, pl.Expr):
        found = condition
    elif not isinstance(condition, str):
        raise UsageError(f"filter rule {rule!r}: {condition!r} is no condition; give SQL or Polars")
    elif len(condition) > _MAX_CHARACTERS:
        raise UsageError(f"filter rule {rule!r}: {len(condition):,} characters are too long a condition")
    elif condition.lstrip().startswith("pl.") or "pl.col(" in condition:
        found = _polars(rule, condition)
    else:
        found = _sql(rule, condition)
    if not _of_one_document(found):
        raise UsageError(
            f"filter rule {rule!r}: {_shown(condition)} looks at more than one document at a time (mean, rank, over, "
            "a function in Python, ...), which would depend on the batch; give a number instead"
        )
    return found


def _of_one_document(found: pl.Expr) -> bool:
    """Whether no part of an expression looks at other rows: Polars says so of each part, not of a whole."""
    import polars as pl

    try:
        parts = found.meta.pop()
        if not parts:
            return found.meta.is_column() or found.meta.is_literal()
        alone = found.meta.is_row_separable() and (found.meta.is_length_preserving() or not found.meta.root_names())
    except pl.exceptions.ColumnNotFoundError:  # what is of SQL alone asks the columns' types before it tells
        alone = _by_its_name(str(found))
    except pl.exceptions.PolarsError:  # of subqueries and functions in Python
        return False
    return alone and all(map(_of_one_document, parts))


def _by_its_name(shown: str) -> bool:
    """Whether the outermost part of an expression, as Polars shows it, is one that looks at one row at a time."""
    if shown.startswith(("[", ".when(")):  # two values and what is between them; CASE
        return True
    depth = 0
    for at in range(len(shown) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(shown[at], 0)
        if depth == 0:
            name = re.search(r"\.(\w+)$", shown[:at])
            return name is not None and (name[1].startswith("sql_") or name[1] in _OF_ONE_ROW)
    return False


def columns_of(found: pl.Expr) -> list[str]:
    """The columns that an expression reads."""
    return sorted(set(found.meta.root_names()))


def check_columns(rule: str, condition: Any, found: pl.Expr, known: Iterable[str]) -> None:
    """
    Raises
    ------
    UsageError : the expression reads a column that there is not.
    """
    known = list(known)
    for name in columns_of(found):
        if name not in known:
            raise UsageError(f"filter rule {rule!r}: {_shown(condition)}: {unknown('column', name, known)}")


def evaluated(rule: str, condition: Any, found: pl.Expr, frame: pl.DataFrame) -> pl.Series:
    """Boolean[n_docs], true for documents to remove.

    Raises
    ------
    UsageError : it cannot be worked out on these columns, or is not true or false.
    """
    import polars as pl

    try:
        values = frame.select(found.alias("value"))["value"]
    except (pl.exceptions.PolarsError, TypeError, ValueError) as error:
        shown = str(error).partition("\n")[0]
        raise UsageError(f"filter rule {rule!r}: {_shown(condition)}: {shown}{_hint(found, frame)}") from error
    if values.dtype == pl.Null:
        values = values.cast(pl.Boolean)
    if values.dtype != pl.Boolean:
        raise UsageError(
            f"filter rule {rule!r}: {_shown(condition)} is {values.dtype}, not true or false for each document; "
            f"compare it with something{_hint(found, frame)}"
        )
    return values.fill_null(value=False)


def _hint(found: pl.Expr, frame: pl.DataFrame) -> str:
    """What to do about columns that are text, as all of JSON lines and CSV are."""
    import polars as pl

    texts = [name for name in columns_of(found) if name != "text" and frame.schema.get(name) == pl.String]
    if not texts:
        return ""
    return f"; {texts[0]!r} is text here, as columns of JSON lines and CSV are: TRY_CAST({texts[0]} AS DOUBLE)"


def _shown(condition: Any) -> str:
    text = str(condition)
    return f"`{text if len(text) <= 200 else text[:200] + '...'}`"


def _sql(rule: str, text: str) -> pl.Expr:
    import polars as pl

    if re.search(r"(?i)\b(select|from)\b", _QUOTED.sub("''", text)):
        raise UsageError(f"filter rule {rule!r}: {_shown(text)} has a subquery; give one condition on columns")
    try:
        return pl.sql_expr(_DECIMAL.sub(lambda found: found[1] or f"{found[2]}e0", text))  # floats, no decimals
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"filter rule {rule!r}: {_shown(text)} is no condition in SQL: {error}") from error


def _polars(rule: str, text: str) -> pl.Expr:
    """An expression of Polars, of its functions that work on one document and run no Python."""
    import polars as pl

    try:
        tree = ast.parse(text.strip(), mode="eval").body
        found = _Reader(pl).read(tree, 0)
    except (SyntaxError, RecursionError, MemoryError) as error:
        raise UsageError(f"filter rule {rule!r}: {_shown(text)} is no expression of Polars: {error}") from error
    except _RefusedError as error:
        raise UsageError(f"filter rule {rule!r}: {_shown(text)}: {error}") from error
    except (TypeError, ValueError, AttributeError, ArithmeticError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"filter rule {rule!r}: {_shown(text)}: {error}") from error
    if not isinstance(found, pl.Expr):
        raise UsageError(f"filter rule {rule!r}: {_shown(text)} is no expression of Polars")
    return found


class _RefusedError(Exception):
    """What an expression in text may not have."""


class _Reader:
    """Works out a syntax tree, node by node; nothing that is not named here can be reached."""

    def __init__(self, polars: Any) -> None:
        self.pl = polars

    def read(self, node: ast.AST, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise _RefusedError("too deep")
        deeper = depth + 1
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return value
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.read(item, deeper) for item in items]
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
                return _OPERATORS[type(op)](self.read(operand, deeper))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
                return self._both(op, self.read(left, deeper), self.read(right, deeper))
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _OPERATORS:
                return self._both(op, self.read(left, deeper), self.read(right, deeper))
            case ast.Attribute(value=ast.Name(id="pl"), attr=name) if name in _TYPES:
                return getattr(self.pl, name)
            case ast.Attribute(value=of, attr=name) if name in _NAMESPACES:
                return getattr(self._expression(self.read(of, deeper)), name)
            case ast.Call(func=function, args=args, keywords=keywords):
                call = self._function(function, deeper)
                named = {self._keyword(keyword): self.read(keyword.value, deeper) for keyword in keywords}
                return call(*(self.read(arg, deeper) for arg in args), **named)
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                raise _RefusedError("write & | ~ with brackets around each condition, not and, or, not")
            case ast.Compare():
                raise _RefusedError("write each comparison by itself: (a < b) & (b < c)")
        raise _RefusedError(f"`{ast.unparse(node)}` is not allowed")

    def _both(self, op: ast.AST, left: Any, right: Any) -> Any:
        if not any(isinstance(side, self.pl.Expr) for side in (left, right)) and not all(
            isinstance(side, (int, float)) for side in (left, right)
        ):
            raise _RefusedError("arithmetic is of columns and numbers")
        return _OPERATORS[type(op)](left, right)

    def _keyword(self, keyword: ast.keyword) -> str:
        if keyword.arg is None or keyword.arg.startswith("_"):
            raise _RefusedError("arguments are given one by one")
        return keyword.arg

    def _function(self, node: ast.expr, depth: int) -> Callable[..., Any]:
        match node:
            case ast.Attribute(value=ast.Name(id="pl"), attr=name) if name in _FUNCTIONS:
                return getattr(self.pl, name)
            case ast.Attribute(value=ast.Attribute(attr=space) as of, attr=name) if (
                space in _NAMESPACES and name in _METHODS
            ):
                return getattr(self.read(of, depth), name)
            case ast.Attribute(value=of, attr=name) if name in _ON_EXPRESSIONS:
                return getattr(self._expression(self.read(of, depth)), name)
        allowed = ", ".join(sorted(_METHODS - _NAMESPACES))
        raise _RefusedError(
            f"`{ast.unparse(node)}` is not allowed (there are: pl.{', pl.'.join(_FUNCTIONS)}; {allowed})"
        )

    def _expression(self, value: Any) -> Any:
        """What methods are called of: an expression, or the beginning of ``pl.when``."""
        if isinstance(value, self.pl.Expr) or type(value).__module__.startswith("polars."):
            return value
        raise _RefusedError(f"{value!r} is no expression")
