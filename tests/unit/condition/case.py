"""Conditions and what MySQL decides about one cell `c`, each held to real servers by
tests/integration/condition."""

from __future__ import annotations

from dataclasses import dataclass

from gravity.batch import Value

GENERAL = "utf8mb4_general_ci"
UNICODE = "utf8mb4_unicode_ci"
AI_CI = "utf8mb4_0900_ai_ci"
AS_CI = "utf8mb4_0900_as_ci"
AS_CS = "utf8mb4_0900_as_cs"
BIN = "utf8mb4_bin"


@dataclass(frozen=True, slots=True)
class Case:
    """A column type, a cell of it as gravity carries it, a condition on `c`, and the verdict."""

    type: str
    cell: Value
    condition: str
    verdict: bool | None
    collation: str | None = None

    def __str__(self) -> str:
        where = f" {self.collation}" if self.collation else ""
        return f"{self.type}{where} {self.cell!r}: {self.condition}"


def _text(collation: str, *rows: tuple[str | None, str, bool | None]) -> list[Case]:
    return [Case("varchar(40)", cell, text, verdict, collation) for cell, text, verdict in rows]


def _of(type_text: str, *rows: tuple[Value, str, bool | None]) -> list[Case]:
    return [Case(type_text, cell, text, verdict) for cell, text, verdict in rows]


COLLATION = [
    *_text(
        GENERAL,
        ("Vip", "c = 'vIP'", True),
        ("vip  ", "c = 'vip'", True),
        ("vip", "c = 'vip   '", True),
        ("vip", "c = ' vip'", False),
        ("café", "c = 'CAFE'", True),
        ("straße", "c = 'STRASE'", True),
        ("straße", "c = 'STRASSE'", False),
        ("", "c = '   '", True),
        ("b", "c > 'A'", True),
        ("B", "c BETWEEN 'a' AND 'c'", True),
        ("US", "c IN ('us', 'eu')", True),
        ("us ", "c IN ('US')", True),
        ("vip", "c <> 'VIP'", False),
        ("_", "c > 'a'", True),  # Compared in upper case, so that _ comes after letters.
        ("張三", "c = '張三'", True),
        ("é", "c < 'f'", True),
        (None, "c = 'x'", None),
        (None, "c <=> NULL", True),
        ("x", "c <=> NULL", False),
        ("X", "c <=> 'x'", True),
    ),
    *_text(
        UNICODE,
        ("straße", "c = 'STRASSE'", True),
        ("vip  ", "c = 'VIP'", True),
        ("Ångström", "c = 'angstrom'", True),
        ("_", "c < 'a'", True),
    ),
    *_text(
        AI_CI,
        ("vip ", "c = 'vip'", False),
        ("VIP", "c = 'vip'", True),
        ("café", "c = 'cafe'", True),
        ("straße", "c = 'strasse'", True),
        ("_", "c < 'a'", True),
        ("-", "c < '0'", True),
        ("a", "c < 'B'", True),
    ),
    *_text(
        AS_CI,
        ("café", "c = 'cafe'", False),
        ("CAFÉ", "c = 'café'", True),
    ),
    *_text(
        AS_CS,
        ("VIP", "c = 'vip'", False),
        ("VIP", "c = 'VIP'", True),
    ),
    *_text(
        BIN,
        ("Vip", "c = 'vip'", False),
        ("vip ", "c = 'vip'", True),  # utf8mb4_bin pads; only 0900 and NO PAD don't.
        ("café", "c = 'cafe'", False),
        ("b", "c > 'A'", True),
        ("B", "c > 'a'", False),
        ("a\tb", "c < 'a'", True),  # Padded with spaces, and a tab comes before a space.
        ("it's", "c = 'it\\'s' AND c = 'it''s' AND c = \"it's\"", True),
        ("a\\b", "c = 'a\\\\b' AND c LIKE 'a\\\\\\\\b'", True),
    ),
]

