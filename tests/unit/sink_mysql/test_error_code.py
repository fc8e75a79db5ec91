from __future__ import annotations

from gravity_sink_mysql import error_code
from gravity_sink_mysql.error_code import ERROR_BY_CODE, ORDER_DEPENDENT, error_of
from pymysql.constants import ER

from gravity.errors import FatalError, PoisonError, TransientError


def test_each_code_has_one_meaning() -> None:
    groups = [set(error_code._TRANSIENT), set(error_code._POISON), set(error_code._FATAL)]
    assert sum(map(len, groups)) == len(set.union(*groups)) == len(ERROR_BY_CODE)


def test_codes_agree_with_the_clients_names() -> None:
    assert ERROR_BY_CODE[ER.LOCK_DEADLOCK] is TransientError
    assert ERROR_BY_CODE[ER.DATA_TOO_LONG] is PoisonError
    assert ERROR_BY_CODE[ER.ACCESS_DENIED_ERROR] is FatalError
    assert {ER.DUP_ENTRY, ER.NO_REFERENCED_ROW_2, ER.ROW_IS_REFERENCED_2} <= ORDER_DEPENDENT


def test_what_is_not_known_stops() -> None:
    assert isinstance(error_of(99999, "?", where="here"), FatalError)
