"""Values in another type: what fits, how it is rounded, and that nobody promises what may fail."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import Column
from gravity.column import ColumnType
from gravity.transform.fit import (
    FitError,
    always_fits,
    cast_column,
    fitter,
    keeps_apart,
    kind_of,
    parse_type,
)


@pytest.mark.parametrize(
    ("here", "to", "value", "cell"),
    [
        ("int", "tinyint", 127, 127),
        ("int", "tinyint", 128, None),
        ("int", "int unsigned", -1, None),
        ("int", "decimal(4,0) unsigned", -1, None),
        ("decimal(5,2)", "int", "2.50", 3),
        ("decimal(5,2)", "int", "-2.50", -3),
        ("decimal(5,2)", "decimal(4,1)", "99.95", "100.0"),
        ("decimal(5,2)", "decimal(3,1)", "99.95", None),
        ("decimal(5,2)", "decimal(5,1)", "-0.04", "0.0"),
        ("decimal(5,2)", "varchar(6)", "-10.50", "-10.50"),
        ("double", "int", 2.5, 2),
        ("double", "int", 3.5, 4),
        ("double", "decimal(6,3)", 0.1, "0.100"),
        ("double", "float", 1e39, None),
        ("double", "float", 0.1, 0.10000000149011612),
        ("bigint", "double", 1 << 60, float(1 << 60)),
        ("int", "varchar(2)", 100, None),
        ("year", "int", 2024, 2024),
        ("varchar(20)", "int", " 12 ", 12),
        ("varchar(20)", "int", "1.5", 2),
        ("varchar(20)", "int", "12abc", None),
        ("varchar(20)", "int", "", None),
        ("varchar(20)", "decimal(5,2)", "1e2", "100.00"),
        ("varchar(20)", "decimal(5,2)", "1e9999999", None),
        ("varchar(20)", "double", "x", None),
        ("varchar(20)", "double", "1e999", None),
        ("varchar(20)", "date", "2024-02-30", None),
        ("varchar(20)", "date", "2024-2-3 10:00:00", "2024-02-03"),
        ("varchar(30)", "datetime(3)", "2024-02-03 10:00:00.123456", "2024-02-03 10:00:00.123"),
        ("varchar(20)", "char(5)", "ab  ", "ab"),
        ("date", "datetime(2)", "2024-02-03", "2024-02-03 00:00:00.00"),
        ("datetime(6)", "date", "2024-02-03 23:59:59.999999", "2024-02-03"),
        ("datetime(6)", "datetime", "2024-12-31 23:59:59.500000", "2025-01-01 00:00:00"),
        ("datetime", "datetime(3)", "2024-12-31 23:59:59", "2024-12-31 23:59:59.000"),
        ("time(3)", "varchar(20)", "-12:00:00.500", "-12:00:00.500"),
        ("enum('a','bc')", "varchar(1)", "bc", None),
        ("json", "longtext", '{"a": 1}', '{"a": 1}'),
    ],
)
def test_a_value_is_what_mysql_would_store_or_does_not_fit(
    here: str, to: str, value: Any, cell: Any
) -> None:
    found = fitter(kind_of(ColumnType.parse(here)), parse_type(to))(value)
    assert (type(found), found) == (type(cell), cell)


INTEGERS = [
    "tinyint",
    "smallint unsigned",
    "mediumint",
    "int unsigned",
    "bigint",
    "bigint unsigned",
]
NUMBERS = [
    *INTEGERS,
    "decimal(5,2)",
    "decimal(4,1)",
    "decimal(3,0)",
    "decimal(4,0) unsigned",
    "decimal(20,3)",
    "decimal(65,0)",
]
TEXTS = ["char(3)", "varchar(5)", "varchar(300)", "tinytext", "text", "longtext"]
MOMENTS = ["date", "datetime", "datetime(3)", "datetime(6)"]
OTHERS = ["year", "double", "float", "timestamp(2)", "time", "enum('a','bcd')", "set('a','b')", "json"]  # fmt: skip


def cells(kind: ColumnType) -> st.SearchStrategy[Any]:
    """Cells of a column, its extremes among them."""
    name = kind.name
    if name in ("tinyint", "smallint", "mediumint", "int", "bigint"):
        bits = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}[name]
        low, high = (0, 2**bits - 1) if kind.unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        return st.sampled_from([low, high, 0]) | st.integers(low, high)
    if name == "decimal":
        most = 10 ** (kind.precision or 0) - 1
        numbers = st.sampled_from([most, 0 if kind.unsigned else -most]) | st.integers(
            0 if kind.unsigned else -most, most
        )
        return numbers.map(lambda n: f"{Decimal(f'{n}E-{kind.scale}'):f}")
    if name == "year":
        return st.sampled_from([0, 1901, 2155])
    if name in ("double", "float"):
        width: Any = 64 if name == "double" else 32
        return st.floats(allow_nan=False, allow_infinity=False, width=width)
    if name in ("date", "datetime", "timestamp"):
        day = st.dates().map(str)
        if name == "date":
            return day
        digits = kind.scale
        clock = st.times().map(lambda t: t.strftime("%H:%M:%S.%f")[: 9 + digits if digits else 8])
        return st.tuples(day, clock).map(" ".join)
    if name == "time":
        return st.sampled_from(["-838:59:59", "00:00:00", "838:59:59"])
    if name == "enum":
        return st.sampled_from(["", *kind.labels])
    if name == "set":
        return st.sampled_from(["", *kind.labels, ",".join(kind.labels)])
    if name == "json":
        return st.sampled_from(["{}", '{"a": "' + "x" * 200 + '"}'])
    size = kind.length or {"tinytext": 63}.get(name, 1000)
    return st.sampled_from(["😀" * size, "7" * min(size, 60)]) | st.text(max_size=min(size, 30))


def takes(here: ColumnType, to: ColumnType) -> bool:
    try:
        fitter(kind_of(here), to)
    except FitError:
        return False
    return True


ALL = [ColumnType.parse(text) for text in (*NUMBERS, *TEXTS, *MOMENTS, *OTHERS)]
TARGETS = [ColumnType.parse(text) for text in (*NUMBERS, *TEXTS, *MOMENTS, "double", "float")]
PAIRS = [(here, to) for here in ALL for to in TARGETS if takes(here, to)]


@pytest.mark.parametrize(
    ("here", "to", "fits", "apart"),
    [
        ("decimal(5,2)", "decimal(4,1)", False, False),  # 999.95 is 1000.0.
        ("decimal(5,2)", "decimal(5,1)", True, False),
        ("decimal(5,2)", "decimal(6,3)", True, True),
        ("decimal(5,2)", "varchar(8)", True, True),
        ("decimal(3,0)", "smallint", True, False),
        ("int", "bigint unsigned", False, True),
        ("int unsigned", "bigint", True, True),
        ("bigint", "double", True, False),
        ("int", "decimal(10,0)", True, True),
        ("int", "decimal(9,0)", False, True),
        ("int", "varchar(11)", True, True),
        ("int", "varchar(10)", False, True),
        ("datetime(3)", "datetime", True, False),
        ("datetime", "datetime(3)", True, True),
        ("datetime", "date", True, False),
        ("date", "datetime", True, True),
        ("varchar(5)", "char(5)", True, False),
        ("char(5)", "varchar(5)", True, True),
        ("varchar(5)", "text", True, False),
        ("varchar(63)", "tinytext", True, False),
        ("varchar(64)", "tinytext", False, False),
        ("varchar(5)", "int", False, True),
        ("enum('a','bcd')", "varchar(3)", True, True),
        ("json", "longtext", True, False),
        ("json", "text", False, False),
        ("float", "double", True, False),
        ("double", "float", False, False),
    ],
)
def test_which_casts_are_safe(here: str, to: str, fits: bool, apart: bool) -> None:
    pair = ColumnType.parse(here), ColumnType.parse(to)
    assert always_fits(*pair) is fits
    assert keeps_apart(*pair) is apart


@given(data=st.data())
def test_what_is_said_to_fit_always_never_fails(data: st.DataObject) -> None:
    here, to = data.draw(st.sampled_from([p for p in PAIRS if always_fits(*p)]))
    value = data.draw(cells(here))
    assert fitter(kind_of(here), to)(value) is not None, (here.text, to.text, value)


@given(data=st.data())
def test_a_key_that_is_cast_keeps_its_values_apart(data: st.DataObject) -> None:
    pairs = [p for p in PAIRS if always_fits(*p) and keeps_apart(*p)]
    here, to = data.draw(st.sampled_from(pairs))
    one, other = data.draw(cells(here)), data.draw(cells(here))
    if here.name in ("char", "varchar"):
        # A CHAR has no spaces at its end, and a collation that pads takes none for none.
        one, other = one.rstrip(" "), other.rstrip(" ")
    fit = fitter(kind_of(here), to)
    assert (fit(one) == fit(other)) == (one == other), (here.text, to.text)


@given(data=st.data())
def test_whatever_comes_a_cell_is_of_its_type_or_null(data: st.DataObject) -> None:
    here, to = data.draw(st.sampled_from(PAIRS))
    cell = fitter(kind_of(here), to)(data.draw(cells(here)))
    python = {"long": int, "double": float, "string": str}[to.kind]
    assert cell is None or type(cell) is python
    if to.name == "decimal" and cell is not None:
        number = Decimal(str(cell))
        assert -number.as_tuple().exponent == to.scale  # type: ignore[operator]
        assert number.copy_abs() < 10 ** ((to.precision or 0) - to.scale)
        assert not to.unsigned or number >= 0
    if to.length is not None and isinstance(cell, str):
        assert len(cell) <= to.length


digits = st.integers(0, 5000).map("9".__mul__) | st.integers(0, 5000).map("0".__mul__)
long_numbers = st.builds(
    "{}{}.{}e{}{}{}".format, st.sampled_from(["", "-"]), digits, digits, st.sampled_from(["", "-"]), digits, st.sampled_from(["", "5", "x"])
)  # fmt: skip
WILD: dict[str, st.SearchStrategy[Any]] = {
    "text": long_numbers | digits | st.sampled_from(["inf", "-Infinity", "nan", "1e400", "0e401"]),
    "float": st.floats(),
    "decimal": st.decimals() | st.sampled_from([Decimal("1e999999"), Decimal("-1e-999999")]),
}


@given(data=st.data())
def test_no_value_however_long_or_large_stops_a_cast(data: st.DataObject) -> None:
    """One row that raised would stop the router for good, since its message never changes."""
    kind = data.draw(st.sampled_from(list(WILD)))
    to = data.draw(st.sampled_from([t for t in TARGETS if kind == "text" or t.kind != "string"]))
    cell = fitter(kind, to)(data.draw(WILD[kind]))
    if to.name == "decimal" and cell is not None:
        assert Decimal(str(cell)).is_finite()


@pytest.mark.parametrize(
    "to", ["int", "bigint unsigned", "decimal(5,2)", "decimal(65,30) unsigned"]
)
def test_what_no_exact_number_is_does_not_fit(to: str) -> None:
    assert fitter("decimal", parse_type("double"))(Decimal("sNaN")) is None
    for wild in ("inf", "-inf", "nan"):
        assert fitter("float", parse_type(to))(float(wild)) is None
        assert fitter("decimal", parse_type(to))(Decimal(wild)) is None
    for text in ("1e" + "9" * 5000, "9" * 100_000, "-" + "9" * 5000, "9" * 100_000 + "x"):
        assert fitter("text", parse_type(to))(text) is None
    assert Decimal(str(fitter("text", parse_type(to))("1e" + "0" * 5000 + "2"))) == 100


@pytest.mark.parametrize(
    ("here", "to"), [("double", "varchar(30)"), ("json", "int"), ("date", "int"), ("time", "datetime")]
)  # fmt: skip
def test_what_means_nothing_is_refused(here: str, to: str) -> None:
    if here == "json":
        # A JSON document is a text here; whether it is a number shows with the value.
        assert fitter("text", ColumnType.parse(to))("{}") is None
        return
    with pytest.raises(FitError):
        fitter(kind_of(ColumnType.parse(here)), ColumnType.parse(to))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("BIGINT UNSIGNED", "bigint unsigned"),
        ("decimal( 12 , 2 )", "decimal(12,2)"),
        ("numeric", "decimal(10,0)"),
        ("Decimal(5) unsigned", "decimal(5,0) unsigned"),
        ("integer", "int"),
        ("varchar(10)", "varchar(10)"),
        ("datetime(3)", "datetime(3)"),
    ],
)
def test_a_type_may_be_written_as_in_mysql(text: str, canonical: str) -> None:
    assert parse_type(text).text == canonical


@pytest.mark.parametrize(
    "text",
    ["", "varchar", "number", "timestamp", "json", "decimal(70,2)", "decimal(3,5)", "char(300)", "datetime(7)", "blob", "decimal(0)"],
)  # fmt: skip
def test_a_type_that_nothing_can_be_given_is_refused(text: str) -> None:
    with pytest.raises(FitError):
        parse_type(text)


def test_a_text_made_of_a_text_keeps_its_collation() -> None:
    old = Column("a", "varchar(5)", charset="latin1", collation="latin1_german1_ci")
    new = cast_column(old, ColumnType.parse("varchar(9)"), or_null=False)
    assert (new.charset, new.collation) == ("latin1", "latin1_german1_ci")
    number = Column("a", "int", nullable=False)
    made = cast_column(number, ColumnType.parse("varchar(11)"), or_null=False)
    assert (made.collation, made.nullable) == ("utf8mb4_bin", False)
    assert cast_column(number, ColumnType.parse("tinyint"), or_null=True).nullable
