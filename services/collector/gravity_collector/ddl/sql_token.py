"""The words of an SQL statement, as MySQL and MariaDB cut it up. Pure.

Comments are left out; what stands in `/*! … */` and `/*M! … */` counts, because a server that did not
run it has made a plain comment of it before it wrote the statement to its binlog.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

_FORM: Final = r"""
      (?P<comment>/\*(?!M?!).*?\*/|--(?=[\s\x00-\x1f]|$)[^\n]*|\#[^\n]*)
    | (?P<hint>/\*M?!\d*|\*/)
    | `(?P<name>(?:[^`]|``)+)`
    | (?P<bits>[bB]'[01]*'|0b[01]+\b|[xX]'[0-9a-fA-F]*'|0x[0-9a-fA-F]+\b)
    | (?P<text>'(?:[^'{escape}]|{escaped}'')*'|"(?:[^"{escape}]|{escaped}"")*")
    | (?P<number>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+\b|\d+(?![\w$]))
    | (?P<word>[\w$]+)
    | (?P<mark>[^\s\w])
"""


def _pattern(escape: str, escaped: str) -> re.Pattern[str]:
    text = _FORM.replace("{escape}", escape).replace("{escaped}", escaped)
    return re.compile(text, re.VERBOSE | re.DOTALL)


_WITH_BACKSLASH: Final = _pattern("\\\\", r"\\.|")
_WITHOUT_BACKSLASH: Final = _pattern("", "")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED: Final = {
    "0": "\0",
    "b": "\b",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "Z": "\x1a",
    "%": "\\%",
    "_": "\\_",
}

TableName = tuple[str, str]
"""(database, table)"""


class TokenKind(Enum):
    """What a token is."""

    WORD = "word"
    """A keyword or a bare name."""
    NAME = "name"
    """A quoted name, which is never a keyword."""
    TEXT = "text"
    NUMBER = "number"
    BITS = "bits"
    """b'101', x'0A' or 0x0A."""
    MARK = "mark"


@dataclass(frozen=True, slots=True)
class Token:
    """One word of a statement; names and texts without their quotes."""

    kind: TokenKind
    text: str

    @property
    def word(self) -> str:
        """The keyword or mark that it may be, in capitals; empty for names, texts and numbers."""
        return self.text.upper() if self.kind in (TokenKind.WORD, TokenKind.MARK) else ""

    @property
    def is_name(self) -> bool:
        """Whether it may be the name of something."""
        return self.kind in (TokenKind.WORD, TokenKind.NAME)


_END: Final = Token(TokenKind.MARK, "")


@dataclass(frozen=True, slots=True)
class SqlMode:
    """Of a session's `sql_mode`, what decides how its statements are read and what they do."""

    bits: int = 0

    @property
    def ansi_quotes(self) -> bool:
        """Whether "…" quotes names."""
        return bool(self.bits & 1 << 2)

    @property
    def real_as_float(self) -> bool:
        """Whether REAL is FLOAT."""
        return bool(self.bits & 1)

    @property
    def no_backslash_escapes(self) -> bool:
        """Whether a backslash in a text is itself."""
        return bool(self.bits & 1 << 20)

    @property
    def strict(self) -> bool:
        """Whether ALTER TABLE fails where a value does not fit its column, instead of changing it."""
        # STRICT_TRANS_TABLES or STRICT_ALL_TABLES: ALTER asks for either, whatever the engine.
        return bool(self.bits & 3 << 21)


def tokens_of(sql: str, mode: SqlMode) -> list[Token]:
    """The statement's tokens, without comments."""
    pattern = _WITHOUT_BACKSLASH if mode.no_backslash_escapes else _WITH_BACKSLASH
    return list(_tokens(sql, pattern, mode))


def _tokens(sql: str, pattern: re.Pattern[str], mode: SqlMode) -> Iterator[Token]:
    for match in pattern.finditer(sql):
        kind = match.lastgroup
        if kind in ("comment", "hint") or kind is None:
            continue
        if kind == "name":
            yield Token(TokenKind.NAME, match["name"].replace("``", "`"))
        elif kind == "text":
            quote, body = match[0][0], match[0][1:-1]
            if quote == '"' and mode.ansi_quotes:
                yield Token(TokenKind.NAME, body.replace('""', '"'))
            else:
                yield Token(TokenKind.TEXT, _text(body, quote, mode))
        else:
            yield Token(TokenKind(kind), match[0])


def _text(body: str, quote: str, mode: SqlMode) -> str:
    if mode.no_backslash_escapes:
        return body.replace(quote * 2, quote)
    parts = re.split(r"(\\.)", body, flags=re.DOTALL)
    return "".join(
        _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[1]), part)
        if part.startswith("\\")
        else part.replace(quote * 2, quote)
        for part in parts
    )


class Tokens:
    """Walks over a statement; past its end every token is empty."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    def peek(self, ahead: int = 0) -> Token:
        """The next token, or the one `ahead` of it."""
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else _END

    def next(self) -> Token:
        """The next token, which is taken."""
        token = self.peek()
        self._at += 1
        return token

    @property
    def is_at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at >= len(self._tokens)

    def accept(self, words: str) -> bool:
        """Takes `words` (such as "IF NOT EXISTS") where they come next; whether they did."""
        wanted = words.split()
        if all(self.peek(ahead).word == word for ahead, word in enumerate(wanted)):
            self._at += len(wanted)
            return True
        return False

    def accept_any(self, *choices: str) -> str:
        """Takes the first of `choices` that comes next; empty where none does."""
        return next((words for words in choices if self.accept(words)), "")

    def name(self) -> str | None:
        """A name, which is taken; None where something else stands there."""
        if not self.peek().is_name:
            return None
        return self.next().text

    def table(self, database: str) -> TableName | None:
        """A table's name, in `database` where it names none."""
        # A name that begins with a digit reads as a number.
        first = self.next().text
        if not first:
            return None
        if self.accept("."):
            second = self.next().text
            return (first, second) if second else None
        return database, first

    def group(self) -> list[Token] | None:
        """What stands in the parentheses that come next, which are taken; None where there are none."""
        if self.peek().word != "(":
            return None
        depth, start = 0, self._at + 1
        while not self.is_at_end:
            word = self.next().word
            depth += (word == "(") - (word == ")")
            if not depth:
                return list(self._tokens[start : self._at - 1])
        return None

    def rest(self) -> list[Token]:
        """All that is left, which is taken."""
        left = list(self._tokens[self._at :])
        self._at = len(self._tokens)
        return left


def split(tokens: Sequence[Token]) -> list[list[Token]]:
    """The parts between commas that stand in no parentheses."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += (token.word == "(") - (token.word == ")")
        if token.word == "," and not depth:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts
