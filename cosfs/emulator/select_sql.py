"""The SQL of SELECT Object Content: a parser that makes functions of rows.

SELECT * | items FROM COSObject[path] [alias] [WHERE condition] [LIMIT number], with aggregates, CAST, LIKE,
IN, BETWEEN, IS NULL, arithmetic and some functions of text. What is unknown is neither true nor false.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from cosfs.emulator.errors import CosError
from cosfs.emulator.numerals import whole
from cosfs.emulator.select_functions import AGGREGATES, FUNCTIONS, Aggregate
from cosfs.emulator.select_lexer import Token, string, tokens, unquoted
from cosfs.emulator.select_logic import Expression, any_of, binary, both, either, opposite
from cosfs.emulator.select_rows import Index, Name, Path, Row
from cosfs.emulator.select_values import Value, cast, compare, like_pattern, negated, number, text

MAX_LENGTH = 256 * 1024
_MOST_NESTED = 100
_RESERVED = frozenset(
    {
        *(
            "SELECT",
            "FROM",
            "WHERE",
            "LIMIT",
            "AND",
            "OR",
            "NOT",
            "AS",
            "LIKE",
            "IN",
            "BETWEEN",
            "IS",
            "NULL",
        ),
        "ESCAPE",
    }
)
_TYPES = frozenset(
    {
        *("INT", "INTEGER", "FLOAT", "DOUBLE", "REAL", "DECIMAL", "NUMERIC", "STRING", "CHAR", "VARCHAR"),
        "BOOL",
        "BOOLEAN",
    }
)


@dataclass(frozen=True, slots=True)
class Item:
    """One column of the result."""

    name: str
    value: Expression


@dataclass(slots=True)
class Query:
    """A parsed expression. No items means all columns."""

    items: list[Item] = field(default_factory=list)
    source: Path = ()
    where: Expression | None = None
    limit: int | None = None
    aggregates: list[Aggregate] = field(default_factory=list)


def parse(expression: str) -> Query:
    """Parse a SELECT; CosError if it is none."""
    if len(expression) > MAX_LENGTH:
        raise CosError("ExpressionTooLong", f"The expression is longer than {MAX_LENGTH} characters.")
    return _Parser(expression.strip().removesuffix(";")).query()


class _Parser:
    """Recursive descent, one method for each level of precedence."""

    def __init__(self, expression: str) -> None:
        self._tokens = tokens(expression)
        self._next = 0
        self._depth = 0
        self._table = self._alias = ""
        self._columns: dict[tuple[int, int], str] = {}  # names of columns by where they begin and end
        self._aggregates: list[Aggregate] = []
        self._in_aggregate = False
        self._bare = False  # whether an item uses a column outside of aggregates

    # Tokens

    @property
    def _token(self) -> Token:
        return self._tokens[self._next]

    def _unexpected(self, wanted: str = "") -> CosError:
        token = self._token
        found = f"{token.value!r} at character {token.position + 1}" if token.value else "the end"
        return CosError("ParseUnexpectedToken", f"{found} was not expected{': ' + wanted if wanted else ''}.")

    def _take(self) -> Token:
        self._next += 1
        return self._tokens[self._next - 1]

    def _sign(self, *signs: str) -> str:
        """Take one of some signs, if it comes next."""
        if self._token.kind == "sign" and self._token.value in signs:
            return self._take().value
        return ""

    def _word(self, *words: str) -> str:
        """Take one of some keywords, if it comes next."""
        return self._take().word if self._token.word in words else ""

    def _need(self, wanted: str) -> None:
        if not (self._sign(wanted) or self._word(wanted)):
            raise self._unexpected(f"{wanted} must come here")

    # Clauses

    def query(self) -> Query:
        """Parse all of it. FROM is read first: its alias decides what the columns mean."""
        self._need("SELECT")
        start, self._next = self._next, self._position_of_from()
        query = Query()
        query.source = self._from()
        after, self._next = self._next, start
        query.items = self._items()
        self._next = after
        if self._aggregates and self._bare:
            raise CosError("UnsupportedSqlStructure", "Columns cannot be selected together with aggregates.")
        query.aggregates = self._aggregates
        if self._word("WHERE"):
            query.where = self._or()
            if len(self._aggregates) > len(query.aggregates):
                raise CosError("UnsupportedSqlStructure", "WHERE cannot have aggregates.")
        if self._word("LIMIT"):
            query.limit = self._limit()
        if self._token.kind != "end":
            raise self._unexpected()
        return query

    def _position_of_from(self) -> int:
        depth = 0
        for position, token in enumerate(self._tokens):
            depth += {"(": 1, ")": -1}.get(token.value, 0) if token.kind == "sign" else 0
            if token.word == "FROM" and depth == 0:
                return position
        raise CosError("ParseExpectedKeyword", "The expression has no FROM.")

    def _limit(self) -> int:
        limit = whole(self._token.value) if self._token.kind == "number" else None
        if limit is None:
            raise self._unexpected("LIMIT needs a number")
        self._take()
        return limit

    def _from(self) -> Path:
        self._need("FROM")
        if self._token.kind not in ("name", "quoted") or self._token.word in _RESERVED:
            raise self._unexpected("FROM needs COSObject")
        self._table = self._take().value
        path = self._steps([])
        self._word("AS")
        if self._token.kind in ("name", "quoted") and self._token.word not in _RESERVED:
            self._alias = unquoted(self._take())
        return tuple(path)

    def _items(self) -> list[Item]:
        if self._sign("*"):
            return self._end_of_items([])
        items = [self._item(1)]
        while self._sign(","):
            items.append(self._item(len(items) + 1))
        return self._end_of_items(items)

    def _end_of_items(self, items: list[Item]) -> list[Item]:
        if self._token.word != "FROM":
            raise self._unexpected()
        return items

    def _item(self, position: int) -> Item:
        start = self._next
        value = self._or()
        of_column = self._columns.get((start, self._next), "")
        name = of_column or f"_{position}"
        if self._word("AS") or (self._token.kind in ("name", "quoted") and self._token.word not in _RESERVED):
            if self._token.kind not in ("name", "quoted"):
                raise self._unexpected("a name must come here")
            name = unquoted(self._take())
        return Item(name, value)

    # Conditions

    def _or(self) -> Expression:
        self._depth += 1
        if self._depth > _MOST_NESTED:
            raise CosError("ParseUnexpectedToken", "The expression is nested too deeply.")
        left = self._and()
        while self._word("OR"):
            left = either(left, self._and())
        self._depth -= 1
        return left

    def _and(self) -> Expression:
        left = self._not()
        while self._word("AND"):
            left = both(left, self._not())
        return left

    def _not(self) -> Expression:
        turned = False
        while self._word("NOT"):
            turned = not turned
        found = self._predicate()
        return opposite(found) if turned else found

    def _predicate(self) -> Expression:
        left = self._sum()
        operator = self._sign("=", "!=", "<>", "<", "<=", ">", ">=")
        if operator:
            right = self._sum()
            return lambda row: compare(operator, left(row), right(row))
        if self._word("IS"):
            turned = bool(self._word("NOT"))
            if not self._word("NULL", "MISSING"):
                raise self._unexpected("NULL must come here")
            return lambda row: (left(row) is None) != turned
        turned = bool(self._word("NOT"))
        found = self._of_words(left)
        if found is None:
            if turned:
                raise self._unexpected()
            return left
        return opposite(found) if turned else found

    def _of_words(self, left: Expression) -> Expression | None:
        """Parse what may follow NOT: LIKE, IN or BETWEEN."""
        match self._word("LIKE", "IN", "BETWEEN"):
            case "LIKE":
                return self._like(left)
            case "IN":
                self._need("(")
                return any_of(left, self._arguments())
            case "BETWEEN":
                low = self._sum()
                self._need("AND")
                high = self._sum()
                return both(
                    lambda row: compare(">=", left(row), low(row)),
                    lambda row: compare("<=", left(row), high(row)),
                )
        return None

    def _like(self, left: Expression) -> Expression:
        pattern, escape = self._sum(), ""
        if self._word("ESCAPE"):
            if self._token.kind != "text" or len(string(self._token.value)) != 1:
                raise self._unexpected("ESCAPE needs one character")
            escape = string(self._take().value)

        def like(row: Row | None) -> Value:
            value, wanted = left(row), pattern(row)
            if value is None or wanted is None:
                return None
            return like_pattern(text(wanted), escape).fullmatch(text(value)) is not None

        return like

    # Values

    def _sum(self) -> Expression:
        left = self._product()
        while operator := self._sign("+", "-", "||"):
            left = binary(operator, left, self._product())
        return left

    def _product(self) -> Expression:
        left = self._signed()
        while operator := self._sign("*", "/", "%"):
            left = binary(operator, left, self._signed())
        return left

    def _signed(self) -> Expression:
        turned = False
        while sign := self._sign("-", "+"):
            turned = turned != (sign == "-")
        value = self._primary()
        return (lambda row: negated(value(row))) if turned else value

    def _primary(self) -> Expression:
        token = self._token
        if token.kind == "number":
            constant: Value = number(self._take().value)
            return lambda row: constant
        if token.kind == "text":
            constant = string(self._take().value)
            return lambda row: constant
        if self._sign("("):
            inner = self._or()
            self._need(")")
            return inner
        if token.word in ("TRUE", "FALSE", "NULL", "MISSING"):
            constant = {"TRUE": True, "FALSE": False}.get(self._take().word)
            return lambda row: constant
        if token.kind == "name" and self._tokens[self._next + 1].value == "(":
            return self._call()
        if token.kind in ("name", "quoted") and token.word not in _RESERVED:
            return self._column()
        raise self._unexpected()

    def _call(self) -> Expression:
        name = self._take().value.upper()
        self._need("(")
        if name == "CAST":
            return self._cast()
        if name in AGGREGATES:
            return self._aggregate(name)
        if name not in FUNCTIONS:
            raise CosError("UnsupportedFunction", f"There is no function {name}.")
        function, least, most = FUNCTIONS[name]
        arguments = self._arguments()
        if not least <= len(arguments) <= most:
            raise CosError("EvaluatorInvalidArguments", f"{name} has another number of arguments.")
        return lambda row: function(*(argument(row) for argument in arguments))

    def _arguments(self) -> list[Expression]:
        arguments = [self._or()]
        while self._sign(","):
            arguments.append(self._or())
        self._need(")")
        return arguments

    def _cast(self) -> Expression:
        value = self._or()
        self._need("AS")
        kind = self._word(*_TYPES)
        if not kind:
            raise CosError("ParseExpectedTypeName", "CAST needs the name of a type after AS.")
        if self._sign("("):
            while self._token.kind == "number" or self._token.value == ",":
                self._take()
            self._need(")")
        self._need(")")
        return lambda row: cast(value(row), kind)

    def _aggregate(self, name: str) -> Expression:
        if self._in_aggregate:
            raise CosError("UnsupportedSqlStructure", "Aggregates cannot have aggregates within.")
        self._in_aggregate = True
        argument: Expression = _one
        if not (name == "COUNT" and self._sign("*")):
            argument = self._or()
        self._need(")")
        self._in_aggregate = False
        made = AGGREGATES[name](argument)
        self._aggregates = [*self._aggregates, made]
        return lambda row: made.result()

    def _column(self) -> Expression:
        self._bare = self._bare or not self._in_aggregate
        start, token = self._next, self._take()
        path = tuple(self._steps([Name(unquoted(token), token.kind == "quoted")]))
        first = path[0]
        known = {self._alias.lower(), self._table.lower().strip('"')} - {""}
        if len(path) > 1 and isinstance(first, Name) and first.text.lower() in known:
            path = path[1:]
        last = path[-1]
        self._columns[start, self._next] = last.text if isinstance(last, Name) else ""
        return lambda row: row.column(path) if row is not None else None

    def _steps(self, path: list[Name | Index]) -> list[Name | Index]:
        while True:
            if self._sign("."):
                if self._token.kind not in ("name", "quoted"):
                    raise self._unexpected("a name must come here")
                token = self._take()
                path.append(Name(unquoted(token), token.kind == "quoted"))
            elif self._sign("["):
                path.append(self._subscript())
                self._need("]")
            else:
                return path

    def _subscript(self) -> Name | Index:
        if self._sign("*"):
            return Index(None)
        token = self._take()
        if token.kind == "number" and (place := whole(token.value)) is not None:
            return Index(place)
        if token.kind == "text":
            return Name(string(token.value), quoted=True)
        self._next -= 1
        raise self._unexpected("[ needs a number, a name or *")


def _one(row: Row | None) -> Value:
    return 1
