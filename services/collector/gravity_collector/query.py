"""QUERY events: what a statement in the binlog means for a reader of row events."""

from __future__ import annotations

import re
import struct
from enum import Enum
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct(
    "<IIBHH"
)  # thread, seconds, length of database, error code, length of variables
# Bytes of the status variables that can stand before the sql mode; MySQL writes them in the order of their codes.
_FLAGS, _SQL_MODE = 0, 1
_FLAGS_BYTES, _SQL_MODE_BYTES = 4, 8

_SPACE_AND_COMMENTS = re.compile(
    r"(?:\s+|/\*(?![!M]).*?\*/|--[ \t\n][^\n]*\n?|#[^\n]*\n?|/\*(?:!|M!)\d*)*", re.DOTALL
)
_XA = re.compile(r"XA\s+(START|BEGIN|END|COMMIT|ROLLBACK)\s+(\S+)\s*", re.IGNORECASE)
_WORDS = re.compile(r"[A-Za-z_]+")


class Meaning(Enum):
    """What the reader must do with a statement."""

    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    ROLLBACK_TO_SAVEPOINT = "rollback to savepoint"
    SAVEPOINT = "savepoint"
    XA = "xa"
    ROW_CHANGE = "row change"
    """A change of rows written as its statement: what it did to which rows can't be known."""
    OTHER = "other"


_BY_WORD: Final = {
    "BEGIN": Meaning.BEGIN,
    "COMMIT": Meaning.COMMIT,
    "SAVEPOINT": Meaning.SAVEPOINT,
    "RELEASE": Meaning.SAVEPOINT,
    "XA": Meaning.XA,
    "INSERT": Meaning.ROW_CHANGE,
    "UPDATE": Meaning.ROW_CHANGE,
    "DELETE": Meaning.ROW_CHANGE,
    "REPLACE": Meaning.ROW_CHANGE,
    "LOAD": Meaning.ROW_CHANGE,
    "WITH": Meaning.ROW_CHANGE,
}


class Statement(NamedTuple):
    """A QUERY event's contents."""

    seconds: int
    """How long the statement ran."""
    database: str
    sql: str
    sql_mode: int


def is_begin(body: bytes) -> bool:
    """Whether a QUERY event is just `BEGIN`, as in every transaction of MySQL: told without parsing it."""
    return body.endswith(b"\0BEGIN") and _HEADER.size + body[8] + (
        body[11] | body[12] << 8
    ) + 6 == len(body)


def parse_query(body: bytes) -> Statement:
    r"""The statement of a QUERY event's body (without header and checksum).

    Text that is not UTF-8 is kept with the bytes escaped as `\\xNN`: it is never taken for row data.

    Raises:
        ValueError, struct.error: the event is damaged.
    """
    _, seconds, database_bytes, _, variables_bytes = _HEADER.unpack_from(body)
    at = _HEADER.size + variables_bytes
    database_end = at + database_bytes
    if len(body) <= database_end:
        message = "a QUERY event is cut short"
        raise ValueError(message)
    return Statement(
        seconds,
        body[at:database_end].decode(errors="backslashreplace"),
        body[database_end + 1 :].decode(errors="backslashreplace"),
        _sql_mode(body[_HEADER.size : at]),
    )


def _sql_mode(variables: bytes) -> int:
    at = 1 + _FLAGS_BYTES if variables[:1] == bytes((_FLAGS,)) else 0
    if variables[at : at + 1] != bytes((_SQL_MODE,)):
        return 0
    return int.from_bytes(variables[at + 1 : at + 1 + _SQL_MODE_BYTES], "little")


def meaning(sql: str) -> Meaning:
    """What the statement means for a reader of row events."""
    start = _SPACE_AND_COMMENTS.match(sql)
    word = _WORDS.match(sql, start.end() if start else 0)
    first = word[0].upper() if word else ""
    if first == "ROLLBACK":
        rest = sql[word.end() :].upper().split() if word else []
        return Meaning.ROLLBACK_TO_SAVEPOINT if "TO" in rest else Meaning.ROLLBACK
    return _BY_WORD.get(first, Meaning.OTHER)


def parse_xa(sql: str) -> tuple[str, str]:
    """The step (START, END, COMMIT or ROLLBACK) and the transaction of an XA statement in a binlog.

    Servers write its name in one form, whatever the client wrote: `X'67',X'62',1`. It comes in lower case.

    Raises:
        ValueError: it is none of these.
    """
    found = _XA.fullmatch(sql)
    if found is None:
        message = f"not an XA statement as servers write it: {sql[:200]!r}"
        raise ValueError(message)
    step = found[1].upper()
    return "START" if step == "BEGIN" else step, found[2].lower()
