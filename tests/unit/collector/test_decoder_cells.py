"""Single cells: decimals, times, JSON doubles, character sets, statements."""

# ruff: noqa: RUF001 - characters that are easily confused are what is tested

from __future__ import annotations

import contextlib
import decimal
import struct

import pytest
from gravity_collector.cell import decimal_bytes, decimal_groups, decimal_text, time_text
from gravity_collector.charset import UnknownCharsetError, decoder_of, tells_keys_apart
from gravity_collector.json_binary import double_text, json_text
from gravity_collector.query import Meaning, is_begin, meaning, parse_query
from gravity_collector.row_reader import build_reader
from gravity_collector.table_map import StoredColumn
from hypothesis import assume, given
from hypothesis import strategies as st

from gravity.column import ColumnType


def stored(text: str, *, size: int = 0, charset: str | None = None) -> StoredColumn:
    return StoredColumn(0, size, ColumnType.parse(text), charset)


def read(text: str, raw: bytes, *, size: int = 0, charset: str | None = None) -> object:
    (cell,), end = build_reader([stored(text, size=size, charset=charset)], [True], [False])(raw, 0)
    assert end == len(raw)
    return cell


def stored_decimal(value: decimal.Decimal, precision: int, scale: int) -> bytes:
    """DECIMAL's bytes by the description in MySQL's strings/decimal.cc."""
    digits = f"{abs(value):0{precision + (scale > 0)}.{scale}f}".replace(".", "")[-precision:]
    before, after = decimal_groups(precision, scale)
    raw, at = b"", 0
    for count, width in before + after:
        raw += int(digits[at : at + count]).to_bytes(width)
        at += count
    raw = bytes((raw[0] ^ 0x80,)) + raw[1:]
    return bytes(byte ^ 0xFF for byte in raw) if value < 0 else raw


@given(st.data())
def test_decimals_of_every_size_are_printed_as_they_were_written(data: st.DataObject) -> None:
    precision = data.draw(st.integers(1, 65))
    scale = data.draw(st.integers(0, min(30, precision)))
    number = data.draw(st.integers(-(10**precision) + 1, 10**precision - 1))
    with decimal.localcontext(prec=100):
        value = decimal.Decimal(number).scaleb(-scale)
        raw = stored_decimal(value, precision, scale)
        expected = f"{value:.{scale}f}" if number else f"{decimal.Decimal(0):.{scale}f}"
    assert len(raw) == decimal_bytes(precision, scale)
    assert read(f"decimal({precision},{scale})", raw) == expected
    assert decimal_text(raw, precision, scale) == expected


@given(st.booleans(), st.integers(0, 838 * 3600 + 3599), st.integers(0, 999_999), st.integers(0, 6))
def test_times_of_either_sign_and_every_precision(
    negative: bool, total: int, microseconds: int, digits: int
) -> None:
    hours, minutes, seconds = total // 3600, total // 60 % 60, total % 60
    kept = microseconds // 10 ** (6 - digits)
    assume(not negative or hours or minutes or seconds or kept)
    size = (digits + 1) // 2
    fraction = kept * (10 if digits % 2 else 1)
    bits = ((hours << 12 | minutes << 6 | seconds) << 8 * size) | fraction
    raw = ((1 << (23 + 8 * size)) + (-bits if negative else bits)).to_bytes(3 + size)
    expected = f"{'-' * negative}{hours:02d}:{minutes:02d}:{seconds:02d}" + (
        f".{kept:0{digits}d}" if digits else ""
    )
    assert (
        time_text(raw, digits) == read("time" + (f"({digits})" if digits else ""), raw) == expected
    )


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_doubles_read_back_as_themselves(value: float) -> None:
    assert float(double_text(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (1e14, "100000000000000.0"),
        (1e15, "1e15"),
        (3551891913070332.5, "3551891913070332.5"),
        (6.93301e15, "6.93301e15"),
        (1e-15, "0.000000000000001"),
        (1e-16, "1e-16"),
        (1.5e-7, "0.00000015"),
        (5e-324, "5e-324"),
    ],
)
def test_json_doubles_as_mysql_prints_them(value: float, text: str) -> None:
    assert double_text(value) == text


def test_endless_json_is_refused() -> None:
    # Each array holds the next one many times by the same offset: 30 levels would be 10^30 values.
    body = b"\x02\x00\x00"
    document = struct.pack("<HH", 0, 4)
    for _ in range(30):
        entries = 10
        header = 4 + 3 * entries
        document = (
            struct.pack("<HH", entries, header + len(document))
            + struct.pack("<BH", 2, header) * entries
            + document
        )
    with pytest.raises(ValueError, match="more text"):
        json_text(b"\x02" + document)
    with pytest.raises((ValueError, struct.error)):
        json_text(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_an_error(raw: bytes) -> None:
    with contextlib.suppress(ValueError, struct.error, IndexError, KeyError):
        assert isinstance(json_text(raw), str)


@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        ("latin1", b"\x80\x81\xe4", "€\x81ä"),
        ("utf8mb4", "ä€😀".encode(), "ä€😀"),
        ("big5", b"\xa4\xa4\xf9\xd6", "中碁"),
        ("sjis", b"\x81\x5f\x93\xfa", "\\日"),
        ("eucjpms", b"\xad\xa1\xa1\xc1\x8f\xf3\xf3\xf5\xa1", "①～ⅰ\ue000"),
        ("swe7", b"[\\]", "ÄÖÅ"),
        ("gb18030", b"\xa8\xbc\x81\x35\xf4\x37", "ḿ\ue7c7"),
        ("utf16", b"\xd8\x3d\xde\x00", "😀"),
    ],
)
def test_character_sets_as_the_server_converts_them(charset: str, raw: bytes, text: str) -> None:
    assert decoder_of(charset)(raw) == text
    assert read("varchar(9)", bytes((len(raw),)) + raw, size=9, charset=charset) == text


