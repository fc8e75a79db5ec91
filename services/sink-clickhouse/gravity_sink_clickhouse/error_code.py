"""What to do about each error of ClickHouse, by its code. Pure.

Source: src/Common/ErrorCodes.cpp. A code that is not here stops the sink.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gravity.errors import FatalError, GravityError, PoisonError, TransientError

_TRANSIENT = (
    159, 160, 202, 203, 204, 209, 210, 241, 242, 243, 252, 279, 285, 286, 319, 335, 394, 425,
    439, 473, 499, 612, 667, 733, 746, 999, 236, 265, 290, 198, 33, 74, 75,
)  # fmt: skip
"""Time out, too many queries or parts, memory or disk full, read only, replicas, network."""
_POISON = (
    6,
    25,
    26,
    27,
    32,
    38,
    41,
    53,
    69,
    70,
    72,
    117,
    131,
    321,
    349,
    407,
    441,
    469,
    691,
    675,
    676,
)
"""A value that can't be read as the column's type, or that a constraint refuses."""
_FATAL = (16, 36, 43, 44, 47, 50, 60, 62, 80, 81, 115, 164, 192, 193, 194, 497, 516)
"""Another shape than we know, or an account that may not."""
UNKNOWN_SHAPE: Final = frozenset((10, 16, 44, 60, 81))
"""The table differs from what we read about it: read again before giving up."""

ERROR_BY_CODE: Final[Mapping[int, type[GravityError]]] = MappingProxyType(
    {
        **dict.fromkeys(_FATAL, FatalError),
        **dict.fromkeys(_POISON, PoisonError),
        **dict.fromkeys(_TRANSIENT, TransientError),
    }
)

REMEDY: Final[Mapping[int, str]] = MappingProxyType(
    {
        497: "GRANT the target's account what `gravity check CONFIG` lists, on its databases and on `_gravity`.*",
        516: "check username and password of the target",
        192: "check username and password of the target",
        252: "the table has too many parts: raise sink.wait-ms-max, or wait for merges",
    }
)


def error_of(code: int | None, text: str, *, where: str) -> GravityError:
    """The error in gravity's taxonomy; without a code it never reached the server, or came from a proxy."""
    if code is None:
        return TransientError(
            f"ClickHouse can't be reached: {text}",
            where=where,
            remedy="is the server up, and are host and HTTP port of the target right?",
        )
    kind = ERROR_BY_CODE.get(code, FatalError)
    return kind(f"ClickHouse says {code}: {text}", where=where, remedy=REMEDY.get(code, ""))
