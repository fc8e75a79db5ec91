"""Text of every character set, bytes, and labels."""

# ruff: noqa: RUF001 - characters that are easily confused are what is tested

from __future__ import annotations

from tests.type_case.case import BOTH, Case

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


def texts() -> list[Case]:
    """Every character set in every type of text."""
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


def binaries() -> list[Case]:
    """Bytes in every type of them."""
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


def labels() -> list[Case]:
    """ENUM and SET, with labels of all kinds and of none."""
    many = ",".join(f"'v{number}'" for number in range(300))
    sixty_four = ",".join(f"'s{number}'" for number in range(64))
    return [
        Case(
            "t_enum",
            "enum('a','it''s','x,y','(z)',' spaced','ü') CHARACTER SET utf8mb4",
            ("'a'", '"it\'s"', "'x,y'", "'(z)'", "'ü'", "''"),
        ),
        Case("t_enum_no_label", "enum('a','b')", ("'a'", "''", "0", "'b'")),
        Case(
            "t_enum_emoji",
            "enum('👍','❤','😂','👎') CHARACTER SET utf8mb4",
            ("'👍'", "'❤'", "'😂'", "4", "''"),
        ),
        Case(
            "t_set_emoji", "set('👍','a','😂') CHARACTER SET utf8mb4", ("'👍,😂'", "'a'", "7", "''")
        ),
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


def collations() -> list[Case]:
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


def disputed() -> list[Case]:
    """Characters that codecs disagree about."""
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
