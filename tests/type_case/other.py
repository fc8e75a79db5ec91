"""Documents, geometries, vectors, addresses, and the values that other systems get wrong."""

from __future__ import annotations

from tests.type_case.case import MYSQL_9, Case

JSON_DOCUMENTS = (
    "{}",
    "[]",
    "null",
    "true",
    "false",
    "0",
    "-1",
    "32767",
    "32768",
    "-32769",
    "2147483648",
    "-2147483649",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "1.5",
    "0.1",
    "1e100",
    "1e14",
    "1e15",
    "1e16",
    "1e-14",
    "1e-15",
    "1e-16",
    "0.00001234",
    "123456789.125",
    "1.0",
    "-0.0",
    "5e-324",
    "1.7976931348623157e308",
    '"text"',
    '""',
    r'"quote \" back \\ slash / newline \n tab \t bell \u0001 \u001f é 😀 \u007f \b\f\r"',
    '{"b": 1, "a": 2, "aa": [1, 2, {"x": null}], "": "empty", "Ä": "ü"}',
    "[" * 60 + "]" * 60,
    '[1, -1, 100000, 3000000000, 1.5, true, null, "x", [], {}]',
)


def json() -> list[Case]:
    """Documents: every scalar, deep, large, and with values that only SQL can put in."""
    quoted = tuple("'" + document.replace("\\", "\\\\") + "'" for document in JSON_DOCUMENTS)
    built = (
        "JSON_ARRAY(1.50, CAST('12345678901234567890.123456789' AS DECIMAL(40,10)), CAST(-0.5 AS DECIMAL(3,2)))",
        "JSON_ARRAY(DATE'2024-02-29', TIME'-12:34:56.5', TIMESTAMP'2024-02-29 12:34:56.789', TIMESTAMP'2024-02-29 00:00:00')",
        "JSON_ARRAY(CAST('abc' AS BINARY), CAST(REPEAT('x', 200) AS BINARY), b'101')",
        "JSON_OBJECT('big', REPEAT('y', 100000), 'n', 1, 'many', JSON_ARRAY(1, 2, 3, 70000, -70000))",
        "JSON_OBJECT('long', REPEAT('z', 200), 'k', REPEAT('ä', 127))",
        "CAST(CAST('1.10' AS DECIMAL(5,2)) AS JSON)",
    )
    return [
        Case("t_json", "json", quoted + built, ("mysql",)),
        # MariaDB keeps the text as it was written, and takes only 32 levels for JSON.
        Case(
            "t_json_text",
            "json",
            tuple(text for text in quoted if "[" * 33 not in text),
            ("mariadb",),
        ),
    ]


def geometries() -> list[Case]:
    """Every kind, with and without a reference system."""
    point = "ST_GeomFromText('POINT(1 2)')"
    # SRID 4326 is latitude first in MySQL's text and longitude first in its storage.
    on_earth = "ST_GeomFromText('POINT(52.5 13.25)', 4326)"
    line, ring = "ST_GeomFromText('LINESTRING(0 0,1 1)', 0)", "POLYGON((0 0,1 0,1 1,0 0))"
    values = {
        "geometry": (point, on_earth, line, f"ST_GeomFromText('{ring}')"),
        "point": (point, "ST_GeomFromText('POINT(-1.5 1e10)')", on_earth),
        "linestring": (line,),
        "polygon": (f"ST_GeomFromText('{ring}')",),
        "multipoint": ("ST_GeomFromText('MULTIPOINT(0 0,1 1)')",),
        "multilinestring": ("ST_GeomFromText('MULTILINESTRING((0 0,1 1),(2 2,3 3))')",),
        "multipolygon": ("ST_GeomFromText('MULTIPOLYGON(((0 0,1 0,1 1,0 0)))')",),
        "geometrycollection": (
            "ST_GeomFromText('GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(0 0,1 1))')",
        ),
    }
    return [Case(f"t_{name}", name, found) for name, found in values.items()]


def vectors() -> list[Case]:
    """Of MySQL 9."""
    values = ("STRING_TO_VECTOR('[1,-2.5,3e30]')", "x'0000803f0000004000004040'")
    return [Case("t_vector", "vector(3)", values, ("mysql",), MYSQL_9)]


def addresses() -> list[Case]:
    """UUID and INET of MariaDB."""
    return [
        Case("t_inet6", "inet6", ("'::1'", "'2001:db8::ff00:42:8329'", "'::'"), ("mariadb",)),
        Case("t_inet4", "inet4", ("'127.0.0.1'", "'255.255.255.0'", "'0.0.0.0'"), ("mariadb",)),
        Case(
            "t_uuid",
            "uuid",
            (
                "'123e4567-e89b-12d3-a456-426655440000'",
                "'00000000-0000-0000-0000-000000000000'",
                "'9a3c8f66-7b1e-4c0a-9d5e-0123456789ab'",
                "'01890a5d-ac96-774b-bcce-b302099a8057'",
            ),
            ("mariadb",),
        ),
    ]


def wrong_elsewhere() -> list[Case]:
    """The values that at least one of three other systems was seen to get wrong."""
    found = [
        ("bigint_unsigned", "bigint unsigned", ("18446744073709551615",)),
        ("decimal_38_10", "decimal(38,10)", ("1234567890123456789012345678.0123456789",)),
        ("time_6", "time(6)", ("'-12:34:56.123456'", "'838:59:59'")),
        ("datetime", "datetime", ("'0000-00-00 00:00:00'", "'2024-00-10 00:00:00'")),
        ("date", "date", ("'0001-01-01'", "'0000-00-00'", "'2024-00-10'")),
        ("year", "year", ("'0000'",)),
        ("enum", "enum('a','b,c','d''e')", ("'b,c'", '"d\'e"')),
        ("set", "set('x','y','z')", ("'x,z'",)),
        ("binary_8", "binary(8)", ("x'0100000000000000'", "x'0000000000000000'")),
        ("varbinary", "varbinary(20)", ("x'ff00fe80'",)),
        ("blob", "blob", ("x'ff00fe80'",)),
        ("latin1", "varchar(20) CHARACTER SET latin1", ("'äöü€'",)),
        ("gbk", "varchar(20) CHARACTER SET gbk", ("'中文字'",)),
        ("point", "point", ("ST_GeomFromText('POINT(1 2)')",)),
    ]
    cases = [Case(f"t_peer_{name}", ddl, values, by="peer") for name, ddl, values in found]
    decimal = ("JSON_OBJECT('price', 12.50)", "CAST(12.50 AS JSON)")
    cases.append(Case("t_peer_json", "json", decimal, ("mysql",), by="peer"))
    return cases
