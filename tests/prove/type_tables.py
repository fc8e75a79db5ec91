"""The tables of the type test: wide ones of all types, and one for each kind of key. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from tests.type_case import BOTH, CASES, MORE_CASES, Case
from tests.type_random import with_random

COLUMNS_MAX = 30
LIVE = 100_000
"""Added to the number of a row that is written while the stream is read."""
SNAPSHOT_SUFFIX, LIVE_SUFFIX = "_s", "_l"


@dataclass(frozen=True)
class Table:
    """What is written at a source: before the start, and while the stream is read."""

    name: str
    create: tuple[str, ...]
    before: tuple[str, ...]
    live: tuple[str, ...]
    twin: str = ""
    """The table whose snapshot rows these live rows must equal; empty = the same table's."""


@dataclass(frozen=True)
class KeyCase:
    """A table whose primary key has these columns, and keys as SQL expressions."""

    name: str
    columns: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    flavors: tuple[str, ...] = BOTH
    respell: str = ""
    """`SET … WHERE …` that changes a key to what its collation holds equal."""


def _one(name: str, ddl: str, keys: Sequence[str], *more: str, respell: str = "") -> KeyCase:
    flavors = (more[0],) if more else BOTH
    return KeyCase(name, (ddl,), tuple((key,) for key in keys), flavors, respell)


_RESPELL = "SET k0 = 'A' WHERE k0 = 'a'"
KEYS = (
    _one("tinyint", "tinyint", ["-128", "-1", "0", "127"]),
    _one(
        "bigint_unsigned",
        "bigint unsigned",
        ["0", "1", "9223372036854775807", "9223372036854775808", "18446744073709551615"],
    ),
    _one("decimal", "decimal(30,10)", ["-1.5", "0", "0.0000000001", "99999999999999999999.5"]),
    _one("float", "float", ["-1.5e0", "0e0", "3.4028234e38", "0.1e0"]),
    _one("double", "double", ["-1e300", "0e0", "0.1e0", "0.30000000000000004e0"]),
    _one("bit", "bit(64)", ["0", "1", "9223372036854775808", "18446744073709551615"]),
    _one("year", "year", ["'0000'", "1901", "2024", "2155"]),
    _one(
        "date",
        "date",
        [f"'{d}'" for d in ("0000-00-00", "0001-01-01", "2024-02-29", "9999-12-31", "2024-00-10")],
    ),
    _one("invalid_date", "date", ["'2024-02-30'", "'2024-03-01'", "'2024-02-31'"]),
    _one(
        "datetime",
        "datetime(6)",
        [f"'{d}'" for d in ("0000-00-00 00:00:00", "2024-02-29", "1999-12-31 23:59:59.999999")],
    ),
    _one(
        "timestamp",
        "timestamp(3)",
        [f"'{d}'" for d in ("0000-00-00 00:00:00", "2038-01-19", "1970-01-01 00:00:01.001")],
    ),
    _one("time", "time(6)", ["'-838:59:59'", "'00:00:00'", "'838:59:59'", "'-00:00:00.000001'"]),
    _one("binary", "binary(4)", ["x'00000000'", "x'01000000'", "x'01000001'", "x'ffffffff'"]),
    _one("varbinary", "varbinary(8)", ["''", "x'00'", "x'0000'", "x'ff00'", "x'ff'"]),
    _one(
        "ci",
        "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        ["'a'", "'B'", "'c d'", "'Ö'", "'😀'", "'it''s'", "'z\\\\'"],
        respell=_RESPELL,
    ),
    _one(
        "bin",
        "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        ["''", "'A'", "'a'", "'B'", "'b'", "'ä'", "'Ä'"],
    ),
    _one("char", "char(10) CHARACTER SET latin1", ["'a'", "'Ö'", "'b'", "'€'"], respell=_RESPELL),
    _one("gbk", "varchar(20) CHARACTER SET gbk", ["'a'", "'中'", "'文'", "'z'"], respell=_RESPELL),
    _one("utf16", "varchar(9) CHARACTER SET utf16", ["'a'", "'中'", "'😀'"], respell=_RESPELL),
    _one(
        "0900",
        "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_ai_ci",
        ["'a'", "'b'", "'B '", "'z'"],
        "mysql",
        respell=_RESPELL,
    ),
    _one(
        "uca1400",
        "varchar(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci",
        ["'a'", "'b'", "'z'"],
        "mariadb",
        respell=_RESPELL,
    ),
    _one("enum", "enum('z','a','ü','it''s')", ["'z'", "'a'", "'ü'", '"it\'s"']),
    _one("set", "set('z','a','b')", ["''", "'z'", "'a'", "'z,a'", "'b'"]),
    _one("uuid", "uuid", [f"'{n:08x}-e89b-12d3-a456-426655440000'" for n in range(5)], "mariadb"),
    _one("inet6", "inet6", ["'::'", "'::1'", "'2001:db8::1'"], "mariadb"),
    KeyCase(
        "several",
        ("int unsigned", "varchar(10) CHARACTER SET utf8mb4", "date"),
        tuple(
            (number, text, day)
            for number in ("0", "4294967295")
            for text in ("'a'", "'b'")
            for day in ("'2024-01-01'", "'2024-01-02'")
        ),
        respell="SET k1 = 'A' WHERE k0 = 0 AND k1 = 'a' AND k2 = '2024-01-01'",
    ),
)


