"""Every column type with values at its edges, as SQL. Data: the decoder's tests and the type test share it."""

# ruff: noqa: RUF001 - characters that are easily confused are what is tested

from __future__ import annotations

from dataclasses import dataclass

BOTH = ("mysql", "mariadb")
MYSQL_9 = (9, 0)


@dataclass(frozen=True, slots=True)
class Case:
    """A table with the one column `c` of type `ddl`, holding `values` (SQL expressions) in rows 1, 2, …"""

    name: str
    ddl: str
    values: tuple[str, ...]
    flavors: tuple[str, ...] = BOTH
    since: tuple[int, int] = (0, 0)
    """The server's first version that has it."""
    by: str = "edge"
    """`edge`: chosen values; `peer`: other systems are known to get them wrong."""

    def is_at(self, flavor: str, version: tuple[int, int]) -> bool:
        """Whether a server of this kind has the type."""
        return flavor in self.flavors and version >= self.since

    @property
    def statements(self) -> list[str]:
        """SQL that makes the table and writes its rows; the last row is NULL."""
        rows = ", ".join(
            f"({number}, {value})" for number, value in enumerate((*self.values, "NULL"), 1)
        )
        return [
            f"CREATE TABLE `{self.name}` (id int PRIMARY KEY, c {self.ddl} NULL)",
            f"INSERT INTO `{self.name}` VALUES {rows}",
        ]


def _integers() -> list[Case]:
    found = []
    for name, bits in (
        ("tinyint", 8),
        ("smallint", 16),
        ("mediumint", 24),
        ("int", 32),
        ("bigint", 64),
    ):
        top = 1 << (bits - 1)
        signed = (-top, -top + 1, -1, 0, 1, top - 1)
        unsigned = (0, 1, top - 1, top, 2 * top - 1)
        found.append(Case(f"t_{name}", name, tuple(map(str, signed))))
        found.append(Case(f"t_{name}_unsigned", f"{name} unsigned", tuple(map(str, unsigned))))
    found.append(Case("t_bool", "bool", ("true", "false", "-5")))
    found.append(Case("t_int_zerofill", "int(8) zerofill", ("0", "42")))
    found.append(Case("t_year", "year", ("'0000'", "1901", "1999", "2155")))
    return found


def _decimals() -> list[Case]:
    found = []
    for precision, scale in (
        (65, 30),
        (65, 0),
        (30, 30),
        (12, 2),
        (10, 0),
        (9, 9),
        (18, 9),
        (19, 1),
        (5, 5),
        (38, 20),
        (1, 0),
    ):
        whole, fraction = "9" * (precision - scale), "9" * scale
        biggest = f"{whole or 0}.{fraction}" if scale else whole
        tiny = f"0.{'0' * (scale - 1)}1" if scale else "1"
        values = ("0", "-0", biggest, f"-{biggest}", tiny, f"-{tiny}", "0.5" if scale else "7")
        found.append(
            Case(f"t_decimal_{precision}_{scale}", f"decimal({precision},{scale})", values)
        )
    found.append(Case("t_decimal_unsigned", "decimal(10,3) unsigned", ("0", "1234567.891")))
    return found


def _floats() -> list[Case]:
    numbers = (
        "0",
        "-0e0",
        "0.1",
        "1.5",
        "-1e30",
        "3.4028234e38",
        "1.17549e-38",
        "123456.789",
        "16777217",
        "1e-5",
    )
    doubles = (
        "1.7976931348623157e308",
        "2.2250738585072014e-308",
        "5e-324",
        "0.30000000000000004",
        "1e15",
        "1e16",
    )
    return [
        Case("t_float", "float", numbers),
        Case("t_float_unsigned", "float unsigned", ("0", "0.3333333")),
        Case("t_float_digits", "float(7,3)", ("1234.567", "0.001")),
        Case("t_double", "double", numbers + doubles),
        Case("t_double_unsigned", "double unsigned", ("0", "0.1")),
    ]


def _bits() -> list[Case]:
    return [
        Case(
            f"t_bit_{bits}", f"bit({bits})", ("0", "1", str((1 << bits) - 1), str(1 << (bits - 1)))
        )
        for bits in (1, 7, 8, 9, 12, 16, 17, 24, 31, 32, 33, 48, 63, 64)
    ]


