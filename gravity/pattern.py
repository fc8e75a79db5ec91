"""Table patterns: which tables of which databases a rule, a source or a target means.

Pure: no I/O.

`users` means that table in every database, `shop.users` the one of database `shop`. `*` stands for
any text, `?` for one character, `[ab]`, `[a-z]` for one of a set and `[!ab]` for one outside it; a
set also takes a special character literally: `[.]`, `[*]`. Upper and lower case differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

_SPECIAL = frozenset("*?[")


class PatternError(ValueError):
    """A pattern that can't be read; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Glob:
    """A pattern over one name."""

    text: str
    _expression: re.Pattern[str] = field(repr=False, compare=False)

    def matches(self, name: str) -> bool:
        """Whether the pattern means `name`, whole."""
        return self._expression.fullmatch(name) is not None

    @property
    def is_exact(self) -> bool:
        """Whether the pattern has no wildcard, so that it means one name only."""
        return not _SPECIAL & set(self.text)


def _set_end(text: str, start: int) -> int:
    """The index of the `]` that closes the set opened at `start`, or -1."""
    first = start + 2 if text[start + 1 : start + 2] == "!" else start + 1
    return text.find("]", first + 1)  # A `]` in first place stands for itself.


def _set_expression(text: str, body: str) -> str:
    negated = body.startswith("!")
    body = body.removeprefix("!")
    for low, high in re.findall(r"(?s)(.)-(.)", body):
        if low > high:
            raise PatternError(f"{text!r}: the range {low}-{high} runs backwards")
    inner = "".join(c if c == "-" else re.escape(c) for c in body)
    return f"[{'^' if negated else ''}{inner}]"


def parse_glob(text: str) -> Glob:
    """The pattern that `text` says.

    Raises:
        PatternError: empty, padded with spaces, a `[` that is never closed, or a reversed range.
    """
    if not text:
        raise PatternError("an empty pattern means no table; * means all of them")
    if text != text.strip():
        raise PatternError(f"{text!r}: spaces around a name")
    parts: list[str] = []
    index = 0
    while index < len(text):
        character = text[index]
        if character == "*":
            parts.append(".*")
        elif character == "?":
            parts.append(".")
        elif character == "[":
            end = _set_end(text, index)
            if end < 0:
                raise PatternError(f"{text!r}: the [ at character {index + 1} is never closed")
            parts.append(_set_expression(text, text[index + 1 : end]))
            index = end
        else:
            parts.append(re.escape(character))
        index += 1
    return Glob(text, re.compile("".join(parts), re.DOTALL))


@dataclass(frozen=True, slots=True)
class TablePattern:
    """A pattern over a table's name and, where it holds a dot, its database's name."""

    text: str
    database: Glob | None
    """None = every database."""
    table: Glob

    def matches(self, database: str, table: str) -> bool:
        """Whether the pattern means `table` of `database`."""
        return self.table.matches(table) and (
            self.database is None or self.database.matches(database)
        )

    @property
    def is_exact(self) -> bool:
        """Whether the table's name is given without wildcards (the database may have them)."""
        return self.table.is_exact


@lru_cache(maxsize=4096)
def parse_table_pattern(text: str) -> TablePattern:
    """The pattern that `text` says: `table` or `database.table`, each a glob.

    Raises:
        PatternError: either glob is bad, or there is more than one dot outside a set.
    """
    dots = []
    index = 0
    while index < len(text):
        if text[index] == "[":
            end = _set_end(text, index)
            index = end if end > 0 else len(text)
        elif text[index] == ".":
            dots.append(index)
        index += 1
    if len(dots) > 1:
        raise PatternError(f"{text!r}: more than one dot; write database.table, and [.] for a dot")
    if not dots:
        return TablePattern(text, None, parse_glob(text))
    return TablePattern(text, parse_glob(text[: dots[0]]), parse_glob(text[dots[0] + 1 :]))


@dataclass(frozen=True, slots=True)
class TableSelection:
    """Tables that match one of `include` and none of `exclude`."""

    include: tuple[TablePattern, ...]
    exclude: tuple[TablePattern, ...] = ()

    def matches(self, database: str, table: str) -> bool:
        """Whether `table` of `database` is selected."""
        return any(pattern.matches(database, table) for pattern in self.include) and not any(
            pattern.matches(database, table) for pattern in self.exclude
        )


def select_tables(include: Iterable[str], exclude: Iterable[str] = ()) -> TableSelection:
    """The selection that the texts say. Raises `PatternError` as `parse_table_pattern` does."""
    return TableSelection(
        tuple(parse_table_pattern(text) for text in include),
        tuple(parse_table_pattern(text) for text in exclude),
    )