def wide_tables(flavor: str, version: tuple[int, int], *, seed: int, drawn: int) -> Iterator[Table]:
    """All cases of a server side by side, `drawn` random values more of each; rows are full of NULLs.

    Without random values it is the short form, with fewer shapes of numbers.
    """
    known = (*CASES, *MORE_CASES) if drawn else CASES
    cases = [case for case in known if case.is_at(flavor, version)]
    for number, chosen in enumerate(_batched(cases)):
        yield _wide(f"w{number:02d}", [with_random(case, seed, drawn) for case in chosen])


def _batched(cases: Sequence[Case]) -> Iterator[Sequence[Case]]:
    for start in range(0, len(cases), COLUMNS_MAX):
        yield cases[start : start + COLUMNS_MAX]


def _wide(name: str, cases: Sequence[Case]) -> Table:
    columns = ", ".join(f"`{case.name}` {case.ddl} NULL" for case in cases)
    rows = [*zip_longest(*(case.values for case in cases), fillvalue="NULL")]
    rows.append(("NULL",) * len(cases))
    before, live = (
        tuple(
            f"INSERT INTO {name} VALUES ({start + number}, {', '.join(row)})"
            for number, row in enumerate(rows, 1)
        )
        for start in (0, LIVE)
    )
    return Table(name, (f"CREATE TABLE {name} (id int PRIMARY KEY, {columns})",), before, live)


def key_tables(flavor: str, only: Sequence[str]) -> Iterator[Table]:
    """For each kind of key (or those of `only`) a table for the snapshot, and one changed live."""
    for case in KEYS:
        if flavor not in case.flavors or (only and case.name not in only):
            continue
        columns = ", ".join(f"k{i} {ddl} NOT NULL" for i, ddl in enumerate(case.columns))
        names = ", ".join(f"k{i}" for i in range(len(case.columns)))
        # Older servers give the first TIMESTAMP a default of now, and change it with each update.
        columns = columns.replace("timestamp(3) NOT", "timestamp(3) DEFAULT '2000-01-01' NOT")
        snapshot, live = (f"k_{case.name}{suffix}" for suffix in (SNAPSHOT_SUFFIX, LIVE_SUFFIX))
        create, insert = (
            tuple(
                f"CREATE TABLE {name} ({columns}, n int, v varchar(9), PRIMARY KEY ({names}))"
                for name in (snapshot, live)
            ),
            {
                name: tuple(
                    f"INSERT INTO {name} VALUES ({', '.join(key)}, {number}, 'v')"
                    for number, key in enumerate(case.keys)
                )
                for name in (snapshot, live)
            },
        )
        yield Table(snapshot, (create[0],), insert[snapshot], ())
        changes = [*insert[live], f"UPDATE {live} SET n = n + 100"]
        if case.respell:
            changes.append(f"UPDATE {live} {case.respell}")
        changes.append(f"DELETE FROM {live} WHERE n IN (101, {100 + len(case.keys)})")
        yield Table(live, (create[1],), (), tuple(changes), twin=snapshot)


def other_tables(flavor: str, version: tuple[int, int]) -> Iterator[Table]:
    """Columns that the server computes or hides, and a key that is only unique."""
    stored = "STORED" if flavor == "mysql" else "PERSISTENT"
    hides = flavor == "mariadb" or version > (8, 0)
    hidden = ", h int DEFAULT 7 INVISIBLE, z varchar(9)" if hides else ", z varchar(9)"
    columns = (
        f"id int PRIMARY KEY, a int, s varchar(20) AS (CONCAT('s', a)) {stored},"
        f" v decimal(10,2) AS (a / 4) VIRTUAL{hidden}"
    )
    before, live = (
        tuple(
            f"INSERT INTO computed (id, a, z) VALUES ({start + number}, {value}, 'z')"
            for number, value in enumerate((1, -7, "NULL"))
        )
        for start in (0, LIVE)
    )
    yield Table("computed", (f"CREATE TABLE computed ({columns})",), before, live)
    before, live = (
        tuple(f"INSERT INTO uniquely VALUES ({start + n}, 'u{n}')" for n in range(5))
        for start in (0, LIVE)
    )
    unique = "CREATE TABLE uniquely (id bigint unsigned NOT NULL, v varchar(9), UNIQUE KEY (id))"
    yield Table("uniquely", (unique,), before, live)
