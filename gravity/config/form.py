"""Values as YAML on one line, for errors that show the form to copy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_][\w./+-]*( [\w./+-]+)*|\d[\w.]*[A-Za-z]|[\w.]+:\d+")
"""Texts that need no quotes wherever they stand."""
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def flow_text(value: Any) -> str:
    """`value` (mappings, lists, texts, numbers, truth values) as YAML reads it back."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            is_plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
            return value if is_plain else "'" + value.replace("'", "''") + "'"
        case Mapping():
            pairs = (f"{flow_text(key)}: {flow_text(item)}" for key, item in value.items())
            return "{" + ", ".join(pairs) + "}"
        case Sequence():
            return "[" + ", ".join(map(flow_text, value)) + "]"
        case _:
            return str(value)