PATTERN = [
    *_text(
        GENERAL,
        ("temp_users", "c LIKE 'temp\\\\_%'", True),
        ("tempXusers", "c LIKE 'temp\\\\_%'", False),
        ("tempXusers", "c LIKE 'TEMP_U%'", True),
        ("10%", "c LIKE '10|%' ESCAPE '|'", True),
        ("100", "c LIKE '10|%' ESCAPE '|'", False),
        ("vip ", "c LIKE 'vip'", False),  # In LIKE the spaces at the end count.
        ("café", "c LIKE 'CAFE'", True),
        ("a\nb", "c LIKE 'a_b'", True),
        ("", "c LIKE '%'", True),
        ("", "c LIKE '_'", False),
        ("abc", "c NOT LIKE '%B%'", False),
        (None, "c LIKE '%'", None),
        (None, "c NOT LIKE '%'", None),
        ("ERROR 42", "c REGEXP '^error [0-9]+$'", True),
        ("x ERROR", "c REGEXP '^error'", False),
        ("x ERROR", "c RLIKE 'error'", True),
        ("abc", "c NOT REGEXP 'b'", False),
        (None, "c REGEXP 'b'", None),
    ),
    *_text(
        BIN,
        ("abc", "c LIKE 'A%'", False),
        ("abc", "c LIKE 'a%'", True),
        ("ERROR", "c REGEXP 'error'", False),
    ),
    *_of("int", (12, "c LIKE '1%'", True), (12, "c LIKE '2%'", False)),
]

COERCION = [
    *_text(
        GENERAL,
        ("12abc", "c = 12", True),
        ("abc", "c = 0", True),
        ("", "c = 0", True),
        (" 7", "c = 7", True),
        ("1e2", "c = 100", True),
        ("1.50", "c = 1.5", True),
        ("0x10", "c = 16", False),
        ("-3", "c < 0", True),
        ("abc", "c + 1 = 1", True),
        ("5", "c * 2 = 10", True),
        ("5 apples", "c", True),
        ("apples", "c", False),
        ("apples", "NOT c", True),
        ("1", "c = TRUE", True),
        ("9007199254740993", "c = 9007199254740992", True),  # Both become floats.
        ("10", "c > '9'", False),  # Two texts compare as texts.
        ("10", "c > 9", True),
    ),
    *_of(
        "int",
        (12, "c = '12'", True),
        (12, "c = ' 12 '", True),
        (12, "c > '9'", True),
        (12, "c = 12.0", True),
        (12, "c = '12.0'", True),
        (12, "c IN ('11', '12')", True),
        (2, "c IS TRUE", True),
        (0, "c IS FALSE", True),
        (None, "c IS FALSE", False),
        (None, "c IS NULL", True),
        (None, "NOT c", None),
        (None, "c AND 0", False),
        (None, "c AND 1", None),
        (None, "c OR 1", True),
        (None, "c OR 0", None),
        (None, "c XOR 1", None),
        (2, "c XOR 1", False),
        (2, "c XOR 0", True),
        (1, "c NOT IN (2, NULL)", None),
        (2, "c NOT IN (2, NULL)", False),
        (1, "c IN (2, NULL)", None),
        (None, "c BETWEEN 1 AND 2", None),
        (3, "c BETWEEN NULL AND 2", False),
        (1, "c BETWEEN NULL AND 2", None),
        (1, "NOT c = 2 AND c = 1", True),
        (0, "!c = 1", True),
        (0, "!c LIKE '1'", True),
        (3, "c & 2 + 1 = 3", True),
        (3, "1 << c - 1 = 4", True),
        (3, "c = 1 OR c = 3 AND c = 2", False),
        (3, "NOT c BETWEEN 1 AND 2 AND c", True),
        (1, "1 OR c XOR 1", True),
    ),
    *_of(
        "bigint unsigned",
        (18446744073709551615, "c = 18446744073709551615", True),
        (18446744073709551615, "c > 18446744073709551614", True),
        (18446744073709551615, "c = '18446744073709551615'", True),
        (9223372036854775808, "c > 9223372036854775807", True),
        (18446744073709551615, "c > -1", True),
        (18446744073709551615, "c % 10 = 5", True),
    ),
    *_of(
        "bigint",
        (9007199254740993, "c = 9007199254740992", False),
        (9007199254740993, "c = '9007199254740992'", False),  # A text constant of digits is exact.
        (9007199254740993, "c = '9007199254740993'", True),
        (9007199254740993, "c = '9007199254740993.0'", True),
        (9007199254740993, "c IN ('9007199254740992', '1')", False),
    ),
]

