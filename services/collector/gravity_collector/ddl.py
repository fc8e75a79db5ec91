"""Which tables a statement in the binlog changes the shape of. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
      (?P<comment>/\*(?!M?!).*?\*/|--[ \t\n][^\n]*|\#[^\n]*)
    | (?P<hint>/\*M?!\d*|\*/)
    | `(?P<quoted>(?:[^`]|``)+)`
    | (?P<text>'(?:[^'\\]|\\.|'')*'|"(?:[^"\\]|\\.|"")*")
    | (?P<word>[\w$]+)
    | (?P<mark>[^\s\w])
    """,
    re.VERBOSE | re.DOTALL,
)
_KINDS = frozenset(("CREATE", "ALTER", "DROP", "RENAME", "TRUNCATE"))
_BETWEEN = frozenset(
    (
        "OR",
        "REPLACE",
        "ONLINE",
        "OFFLINE",
        "IGNORE",
        "UNIQUE",
        "FULLTEXT",
        "SPATIAL",
        "VECTOR",
        "IF",
        "NOT",
        "EXISTS",
    )
)
_DATABASE_WORDS = frozenset(("DATABASE", "SCHEMA"))


@dataclass(frozen=True, slots=True)
class Ddl:
    """What a statement touches: whole databases, or single tables."""

    databases: tuple[str, ...] = ()
    tables: tuple[tuple[str, str], ...] = ()
    """(database, table), in the order of the statement."""


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    is_name: bool
    """A quoted name, which is never a keyword."""

    @property
    def word(self) -> str:
        return "" if self.is_name else self.text.upper()


def parse_ddl(sql: str, database: str, *, ansi_quotes: bool = False) -> Ddl | None:
    """What `sql` changes the shape of; None when it is no change of a table or database.

    `database` is the session's default; with `ansi_quotes`, "…" quotes names. Temporary tables are
    their session's own business.
    """
    tokens = _Tokens(list(_tokens(sql, ansi_quotes=ansi_quotes)))
    kind = tokens.next_word()
    if kind not in _KINDS:
        return None
    subject = tokens.next_word()
    while subject in _BETWEEN:
        subject = tokens.next_word()
    if kind == "TRUNCATE" and subject != "TABLE":
        tokens.back()
        subject = "TABLE"
    if subject in _DATABASE_WORDS:
        tokens.skip(_BETWEEN)
        name = tokens.name()
        return Ddl(databases=(name or database,)) if kind == "DROP" else None
    if subject == "INDEX":
        tokens.skip_to("ON")
        return _single(tokens, database)
    if subject not in ("TABLE", "TABLES"):
        return None
    if kind in ("DROP", "RENAME"):
        return Ddl(tables=tuple(_listed(tokens, database)))
    first = _single(tokens, database)
    if kind != "ALTER" or first is None:
        return first
    return Ddl(tables=(*first.tables, *_renamed(tokens, database)))


def _tokens(sql: str, *, ansi_quotes: bool) -> list[_Token]:
    found = []
    for match in _TOKEN.finditer(sql):
        if match["quoted"] is not None:
            found.append(_Token(match["quoted"].replace("``", "`"), is_name=True))
        elif match["text"] is not None:
            is_name = ansi_quotes and match["text"].startswith('"')
            found.append(
                _Token(match["text"][1:-1].replace('""', '"') if is_name else "''", is_name=is_name)
            )
        elif match["word"] is not None or match["mark"] is not None:
            found.append(_Token(match[0], is_name=False))
    return found


class _Tokens:
    """Walks over a statement; past its end everything is empty."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self) -> _Token:
        return self._tokens[self._at] if self._at < len(self._tokens) else _Token("", is_name=False)

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._tokens)

    def next_word(self) -> str:
        word = self.peek().word
        self._at += 1
        return word

    def back(self) -> None:
        self._at -= 1

    def skip(self, words: frozenset[str]) -> None:
        while self.peek().word in words:
            self._at += 1

    def skip_to(self, word: str) -> None:
        while not self.is_at_end and self.next_word() != word:
            pass

    def name(self) -> str:
        token = self.peek()
        self._at += 1
        return token.text

    def table(self, database: str) -> tuple[str, str] | None:
        if self.is_at_end:
            return None
        first = self.name()
        if self.peek().word == ".":
            self._at += 1
            return first, self.name()
        return database, first


def _single(tokens: _Tokens, database: str) -> Ddl | None:
    tokens.skip(_BETWEEN)
    table = tokens.table(database)
    return None if table is None else Ddl(tables=(table,))


def _listed(tokens: _Tokens, database: str) -> list[tuple[str, str]]:
    """`t1, t2` of DROP, `t1 TO t2, t3 TO t4` of RENAME."""
    found = []
    while not tokens.is_at_end:
        tokens.skip(_BETWEEN | {",", "TO"})
        table = tokens.table(database)
        if table is None:
            break
        found.append(table)
        if tokens.peek().word not in (",", "TO"):
            if tokens.peek().word not in ("WAIT", "NOWAIT"):
                break
            while not tokens.is_at_end and tokens.peek().word not in (",", "TO"):
                tokens.next_word()
    return found


def _renamed(tokens: _Tokens, database: str) -> list[tuple[str, str]]:
    """The new name of ALTER TABLE … RENAME [TO | AS] name."""
    while not tokens.is_at_end:
        if tokens.next_word() == "RENAME" and tokens.peek().word not in ("COLUMN", "INDEX", "KEY"):
            tokens.skip(frozenset(("TO", "AS", "=")))
            table = tokens.table(database)
            return [table] if table else []
    return []