def _temporal() -> list[Case]:
    found = [
        Case(
            "t_date",
            "date",
            (
                "'0000-00-00'",
                "'1000-01-01'",
                "'9999-12-31'",
                "'2024-00-10'",
                "'2024-02-00'",
                "'2024-02-29'",
                "'2024-02-31'",
                "'0001-01-01'",
                "'1899-12-31'",
                "'1900-01-01'",
                "'2299-12-31'",
                "'2300-01-01'",
            ),
        )
    ]
    for digits in range(7):
        fraction = f".{'123456789'[:digits]}" if digits else ""
        nines = f".{'9' * digits}" if digits else ""
        small = f".{'0' * (digits - 1)}1" if digits else ""
        found.append(
            Case(
                f"t_datetime_{digits}",
                f"datetime({digits})",
                tuple(
                    f"'{text}'"
                    for text in (
                        "0000-00-00 00:00:00",
                        f"1000-01-01 00:00:00{small}",
                        f"9999-12-31 23:59:59{nines}",
                        f"2024-02-29 12:34:56{fraction}",
                        "2024-00-00 00:00:00",
                        "2024-02-30 23:59:59",
                        f"1899-12-31 23:59:59{nines}",
                        f"2299-12-31 23:59:59{nines}",
                        "2300-01-01 00:00:00",
                        f"0001-12-01 01:02:03{nines}",
                    )
                ),
            )
        )
        found.append(
            Case(
                f"t_timestamp_{digits}",
                f"timestamp({digits})",
                tuple(
                    f"'{text}'"
                    for text in (
                        "0000-00-00 00:00:00",
                        f"1970-01-01 00:00:01{small}",
                        f"2038-01-19 03:14:07{nines}",
                        f"2024-02-29 12:34:56{fraction}",
                    )
                ),
            )
        )
        found.append(
            Case(
                f"t_time_{digits}",
                f"time({digits})",
                tuple(
                    f"'{text}'"
                    for text in (
                        "00:00:00",
                        f"00:00:00{small}",
                        f"-00:00:00{small}",
                        f"-00:00:01{fraction}",
                        f"12:34:56{fraction}",
                        f"-12:34:56{nines}",
                        "838:59:59",
                        "-838:59:59",
                        f"100:00:00{small}",
                        f"-100:59:59{nines}",
                    )
                ),
            )
        )
    return found


# Character set and text that it can hold.
CHARSETS = (
    ("ascii", "abc ~"),
    ("latin1", "äöü€ŒŸ"),
    ("latin2", "ĄŁľš"),
    ("cp1250", "ŠŤŽ„"),
    ("cp1251", "Привет"),
    ("cp1257", "ĄĒŪ"),
    ("cp850", "äé░"),
    ("cp866", "Привет"),
    ("greek", "Ελληνικά"),
    ("hebrew", "שלום"),
    ("koi8r", "Привет"),
    ("koi8u", "Їжак"),
    ("tis620", "สวัสดี"),
    ("armscii8", "Հայ"),
    ("dec8", "äöüŒ"),
    ("hp8", "äöüÅ"),
    ("keybcs2", "ČÁŽ"),
    ("geostd8", "აბგ"),
    ("macce", "ĄČŽ"),
    ("macroman", "äöü∑"),
    ("swe7", "ÅÄÖåäö"),
    ("big5", "中文字"),
    ("gb2312", "中文字"),
    ("gbk", "中文字丂"),
    ("sjis", "日本語ｱｲｳ"),
    ("cp932", "日本語①～"),
    ("ujis", "日本語ｱｲｳ"),
    ("eucjpms", "日本語①～ⅰ"),
    ("euckr", "한국어"),
    ("utf8", "ä€中"),
    ("utf8mb4", "ä€中😀"),
    ("ucs2", "ä€中"),
    ("utf16", "ä€中😀"),
    ("utf16le", "ä€中😀"),
    ("utf32", "ä€中😀"),
)