NUMBER = [
    *_of(
        "int",
        (5, "c / 0", None),
        (5, "c DIV 0", None),
        (5, "c % 0", None),
        (5, "c / 0 IS NULL", True),
        (5, "c / 2 = 2.5", True),
        (5, "c DIV 2 = 2", True),
        (-5, "c DIV 2 = -2", True),
        (-5, "c % 3 = -2", True),
        (5, "c % -3 = 2", True),
        (5, "c MOD 3 = 2", True),
        (5, "-c = -5", True),
        (5, "c - 3 - 1 = 1", True),
        (1, "c / 3 = 0.3333", False),  # More digits are kept than are shown.
        (1, "c / 3 > 0.333333333", False),
        (2, "c / 3 * 3 = 2", False),
        (8, "c DIV 3 * 3 = 6", True),
    ),
    *_of(
        "decimal(30,10)",
        ("0.1000000000", "c + 0.2 = 0.3", True),  # Exact, unlike floats.
        ("12345678901234567890.1234567890", "c = 12345678901234567890.123456789", True),
        ("12345678901234567890.1234567891", "c = 12345678901234567890.123456789", False),
        ("12345678901234567890.1234567890", "c + 1 = 12345678901234567891.123456789", True),
        ("12345678901234567890.1234567891", "c + 1 = 12345678901234567891.123456789", False),
        ("12345678901234567890.1234567891", "-c = -12345678901234567890.123456789", False),
        ("10000.0000000000", "c > 10000", False),
        ("10000.0100000000", "c > 10000", True),
        ("1.5000000000", "c = '1.5'", True),
        ("0.0000000000", "c", False),
        ("0.5000000000", "c", True),
        ("2.5000000000", "c % 1 = 0.5", True),
        ("2.9000000000", "c DIV 1 = 2", True),
        ("-0.5000000000", "-c = 0.5", True),
        (None, "c > 1", None),
    ),
    *_of(
        "double",
        (0.1, "c + 0.2 = 0.3", False),
        (0.1, "c = 0.1", True),
        (1e100, "c > 1e99", True),
        (2.5, "c % 1 = 0.5", True),
        (0.0, "1 / c", None),
    ),
    *_of("float", (0.5, "c = 0.5", True), (0.10000000149011612, "c = 0.1", False)),
    *_of("year", (2024, "c = 2024", True), (2024, "c >= '2020'", True)),
    *_of("bit(8)", (5, "c = 5", True), (5, "c + 1 = 6", True)),
    *_of("tinyint", (1, "c = TRUE", True), (2, "c = TRUE", False), (2, "c", True)),
]

MOMENT = [
    *_of(
        "date",
        ("2024-03-01", "c = '2024-03-01'", True),
        ("2024-03-01", "c >= '2024-3-1'", True),
        ("2024-03-01", "c < '2024-03-01 00:00:01'", True),
        ("2024-03-01", "c = '2024-03-01 00:00:00'", True),
        ("2024-03-01", "c BETWEEN '2024-01-01' AND '2024-12-31'", True),
        ("0000-00-00", "c < '1970-01-01'", True),
        (None, "c > '2000-01-01'", None),
    ),
    *_of(
        "datetime",
        ("2024-03-01 00:00:00", "c = '2024-03-01'", True),
        ("2024-03-01 00:00:01", "c > '2024-03-01'", True),
        ("2024-03-01 10:00:00", "c = '2024-03-01T10:00:00'", True),
        ("2024-03-01 10:00:00", "c < '2024-03-01 10:00:00.5'", True),
        ("2024-03-01 10:00:00", "c IN ('2024-03-01 10:00')", True),
    ),
    *_of(
        "datetime(3)",
        ("2024-03-01 10:00:00.500", "c = '2024-03-01 10:00:00.5'", True),
        ("2024-03-01 10:00:00.500", "c > '2024-03-01 10:00:00'", True),
    ),
    *_of("timestamp", ("2024-03-01 10:00:00", "c >= '2024-03-01 10:00:00'", True)),
    *_of(
        "time",
        ("-01:00:00", "c < '00:00:00'", True),
        ("100:00:00", "c > '99:00:00'", True),
    ),
]

