"""The functions a condition may use: their names and how many arguments they take. Data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

MANY: Final = 64
"""Arguments at most."""

UNITS: Final = (
    "MICROSECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "WEEK",
    "MONTH",
    "QUARTER",
    "YEAR",
)
"""Of an INTERVAL."""

TEXT_FUNCTIONS: Final[Mapping[str, tuple[int, int]]] = {
    "LOWER": (1, 1),
    "UPPER": (1, 1),
    "LENGTH": (1, 1),
    "CHAR_LENGTH": (1, 1),
    "CONCAT": (1, MANY),
    "SUBSTRING": (2, 3),
    "LEFT": (2, 2),
    "RIGHT": (2, 2),
    "LTRIM": (1, 1),
    "RTRIM": (1, 1),
    "REVERSE": (1, 1),
    "LOCATE": (2, 2),
    "CRC32": (1, 1),
}
NUMBER_FUNCTIONS: Final[Mapping[str, tuple[int, int]]] = {
    "ABS": (1, 1),
    "SIGN": (1, 1),
    "FLOOR": (1, 1),
    "CEILING": (1, 1),
    "ROUND": (1, 2),
    "TRUNCATE": (2, 2),
    "MOD": (2, 2),
    "GREATEST": (2, MANY),
    "LEAST": (2, MANY),
}
DATE_FUNCTIONS: Final[Mapping[str, tuple[int, int]]] = {
    "DATE": (1, 1),
    "YEAR": (1, 1),
    "QUARTER": (1, 1),
    "MONTH": (1, 1),
    "DAY": (1, 1),
    "HOUR": (1, 1),
    "MINUTE": (1, 1),
    "SECOND": (1, 1),
    "DAYOFWEEK": (1, 1),
    "WEEKDAY": (1, 1),
    "DAYOFYEAR": (1, 1),
    "LAST_DAY": (1, 1),
    "TO_DAYS": (1, 1),
    "DATEDIFF": (2, 2),
}
CHOICE_FUNCTIONS: Final[Mapping[str, tuple[int, int]]] = {
    "COALESCE": (1, MANY),
    "NULLIF": (2, 2),
}
SIGNATURES: Final[Mapping[str, tuple[int, int]]] = {
    **TEXT_FUNCTIONS,
    **NUMBER_FUNCTIONS,
    **DATE_FUNCTIONS,
    **CHOICE_FUNCTIONS,
}
"""Function → fewest and most arguments. IF, CASE, CAST, TRIM, EXTRACT and JSON's have a grammar of their own."""

ALIASES: Final[Mapping[str, str]] = {
    "LCASE": "LOWER",
    "UCASE": "UPPER",
    "OCTET_LENGTH": "LENGTH",
    "CHARACTER_LENGTH": "CHAR_LENGTH",
    "SUBSTR": "SUBSTRING",
    "MID": "SUBSTRING",
    "CEIL": "CEILING",
    "IFNULL": "COALESCE",
    "DAYOFMONTH": "DAY",
    "ADDDATE": "DATE_ADD",
    "SUBDATE": "DATE_SUB",
}
"""Other names of the same."""
