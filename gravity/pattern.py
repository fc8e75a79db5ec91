"""Table patterns: which tables of which databases a rule, a source or a target means.

Pure: no I/O.

`users` means that table in every database, `shop.users` the one of database `shop`. `*` stands for
any text, `?` for one character, `[ab]`, `[a-z]` for one of a set and `[!ab]` for one outside it; a
set also takes a special character literally: `[.]`, `[*]`. Upper and lower case differ.

Where captures are asked for, `{part}` stands for any text too, and `{part:[0-9]*}` for what that pattern
means; what stood there is known by that name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

_SPECIAL = frozenset("*?[")
_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([^{}]+))?\}")


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
        return not _SPECIAL & set(self.text) and not self.captures

    @property
    def captures(self) -> tuple[str, ...]:
        """The names of what it captures, in order."""
        return tuple(self._expression.groupindex)

    @property
    def has_nameless(self) -> bool:
        """Whether it has a wildcard that is not captured."""
        text = _CAPTURE.sub("", self.text) if self.captures else self.text
        return bool(_SPECIAL & set(text))

    def captured(self, name: str) -> dict[str, str]:
        """What the captures stand for in `name`, which the pattern means."""
        found = self._expression.fullmatch(name)
        return {} if found is None else found.groupdict()


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


def parse_glob(text: str, *, captures: bool = False) -> Glob:
    """The pattern that `text` says; with `captures`, `{name}` and `{name:pattern}` are captured.

    Raises:
        PatternError: empty, padded with spaces, a `[` that is never closed, a reversed range, or a `{`
            that begins no capture.
    """
    if not text:
        raise PatternError("an empty pattern means no table; * means all of them")
    if text != text.strip():
        raise PatternError(f"{text!r}: spaces around a name")
    return Glob(text, re.compile(_expression(text, captures=captures), re.DOTALL))


def _expression(text: str, *, captures: bool) -> str:
    parts: list[str] = []
    index = 0
    while index < len(text):
        character = text[index]
        if captures and character in "{}":
            match = _CAPTURE.match(text, index)
            if match is None or f"(?P<{match[1]}>" in "".join(parts):
                raise PatternError(
                    f"{text!r}: the {character} at character {index + 1} begins no capture; "
                    "write {name} or {name:pattern}, each name once"
                )
            inner = ".*" if match[2] is None else _expression(match[2], captures=False)
            parts.append(f"(?P<{match[1]}>{inner})")
            index = match.end() - 1
        elif character == "*":
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
    return "".join(parts)


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

    @property
    def captures(self) -> tuple[str, ...]:
        """The names of what it captures."""
        return (*(self.database.captures if self.database else ()), *self.table.captures)

    def captured(self, database: str, table: str) -> dict[str, str]:
        """What the captures stand for in the name of a table that the pattern means."""
        found = {} if self.database is None else self.database.captured(database)
        return found | self.table.captured(table)


@lru_cache(maxsize=4096)
def parse_table_pattern(text: str, *, captures: bool = False) -> TablePattern:
    """The pattern that `text` says: `table` or `database.table`, each a glob.

    Raises:
        PatternError: either glob is bad, there is more than one dot outside a set, or one name is captured twice.
    """
    dots = []
    index = 0
    while index < len(text):
        if text[index] == "[":
            end = _set_end(text, index)
            index = end if end > 0 else len(text)
        elif captures and text[index] == "{":
            end = text.find("}", index)
            index = end if end > 0 else len(text)
        elif text[index] == ".":
            dots.append(index)
        index += 1
    if len(dots) > 1:
        raise PatternError(f"{text!r}: more than one dot; write database.table, and [.] for a dot")
    if not dots:
        return TablePattern(text, None, parse_glob(text, captures=captures))
    database = parse_glob(text[: dots[0]], captures=captures)
    table = parse_glob(text[dots[0] + 1 :], captures=captures)
    twice = set(database.captures) & set(table.captures)
    if twice:
        raise PatternError(f"{text!r}: {{{min(twice)}}} is captured twice")
    return TablePattern(text, database, table)


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