LABEL = [
    Case("enum('low','high')", "high", "c = 'HIGH'", True, GENERAL),
    Case("enum('low','high')", "high", "c > 'low'", False, GENERAL),  # By label, not by number.
    Case("enum('low','high')", "high", "c IN ('low', 'high')", True, GENERAL),
    Case("enum('low','high')", None, "c = 'low'", None, GENERAL),
    Case("set('a','b')", "a,b", "c = 'A,B'", True, GENERAL),
    Case("set('a','b')", "a,b", "c LIKE '%b%'", True, GENERAL),
]

BYTES = [
    *_of(
        "varbinary(20)",
        (b"vip", "c = 'vip'", True),
        (b"vip", "c = 'VIP'", False),
        (b"vip ", "c = 'vip'", False),
        (b"vip", "c LIKE 'v%'", True),
        (b"vip", "c LIKE 'V%'", False),
    ),
]

FUNCTION = [
    *_text(
        GENERAL,
        ("Ada", "LOWER(c) = 'ADA'", True),
        ("straße", "UPPER(c) LIKE 'STRA_E'", True),
        ("naïve", "LENGTH(c) = 6 AND CHAR_LENGTH(c) = 5", True),
        ("abcdef", "SUBSTRING(c, 2, 3) = 'bcd'", True),
        ("abcdef", "SUBSTRING(c FROM -2) = 'ef'", True),
        ("abcdef", "SUBSTRING(c, 0, 3) = ''", True),
        ("  x ", "CONCAT('[', TRIM(c), ']') = '[x]'", True),
        ("xxyx", "TRIM(LEADING 'x' FROM c) = 'yx'", True),
        ("a", "CONCAT(c, NULL) IS NULL", True),
        ("shop", "LOCATE('OP', c) = 3", True),
        ("abc", "CRC32(c) = 891568578", True),
        ("de-42", "CAST(RIGHT(c, 2) AS SIGNED) + 1 = 43", True),
        ("12.345", "CAST(c AS DECIMAL(6,2)) = 12.35", True),
        (None, "COALESCE(c, 'none') = 'NONE'", True),
        (None, "IFNULL(c, 'x') IN ('x')", True),
        ("x", "NULLIF(c, 'X') IS NULL", True),
        ("vip", "CASE c WHEN 'VIP' THEN 2 WHEN 'x' THEN 1 ELSE 0 END = 2", True),
        ("b", "(c, 1) IN (('a', 1), ('B', 1))", True),
    ),
    *_text(BIN, ("shop", "LOCATE('OP', c) = 0", True), ("Ada", "LOWER(c) = 'Ada'", False)),
    *_of(
        "int",
        (-7, "ABS(c) = 7 AND SIGN(c) = -1", True),
        (-7, "MOD(c, 4) = -3", True),
        (15, "ROUND(c, -1) = 20", True),
        (6, "c & 4 = 4", True),
        (6, "c | 1 = 7 AND c << 2 = 24 AND c >> 1 = 3", True),
        (5, "IF(c > 3, 'big', 'small') = 'BIG'", True),
        (5, "CASE WHEN c < 3 THEN 'a' END IS NULL", True),
        (5, "GREATEST(c, 7, 6) = 7 AND LEAST(c, 7) = 5", True),
        (-1, "CAST(c AS UNSIGNED) = 18446744073709551615", True),
        (12, "CONCAT(c, 'x') = '12x'", True),
        (None, "(c, 2) <=> (NULL, 2)", True),
    ),
    *_of(
        "decimal(10,2)",
        ("2.50", "ROUND(c) = 3", True),
        ("-2.50", "ROUND(c) = -3", True),
        ("-2.50", "FLOOR(c) = -3 AND CEILING(c) = -2", True),
        ("-2.55", "TRUNCATE(c, 1) = -2.5", True),
        ("2.50", "CAST(c AS SIGNED) = 3", True),
        ("2.50", "CONCAT(c, '') = '2.50'", True),
    ),
    *_of("double", (2.5, "ROUND(c) = 2", True), (-2.5, "FLOOR(c) = -3", True)),
    *_of(
        "date",
        ("2024-02-29", "YEAR(c) = 2024 AND MONTH(c) = 2 AND DAY(c) = 29", True),
        ("2024-02-29", "c + INTERVAL 1 YEAR = '2025-02-28'", True),
        ("2024-01-31", "DATE_ADD(c, INTERVAL 1 MONTH) = '2024-02-29'", True),
        ("2024-02-29", "c - INTERVAL 1 SECOND = '2024-02-28 23:59:59'", True),
        ("2024-02-29", "DAYOFWEEK(c) = 5 AND WEEKDAY(c) = 3 AND QUARTER(c) = 1", True),
        ("2024-02-29", "DATEDIFF(c, '2024-01-01 23:00:00') = 59", True),
        ("2024-02-29", "c = DATE '2024-02-29'", True),
        ("9999-12-31", "c + INTERVAL 1 DAY IS NULL", True),
        ("2024-02-29", "LAST_DAY(c - INTERVAL 1 MONTH) = '2024-01-31'", True),
    ),
    *_of(
        "datetime(3)",
        ("2024-02-29 23:59:59.500", "HOUR(c) = 23 AND DATE(c) = '2024-02-29'", True),
        ("2024-02-29 23:59:59.500", "EXTRACT(DAY FROM c) = 29", True),
        (
            "2024-02-29 23:59:59.500",
            "CAST(c AS DATETIME(3)) > TIMESTAMP '2024-02-29 23:59:59'",
            True,
        ),
    ),
    *_of("time", ("-30:15:05", "HOUR(c) = 30 AND MINUTE(c) = 15 AND SECOND(c) = 5", True)),
]

