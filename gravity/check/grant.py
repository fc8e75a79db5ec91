"""What SHOW GRANTS says an account may do. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Self

_GRANT = re.compile(
    r"GRANT (?P<privileges>.+) ON (?P<kind>TABLE |FUNCTION |PROCEDURE )?"
    r"(?P<database>\*|`(?:[^`]|``)*`)\.(?P<table>\*|`(?:[^`]|``)*`) TO ",
    re.DOTALL,
)
_COLUMN_LIST = re.compile(r"\([^)]*\)")
_ROLE = re.compile(r"GRANT (?!.* ON )[`'].* TO ", re.DOTALL)

ANY = "*"


@dataclass(frozen=True, slots=True)
class Grants:
    """The privileges of an account by level: (database pattern as in SQL, table or `*`, privileges)."""

    levels: tuple[tuple[str, str, frozenset[str]], ...]
    has_roles: bool
    """Whether roles may give more than is listed."""

    @classmethod
    def parse(cls, lines: Iterable[str]) -> Self:
        """The grants that the lines of SHOW GRANTS tell; unknown lines are ignored."""
        levels = []
        has_roles = False
        for line in lines:
            match = _GRANT.match(line)
            if match is None:
                has_roles = has_roles or _ROLE.match(line) is not None
            elif (match["kind"] or "TABLE ") == "TABLE ":
                # A privilege on some columns is none on the table.
                names = (part.strip() for part in _without_columns(match["privileges"]))
                levels.append(
                    (
                        _name(match["database"]),
                        _name(match["table"]),
                        frozenset(name.upper() for name in names if name),
                    )
                )
        return cls(tuple(levels), has_roles)

    def missing(self, wanted: Iterable[str], database: str = ANY) -> list[str]:
        """Which of the privileges the account lacks on all of `database`; ANY: on everything."""
        held: set[str] = set()
        for pattern, table, privileges in self.levels:
            if table == ANY and (pattern == ANY or (database != ANY and _like(pattern, database))):
                held |= privileges
        if "ALL PRIVILEGES" in held or "ALL" in held:
            return []
        return [name for name in wanted if name not in held]


def _without_columns(privileges: str) -> list[str]:
    parts = _COLUMN_LIST.sub("()", privileges).split(",")
    return [part for part in parts if "()" not in part]


def _name(text: str) -> str:
    return text if text == ANY else text[1:-1].replace("``", "`")


def _like(pattern: str, name: str) -> bool:
    """Whether a database name is meant by a level's pattern: `%` and `_` unless escaped."""
    shell = ""
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            shell += f"[{next(characters, character)}]"
        elif character in "%_":
            shell += "*" if character == "%" else "?"
        else:
            shell += f"[{character}]" if character in "*?[" else character
    return fnmatchcase(name, shell)
