"""What to do about each error of MySQL and MariaDB, by its code. Pure.

Sources: MySQL 8.4 Error Message Reference (server and client errors), MariaDB error codes. A code
that is not here stops the sink: what we do not know we do not retry or skip.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gravity.errors import FatalError, GravityError, PoisonError, TransientError

LOCK_WAIT_TIMEOUT = 1205
NO_SUCH_TABLE = 1146
NO_SUCH_THREAD = 1094
CONNECTION_LOST: Final = frozenset(
    (2006, 2013, 2055, 1053, 1927, 1152, 1158, 1159, 1160, 1161, 4031)
)

_TRANSIENT = (
    *CONNECTION_LOST,
    2002, 2003,  # can't connect
    1040, 1203, 1226,  # too many connections
    LOCK_WAIT_TIMEOUT, 1213, 3572,  # lock wait, deadlock
    1317, 3024, 1969,  # query interrupted or out of time
    1290, 1836, 1792,  # read only: a failover is going on
    1021, 1114, 1041, 1037, 1038, 3,  # disk, table or memory full
    1180, 1030,  # commit failed, storage engine's error
    1412, 1615,  # table definition has changed: read it again
)  # fmt: skip
_POISON = (
    1048, 1264, 1265, 1292, 1366, 1406, 1411, 1416, 1367, 1690, 1441,  # the value does not fit
    3140, 3141, 3143, 3156, 4025, 3819,  # JSON, CHECK constraint
    1153, 1301,  # larger than max_allowed_packet
    1526, 1748,  # no partition for it
    1062, 1586, 1451, 1452, 1216, 1217, 1557, 1761, 1762,  # unique and foreign keys
    1644, 1442,  # a trigger refuses
    1300, 3854, 1977, 1267,  # characters that do not exist there
    3037, 3617, 3618, 1210, 6136,  # geometry, vector
)  # fmt: skip
_FATAL = (
    1044, 1045, 1142, 1143, 1227, 1370, 1698, 3118, 1820,  # account
    1049, NO_SUCH_TABLE, 1054, 1136, 1364, 1906, 3105,  # the table is not what it was
    1071, 1118, 1163, 1170, 1171, 1273, 1115,  # a table that can't be created
)  # fmt: skip

ERROR_BY_CODE: Final[Mapping[int, type[GravityError]]] = MappingProxyType(
    {
        **dict.fromkeys(_TRANSIENT, TransientError),
        **dict.fromkeys(_POISON, PoisonError),
        **dict.fromkeys(_FATAL, FatalError),
    }
)

ORDER_DEPENDENT: Final = frozenset((1062, 1586, 1451, 1452, 1216, 1217, 1557, 1761, 1762))
"""Errors that may vanish when the changes are applied one by one in their order."""

SHAPE_CHANGED: Final = frozenset((NO_SUCH_TABLE, 1054, 1136, 1412, 1906, 3105))
"""The table differs from what we read about it: read again before giving up."""

ALREADY_MADE: Final = frozenset((1007, 1050, 1060))
"""A database, table or column exists: another lane was faster."""

_GRANT: Final = (
    "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP to the target's account, on its database and on "
    "`_gravity`.*; `gravity check CONFIG` lists what is missing"
)
REMEDY: Final[Mapping[int, str]] = MappingProxyType(
    {
        1044: _GRANT,
        1045: "check username and password of the target",
        1142: _GRANT,
        1227: _GRANT,
        1364: "give the target's column a default, or make it nullable",
        2002: "is the server up, and are host and port of the target right?",
        2003: "is the server up, and are host and port of the target right?",
    }
)


def error_of(code: int, text: str, *, where: str) -> GravityError:
    """The error in gravity's taxonomy."""
    kind = ERROR_BY_CODE.get(code, FatalError)
    return kind(f"MySQL says {code}: {text}", where=where, remedy=REMEDY.get(code, ""))