def _texts() -> list[Case]:
    found = []
    for charset, sample in (*CHARSETS, ("gb18030", "中文字丂😀")):
        flavors = ("mysql",) if charset == "gb18030" else BOTH
        tail = f"CHARACTER SET {charset}"
        values = ("''", f"'{sample}'", "'a'", f"'x {sample} y'")
        found += [
            Case(f"t_char_{charset}", f"char(40) {tail}", (*values, "'trailing  '"), flavors),
            Case(f"t_varchar_{charset}", f"varchar(40) {tail}", (*values, "'trailing  '"), flavors),
            Case(f"t_text_{charset}", f"text {tail}", values, flavors),
            Case(
                f"t_enum_{charset}",
                f"enum('a', '{sample}') {tail}",
                ("'a'", f"'{sample}'"),
                flavors,
            ),
        ]
    for name, size in (
        ("tinytext", 255),
        ("text", 65535),
        ("mediumtext", 70_000),
        ("longtext", 70_000),
    ):
        found.append(
            Case(
                f"t_{name}", f"{name} CHARACTER SET utf8mb4", ("''", f"repeat('x', {size})", "'ä'")
            )
        )
    for size in (255, 256, 1000, 16383):
        found.append(
            Case(
                f"t_varchar_{size}",
                f"varchar({size}) CHARACTER SET latin1",
                ("''", f"repeat('ä', {size})", "'x'"),
            )
        )
    found.append(
        Case(
            "t_char_255",
            "char(255) CHARACTER SET utf8mb4",
            ("''", "repeat('ä', 255)", "repeat('😀', 255)"),
        )
    )
    found.append(Case("t_char_63", "char(63) CHARACTER SET utf8mb4", ("''", "repeat('😀', 63)")))
    found.append(Case("t_char_64", "char(64) CHARACTER SET utf8mb4", ("''", "repeat('😀', 64)")))
    return found


def _binaries() -> list[Case]:
    found = [
        Case(
            "t_binary",
            "binary(8)",
            ("''", "x'00'", "x'0100'", "x'ff00000000000000'", "x'0102030405060708'"),
        ),
        Case("t_binary_255", "binary(255)", ("''", "x'01'", "repeat(x'ff', 255)")),
        Case("t_varbinary", "varbinary(300)", ("''", "x'00'", "x'010000'", "repeat(x'fe', 300)")),
    ]
    for name, size in (
        ("tinyblob", 255),
        ("blob", 65535),
        ("mediumblob", 70_000),
        ("longblob", 70_000),
    ):
        found.append(
            Case(f"t_{name}", name, ("''", "x'00'", "x'00ff80'", f"repeat(x'81', {size})"))
        )
    return found


def _labels() -> list[Case]:
    many = ",".join(f"'v{number}'" for number in range(300))
    sixty_four = ",".join(f"'s{number}'" for number in range(64))
    return [
        Case(
            "t_enum",
            "enum('a','it''s','x,y','(z)',' spaced','ü') CHARACTER SET utf8mb4",
            ("'a'", '"it\'s"', "'x,y'", "'(z)'", "'ü'", "''"),
        ),
        Case("t_enum_no_label", "enum('a','b')", ("'a'", "''", "0", "'b'")),
        Case("t_enum_empty_label", "enum('','a')", ("''", "'a'")),
        Case("t_enum_digits", "enum('2','0','1')", ("'2'", "'0'", "'1'")),
        Case(
            "t_set_labels",
            "set('it''s','ü','(z)','日本','a b') CHARACTER SET utf8mb4",
            ("''", '"it\'s,ü"', "'日本'", '"it\'s,ü,(z),日本,a b"'),
        ),
        Case("t_enum_backslash", r"enum('a\\b','c')", (r"'a\\b'", "'c'")),
        Case("t_enum_300", f"enum({many})", ("'v0'", "'v255'", "'v256'", "'v299'")),
        Case("t_set", "set('a','b','c''d')", ("''", "'a'", "'a,c''d'", "'a,b,c''d'")),
        *(
            Case(
                f"t_set_{count}",
                f"set({','.join(sixty_four.split(',')[:count])})",
                ("''", "'s0'", "'s0,s6'", str((1 << count) - 1)),
            )
            for count in (8, 9, 16, 17, 24, 25, 32, 33, 40, 64)
        ),
    ]


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