JSON = [
    *_of(
        "json",
        ('{"a": 1, "b": "Vip"}', "c->'$.a' = 1", True),
        ('{"a": 1, "b": "Vip"}', "c->'$.b' = 'Vip'", True),
        ('{"a": 1, "b": "Vip"}', "c->'$.b' = 'vip'", False),  # JSON knows case.
        ('{"a": 1, "b": "Vip"}', "c->'$.a' = '1'", False),  # A number is no text.
        ('{"a": 1, "b": "Vip"}', "c->>'$.a' = '1'", True),
        ('{"a": 1, "b": "Vip"}', "c->>'$.b' LIKE 'V%'", True),
        ('{"a": 1, "b": "Vip"}', "c->>'$.a' > 0", True),
        ('{"a": 1, "b": "Vip"}', "c->'$.x' IS NULL", True),
        ('{"a": null}', "c->'$.a' IS NULL", False),  # JSON's null is a value.
        ('{"a": null}', "c->>'$.a' = 'null'", True),
        ('{"l": [1, {"x y": 2.50}]}', "c->'$.l[1].\"x y\"' = 2.5", True),
        ('{"l": [1, {"x y": 2.5}]}', "c->>'$.l[1]' = '{\"x y\": 2.5}'", True),
        ("5", "c->'$[0]' = 5", True),
        (None, "c->'$.a' = 1", None),
    ),
]
"""Not in MariaDB's grammar."""

CASES = (*COLLATION, *PATTERN, *COERCION, *NUMBER, *MOMENT, *LABEL, *BYTES, *FUNCTION)
