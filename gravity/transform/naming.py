"""Texts with `{names}` in them: what a pattern captured, and what is known of every table. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from string import Formatter
from typing import Final

KNOWN_NAMES: Final = ("source", "database", "table")
"""Names that every template may use: of the source, and the table's there."""


class TemplateError(ValueError):
    """A template that can't be read; the text says why."""


@lru_cache(maxsize=4096)
def parse_template(text: str) -> tuple[tuple[str, str | None], ...]:
    """(literal text, name that follows it or None) in order; `{{` and `}}` are braces.

    Raises:
        TemplateError: braces that do not match, or something else than a name between them.
    """
    try:
        parts = list(Formatter().parse(text))
    except ValueError:
        raise TemplateError(f"{text!r}: braces do not match; {{{{ is a brace") from None
    for _, name, spec, conversion in parts:
        if name is not None and (spec or conversion or not name.isidentifier()):
            raise TemplateError(f"{text!r}: write a name in braces, such as {{source}}")
    return tuple((literal, name) for literal, name, _, _ in parts)


def names_in(text: str) -> frozenset[str]:
    """The names that the template `text` uses. Raises TemplateError as `parse_template` does."""
    return frozenset(name for _, name in parse_template(text) if name is not None)


def fill(text: str, values: Mapping[str, str]) -> str:
    """The template with its names filled in."""
    return "".join(
        literal + ("" if name is None else values[name]) for literal, name in parse_template(text)
    )


def may_become(text: str, found: str, fixed: Mapping[str, str]) -> bool:
    """Whether the template can make `found`; names that are not `fixed` may be anything."""
    parts = []
    for literal, name in parse_template(text):
        parts.append(re.escape(literal))
        if name is not None:
            parts.append(re.escape(fixed[name]) if name in fixed else ".*")
    return re.fullmatch("".join(parts), found, re.DOTALL) is not None


def unknown_names(text: str, known: Iterable[str]) -> list[str]:
    """The names that `text` uses though they are not `known`."""
    return sorted(names_in(text) - frozenset(known))