def _json() -> list[Case]:
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


def _geometries() -> list[Case]:
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


def _vectors() -> list[Case]:
    values = ("STRING_TO_VECTOR('[1,-2.5,3e30]')", "x'0000803f0000004000004040'")
    return [Case("t_vector", "vector(3)", values, ("mysql",), MYSQL_9)]


def _collations() -> list[Case]:
    """Collations change no value, only what the column says of itself and how keys compare."""
    names = {
        "utf8mb4_general_ci": BOTH,
        "utf8mb4_unicode_ci": BOTH,
        "utf8mb4_bin": BOTH,
        "utf8mb4_0900_ai_ci": ("mysql",),
        "utf8mb4_0900_bin": (),
        "utf8mb4_ja_0900_as_cs": ("mysql",),
        "utf8mb4_uca1400_ai_ci": ("mariadb",),
        "utf8mb4_nopad_bin": ("mariadb",),
        "latin1_german2_ci": BOTH,
        "latin1_bin": BOTH,
        "gbk_bin": BOTH,
        "sjis_japanese_ci": BOTH,
        "cp932_bin": BOTH,
        "cp1251_ukrainian_ci": BOTH,
        "ucs2_unicode_ci": BOTH,
        "utf16_bin": BOTH,
        "utf32_general_ci": BOTH,
    }
    return [
        Case(
            f"t_{name}",
            f"varchar(20) CHARACTER SET {name.partition('_')[0]} COLLATE {name}",
            ("'a'", "'A '", "'~'"),
            flavors,
        )
        for name, flavors in names.items()
        if flavors
    ]


# Bytes that a character set stores and another's codec, or Python's of the same name, reads otherwise.
_DISPUTED = (
    ("latin1", "80818d8f909d9f"),
    ("cp932", "8160ed40fa55815f87408754"),
    ("sjis", "815f5c7e8160"),
    ("big5", "f9d6f9dca145a14e"),
    ("gbk", "a1a4a1aaa844"),
    ("gb18030", "a8bca2e3813984318130813081308130"),
    ("ujis", "a1c0a1c18fa2b7"),
    ("eucjpms", "ada1a1c18ff3f3f5a18fa2b7"),
    ("euckr", "a1a4a1aaa2e6"),
    ("koi8r", "95a3b3"),
    ("koi8u", "95a4b4"),
    ("cp1251", "8890a0ff"),
    ("greek", "a1a2c1"),
    ("hebrew", "afe0"),
    ("tis620", "a1dffb"),
    ("macroman", "dbf0bd"),
    ("swe7", "5b5c5d"),
    ("ascii", "7f017e"),
    ("ucs2", "ff5e203e"),
    ("utf16", "d83dde00ff5e"),
    ("utf16le", "3dd800de"),
    ("utf32", "0001f6000010ffff"),
)
# What they store and have no Unicode for: `?` for every client that reads UTF-8.
_UNMAPPED = (
    ("cp1251", "6198"),
    ("greek", "a4aed2ff"),
    ("cp1256", "8aaac0"),
    ("big5", "a3c0"),
    ("gbk", "a140a2a1"),
    ("cp932", "81ad"),
    ("sjis", "8740"),
    ("euckr", "a2e8"),
    ("gb2312", "a2a1"),
    ("ujis", "a2af"),
    ("dec8", "a4"),
)


def _disputed() -> list[Case]:
    return [
        Case(
            f"t_{label}_{charset}",
            f"varchar(20) CHARACTER SET {charset}",
            (f"CONVERT(x'{raw}' USING {charset})",),
            ("mysql",) if charset == "gb18030" else BOTH,
        )
        for label, found in (("disputed", _DISPUTED), ("unmapped", _UNMAPPED))
        for charset, raw in found
    ]


def _addresses() -> list[Case]:
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


def _wrong_elsewhere() -> list[Case]:
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


CASES = (
    *_integers(),
    *_decimals(),
    *_floats(),
    *_bits(),
    *_temporal(),
    *_texts(),
    *_binaries(),
    *_labels(),
    *_json(),
    *_geometries(),
    *_vectors(),
    *_collations(),
    *_disputed(),
    *_addresses(),
    *_wrong_elsewhere(),
)
