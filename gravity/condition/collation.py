"""Text as MySQL's collations see it: keys that are equal where the texts are, and order as they do.

Exact for every `_bin` collation and, for the others, for ASCII text. Beyond ASCII case and accents are
folded by Unicode's tables; the tailoring of a language (`swedish`, `german2`, ...) is not known here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

DEFAULT = "utf8mb4_0900_ai_ci"
"""Of texts written in a condition, and of columns whose collation is not known."""

_CODECS = {
    "utf8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "utf8": "utf-8",
    "ascii": "latin-1",
    "latin1": "cp1252",
    "latin2": "iso8859-2",
    "ucs2": "utf-16-be",
    "utf16": "utf-16-be",
    "utf32": "utf-32-be",
    "gbk": "gbk",
    "big5": "big5",
    "sjis": "shift-jis",
    "euckr": "euc-kr",
}

_LAST_OF_PLANE_0 = 0xFFFF
_REPLACEMENT = "\ufffd"

# The order of the Unicode Collation Algorithm's table (DUCET), in which all of these come before the
# digits: code points would put some between digits and letters, and some after both.
_PUNCTUATION = "\t\n\v\f\r _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$"
_UCA_ORDER = str.maketrans({character: chr(i + 1) for i, character in enumerate(_PUNCTUATION)})


@dataclass(frozen=True, slots=True)
class Collation:
    """How texts compare: what of case and accents counts, and whether spaces at the end do."""

    name: str
    folds_case: bool
    folds_accents: bool
    pads: bool
    """Spaces at the end do not count."""
    is_uca: bool
    """Orders by the Unicode Collation Algorithm rather than by code points."""
    is_plane_0: bool
    """Takes all characters beyond U+FFFF for one and the same."""


@lru_cache(maxsize=256)
def parse_collation(name: str | None) -> Collation:
    """The collation that MySQL and MariaDB call `name`; None = unknown."""
    name = (name or DEFAULT).lower()
    pads = not ("_0900_" in name or "nopad" in name or name == "binary")
    if name == "binary" or name.endswith(("_bin", "_cs")):
        return Collation(
            name, folds_case=False, folds_accents=False, pads=pads, is_uca=False, is_plane_0=False
        )
    general = "_general_" in name
    is_uca = any(part in name for part in ("_0900_", "_unicode_", "_uca1400_"))
    return Collation(
        name,
        folds_case=True,
        folds_accents=(general or is_uca) and "_as_" not in name,
        pads=pads,
        is_uca=is_uca,
        is_plane_0=general or name.endswith(("_unicode_ci", "_unicode_nopad_ci")),
    )


def codec_of(collation: Collation) -> str | None:
    """Python's name of the character set that the collation is for; None where it is not known here."""
    return _CODECS.get(collation.name.partition("_")[0])


def common_collation(left: Collation, right: Collation) -> Collation | None:
    """The collation in which two columns compare, None if MySQL refuses to mix the two."""
    if left == right:
        return left
    for collation in (left, right):
        if collation.name.endswith("_bin"):
            return collation
    return None


def key_function(collation: Collation) -> Callable[[str], str]:
    """The function from a text to its key under `collation`."""

    def key(text: str) -> str:
        if collation.pads:
            # One space stays, so that what comes before a space (a tab) sorts before the end of the text.
            text = text.rstrip(" ") + " "
        if not collation.folds_case:
            return text
        if text.isascii():
            text = text.lower() if collation.is_uca else text.upper()
        elif collation.is_uca:
            text = "".join(_fold(character, collation) for character in text).casefold()
        else:
            text = "".join(_fold(character, collation) for character in text)
        return text.translate(_UCA_ORDER) if collation.is_uca else text

    return key


@lru_cache(maxsize=65536)
def _fold(character: str, collation: Collation) -> str:
    """One character without what the collation does not see, in upper case where it sees no case."""
    if collation.is_plane_0 and ord(character) > _LAST_OF_PLANE_0:
        return _REPLACEMENT
    if collation.folds_accents:
        if character == "ß" and not collation.is_uca:
            return "S"
        bare = "".join(
            c for c in unicodedata.normalize("NFD", character) if not unicodedata.combining(c)
        )
        character = bare if bare or collation.is_uca else character
    if collation.folds_case:
        upper = character.upper()
        return upper if len(upper) == 1 else character
    return character


def fold_function(collation: Collation) -> Callable[[str], str]:
    """The function from a text to one of as many characters, without what the collation does not see."""

    def fold(text: str) -> str:
        if text.isascii():
            return text.upper()
        return "".join(_fold(character, collation) or character for character in text)

    return fold if collation.folds_case else str


def like_matcher(pattern: str, escape: str, collation: Collation) -> Callable[[str], bool]:
    """Whether a text is LIKE `pattern`: character by character, spaces at the end counting."""
    if not collation.folds_case:
        expression = _like_expression(pattern, escape, str)

        def matches_exactly(text: str) -> bool:
            return expression.fullmatch(text) is not None

        return matches_exactly

    fold = fold_function(collation)
    folded = _like_expression(pattern, escape, fold)

    def matches(text: str) -> bool:
        return folded.fullmatch(fold(text)) is not None

    return matches


def like_matcher_bytes(pattern: str, escape: str) -> Callable[[bytes], bool]:
    """Whether bytes are LIKE the bytes of `pattern`."""
    # One character per byte, so that `_` stands for one byte.
    expression = _like_expression(pattern.encode().decode("latin-1"), escape, str)

    def matches(content: bytes) -> bool:
        return expression.fullmatch(content.decode("latin-1")) is not None

    return matches


def _like_expression(pattern: str, escape: str, fold: Callable[[str], str]) -> re.Pattern[str]:
    parts: list[str] = []
    characters = iter(pattern)
    for character in characters:
        if escape and character == escape:
            # An escape at the very end stands for itself.
            parts.append(re.escape(fold(next(characters, character))))
        elif character == "%":
            # A row of % means what one means, and would be slow.
            if not parts or parts[-1] != ".*":
                parts.append(".*")
        elif character == "_":
            parts.append(".")
        else:
            parts.append(re.escape(fold(character)))
    return re.compile("".join(parts), re.DOTALL)


def regexp_matcher(pattern: str, collation: Collation) -> Callable[[str], bool]:
    """Whether `pattern` is found in a text; accents count, case as the collation says."""
    expression = re.compile(pattern, re.IGNORECASE if collation.folds_case else 0)

    def matches(text: str) -> bool:
        return expression.search(text) is not None

    return matches
