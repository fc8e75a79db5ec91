"""Values inside JSON documents, by MySQL's paths. A value is carried as JSON text; None = not there."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Self

from gravity.condition.expression import ConditionError

_LEG = re.compile(r"""\s*(?:\.\s*(?:"((?:[^"\\]|\\.)*)"|([\w$]+))|\[\s*(\d+)\s*\])""")
_NULL, _NUMBER, _STRING, _OBJECT, _ARRAY, _BOOLEAN = range(6)
"""MySQL's order of JSON types among each other."""


class _Number(float):
    """A JSON number that is not whole, as its document spells it."""

    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number


@lru_cache(maxsize=1024)
def parse_path(path: str) -> tuple[str | int, ...]:
    """The legs of `$.a."b c"[0]`: names and indexes.

    Raises:
        ConditionError: not such a path, or one with wildcards.
    """
    text = path.strip()
    if not text.startswith("$"):
        raise ConditionError(f"{path!r} is not a JSON path", remedy="write '$.name' or '$.list[0]'")
    legs: list[str | int] = []
    place = 1
    while place < len(text):
        match = _LEG.match(text, place)
        if match is None:
            raise ConditionError(
                f"{path!r}: {text[place:]!r} in a JSON path is not supported in a condition",
                remedy="write names and indexes only, such as '$.list[0].name'",
            )
        quoted, name, index = match.groups()
        legs.append(
            int(index) if index else json.loads(f'"{quoted}"') if quoted is not None else name
        )
        place = match.end()
    return tuple(legs)


def extractor(path: str) -> Callable[[str], str | None]:
    """The function from a document to the value at `path`, None where there is none."""
    legs = parse_path(path)

    def extract(document: str) -> str | None:
        try:
            value = _parsed(document)
        except (ValueError, RecursionError):
            # A text column may hold anything; MySQL's JSON columns can't.
            return None
        for leg in legs:
            if isinstance(leg, int):
                # What is not an array counts as an array of itself.
                if not isinstance(value, list):
                    value = [value]
                if leg >= len(value):
                    return None
                value = value[leg]
            elif isinstance(value, dict) and leg in value:
                value = value[leg]
            else:
                return None
        return _written(value)

    return extract


def _parsed(text: str) -> Any:
    return json.loads(text, parse_float=_Number)


def _written(value: Any) -> str:
    """JSON text in MySQL's spelling."""
    if isinstance(value, _Number):
        return value.text
    if isinstance(value, dict):
        inner = ", ".join(
            f"{json.dumps(k, ensure_ascii=False)}: {_written(v)}" for k, v in value.items()
        )
        return f"{{{inner}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_written, value))}]"
    return json.dumps(value, ensure_ascii=False)


def unquote(text: str) -> str:
    """`JSON_UNQUOTE`: a string without its quotes, anything else as it is written."""
    return str(json.loads(text)) if text.startswith('"') else text


def key(text: str) -> tuple[int, Any]:
    """What a value is compared by: its type's rank, then its value (of arrays and objects: their text)."""
    value = json.loads(text)
    match value:
        case None:
            return _NULL, 0
        case bool():
            return _BOOLEAN, value
        case int() | float():
            return _NUMBER, value
        case str():
            return _STRING, value.encode()
        case list():
            return _ARRAY, text
        case _:
            return _OBJECT, text


def number_key(value: float) -> tuple[int, Any]:
    """The key of an SQL number beside JSON."""
    return _NUMBER, value if isinstance(value, int) else float(value)


def text_key(value: str) -> tuple[int, Any]:
    """The key of an SQL text beside JSON, where case counts."""
    return _STRING, value.encode()