@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        ("cp1251", b"a\x98b", "a?b"),
        ("greek", b"\xa4\xc1", "?Α"),
        ("cp1256", b"\x8a\xc7", "?ا"),
        ("big5", b"\xa4\xa4\xa3\xc0\xf9\xd6", "中?碁"),
        ("gbk", b"\xa1\x40\xd6\xd0", "?中"),
        ("cp932", b"\x81\xad\x87\x40", "?①"),
        ("ujis", b"\xa2\xaf\xa4\xa2", "?あ"),
    ],
)
def test_what_the_server_has_no_unicode_for_is_a_question_mark_as_the_server_says(
    charset: str, raw: bytes, text: str
) -> None:
    assert decoder_of(charset)(raw) == text


def test_in_keys_what_has_no_unicode_is_refused_since_two_keys_could_become_one() -> None:
    decode = decoder_of("gbk", strict=True)
    assert decode("中?文".encode("gbk")) == "中?文"
    with pytest.raises(UnicodeDecodeError, match="without Unicode"):
        decode(b"\xa1\x40?")
    with pytest.raises(UnicodeDecodeError):
        decoder_of("cp1251", strict=True)(b"\x98")


@pytest.mark.parametrize(
    ("charset", "apart"),
    [
        ("utf8mb4", True),
        ("ucs2", True),
        ("ascii", True),
        ("latin1", True),
        ("koi8r", True),
        ("cp1251", False),
        ("greek", False),
        ("gbk", False),
        ("sjis", False),
    ],
)
def test_which_character_sets_tell_all_texts_apart_in_unicode(charset: str, apart: bool) -> None:
    assert tells_keys_apart(charset) is apart


def test_bytes_that_are_no_text_at_all_are_refused() -> None:
    with pytest.raises(UnicodeDecodeError):
        decoder_of("gbk")(b"\xd6\xd0\xd6")
    with pytest.raises(UnicodeDecodeError):
        decoder_of("utf8mb4")(b"\xff")
    with pytest.raises(UnknownCharsetError, match="utf8mb4"):
        decoder_of("filename")


@pytest.mark.parametrize(
    ("sql", "means"),
    [
        ("BEGIN", Meaning.BEGIN),
        ("/* x */ insert into t values (1)", Meaning.ROW_CHANGE),
        ("/*!50003 DELETE FROM t */", Meaning.ROW_CHANGE),
        ("/*M!100100 UPDATE t SET a = 1 */", Meaning.ROW_CHANGE),
        ("-- c\n REPLACE INTO t VALUES (1)", Meaning.ROW_CHANGE),
        ("# c\nLOAD DATA INFILE 'x' INTO TABLE t", Meaning.ROW_CHANGE),
        ("INSERTED", Meaning.OTHER),
        ("ROLLBACK", Meaning.ROLLBACK),
        ("ROLLBACK TO `s`", Meaning.ROLLBACK_TO_SAVEPOINT),
        ("rollback work to savepoint s", Meaning.ROLLBACK_TO_SAVEPOINT),
        ("SAVEPOINT `s`", Meaning.SAVEPOINT),
        ("XA START X'78'", Meaning.XA),
        ("CREATE TABLE t (a int)", Meaning.OTHER),
        ("TRUNCATE t", Meaning.OTHER),
        ("", Meaning.OTHER),
    ],
)
def test_what_statements_mean(sql: str, means: Meaning) -> None:
    assert meaning(sql) is means


def query_body(database: bytes, sql: bytes, variables: bytes = b"") -> bytes:
    return (
        struct.pack("<IIBHH", 1, 2, len(database), 0, len(variables))
        + variables
        + database
        + b"\0"
        + sql
    )


def test_statements_carry_database_and_sql_mode() -> None:
    variables = b"\x00\x01\x00\x00\x00\x01" + (4).to_bytes(8, "little") + b"\x06\x03std"
    statement = parse_query(query_body(b"shop", "CREATE TABLE ü (a int)".encode(), variables))
    assert (statement.database, statement.sql, statement.sql_mode) == (
        "shop",
        "CREATE TABLE ü (a int)",
        4,
    )


def test_begin_is_told_from_statements_that_end_like_it() -> None:
    assert is_begin(query_body(b"shop", b"BEGIN", b"\x04" * 5))
    assert not is_begin(query_body(b"shop", b"INSERT INTO t VALUES ('x\0BEGIN"))
