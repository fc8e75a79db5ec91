"""The names that tools for schema changes without locks give to the tables they work with. Pure.

gh-ost copies `t` into `_t_gho`, notes its work in `_t_ghc` and renames the old table to `_t_del`;
pt-online-schema-change copies into `_t_new` and renames to `_t_old` (more underscores where those
names are taken). Then the copy takes the name: it holds the rows of `t` as they are.
"""

from __future__ import annotations

import re
from typing import Final

_NAME_CHARACTERS_MAX: Final = 64
_COPY = re.compile(r"(?:[_~](?P<gho>.+)_gho|_+(?P<new>.+)_new)", re.DOTALL)
_OLD = re.compile(r"(?:[_~](?P<del>.+?)(?:_\d{14})?_del|_+(?P<old>.+)_old)", re.DOTALL)
_LOG = re.compile(r"[_~].+_ghc", re.DOTALL)


def is_working_table(name: str) -> bool:
    """Whether a table looks like one that such a tool made for itself."""
    return any(form.fullmatch(name) for form in (_COPY, _OLD, _LOG))


def is_copy_of(name: str, table: str) -> bool:
    """Whether `name` is what such a tool calls its copy of `table`."""
    return _names(_COPY, name, table)


def is_old_of(name: str, table: str) -> bool:
    """Whether `name` is what such a tool calls `table` after the swap."""
    return _names(_OLD, name, table)


def _names(form: re.Pattern[str], name: str, table: str) -> bool:
    match = form.fullmatch(name)
    if match is None:
        return False
    found = next(part for part in match.groups() if part is not None)
    # pt-online-schema-change's underscores may belong to the table's own name.
    if found.lstrip("_") == table.lstrip("_"):
        return True
    # Names that would be too long are made of the table's first characters.
    return len(name) == _NAME_CHARACTERS_MAX and table.startswith(found)
