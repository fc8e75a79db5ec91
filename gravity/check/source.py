"""Whether a source can be read truthfully: settings, grants, clock, tables. Pure but for the `query`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gravity.catalog import SYSTEM, Query, read_catalog
from gravity.check.finding import Finding, Findings
from gravity.check.grant import Grants
from gravity.check.semi_sync import check_semi_sync
from gravity.config.problem import nearest_name
from gravity.config.source import Source
from gravity.errors import FatalError, GravityError
from gravity.pattern import parse_glob, parse_table_pattern
from gravity.semi_sync import QUESTIONS, ServerSemiSync

CLOCK_SKEW_MS_MAX: Final = 1000
"""Conflicts by time compare commit times of different servers."""
_NAMES_SHOWN: Final = 5
_VARIABLES: Final = (
    "version",
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "gtid_mode",
    "server_id",
    "log_slave_updates",
    "log_replica_updates",
)
_OLDEST: Final[Mapping[str, tuple[int, ...]]] = {"mysql": (8, 0, 1), "mariadb": (10, 5)}
"""The first versions that write column names to the binlog."""


_USERS_TABLES: Final = (
    f"SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA NOT IN {SYSTEM}"
)


@dataclass(frozen=True, slots=True)
class _Wanted:
    variable: str
    value: str
    remedy: str


_SETTINGS: Final = (
    _Wanted("log_bin", "ON", "start the server with --log-bin"),
    _Wanted("binlog_format", "ROW", "SET GLOBAL binlog_format=ROW"),
    _Wanted("binlog_row_image", "FULL", "SET GLOBAL binlog_row_image=FULL"),
    _Wanted("binlog_row_metadata", "FULL", "SET GLOBAL binlog_row_metadata=FULL"),
    _Wanted("binlog_row_value_options", "", "SET GLOBAL binlog_row_value_options=''"),
)
_ALSO: Final = "; also in the server's configuration file, then reconnect the writers"


def check_source(
    part: str,
    source: Source,
    query: Query,
    literal: Callable[[str], str],
    now_us: Callable[[], int],
) -> Iterator[Finding]:
    """The findings about a server of a source that has let us in. Answers that are refused are findings too.

    `part` is what the findings call the server.
    """
    find = Findings(part)
    names = ", ".join(f"'{name}'" for name in _VARIABLES)
    variables = {
        str(row[0]).lower(): str(row[1] or "")
        for row in query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    }
    flavor = "mariadb" if "mariadb" in variables.get("version", "").lower() else "mysql"
    yield _version(find, source, flavor, variables.get("version", ""))
    yield from _settings(find, flavor, variables)
    for ask in (
        lambda: _grants(find, flavor, query),
        lambda: [_clock(find, query, now_us)],
        lambda: _semi_sync(find, source, query),
        lambda: _tables(find, source, query, literal),
    ):
        try:
            yield from ask()
        except GravityError as error:
            yield find.error("questions", error)


def _version(find: Findings, source: Source, flavor: str, version: str) -> Finding:
    numbers = tuple(int(n) for n in version.partition("-")[0].split(".") if n.isdecimal())
    shown = f"{flavor} {version}"
    if numbers < _OLDEST[flavor]:
        oldest = ".".join(map(str, _OLDEST[flavor]))
        return find.bad("version", shown, f"upgrade the server to {flavor} {oldest} or newer")
    if source.type != flavor:
        return find.doubtful("version", shown, f"the file says type: {source.type}; say {flavor}")
    return find.good("version", shown)


def _settings(find: Findings, flavor: str, variables: Mapping[str, str]) -> Iterator[Finding]:
    for wanted in _SETTINGS:
        value = variables.get(wanted.variable)
        if value is None:  # This server has no such setting.
            continue
        if value.upper() == wanted.value:
            yield find.good(wanted.variable, value or "empty")
        elif value.upper() == "NOBLOB":
            yield find.doubtful(
                wanted.variable,
                value,
                "an update that leaves a BLOB or TEXT column as it was, and a delete in such a table, will halt "
                f"the source: {wanted.remedy}{_ALSO}",
            )
        else:
            yield find.bad(wanted.variable, value or "empty", wanted.remedy + _ALSO)
    if flavor == "mysql":
        value = variables.get("gtid_mode", "OFF")
        if value == "ON":
            yield find.good("gtid_mode", value)
        else:
            yield find.bad(
                "gtid_mode", value, "switch gtid_mode to ON, with enforce_gtid_consistency=ON"
            )
    else:
        yield find.good("GTIDs", "always there on MariaDB")
    updates = variables.get("log_replica_updates", variables.get("log_slave_updates", "ON"))
    if updates != "ON":
        yield find.doubtful(
            "log_slave_updates",
            updates,
            "if this server is a replica, start it with --log-slave-updates: "
            "what it replicates is not in its binlog",
        )


def _grants(find: Findings, flavor: str, query: Query) -> Iterator[Finding]:
    grants = Grants.parse(str(row[0]) for row in query("SHOW GRANTS FOR CURRENT_USER()"))
    missing = grants.missing(["REPLICATION SLAVE"])
    # MariaDB 10.5 has renamed it, and calls it by either name.
    client = [
        name
        for name in ("REPLICATION CLIENT", "BINLOG MONITOR")[: 2 if flavor == "mariadb" else 1]
        if not grants.missing([name])
    ]
    missing += [] if client else ["REPLICATION CLIENT"]
    if not missing:
        yield find.good("replication grants", "REPLICATION SLAVE, REPLICATION CLIENT")
    elif grants.has_roles:
        yield find.doubtful(
            "replication grants",
            f"not listed: {', '.join(missing)}; a role may give them",
            f"make sure of it: GRANT {', '.join(missing)} ON *.* TO the account",
        )
    else:
        yield find.bad(
            "replication grants",
            f"missing: {', '.join(missing)}",
            f"GRANT {', '.join(missing)} ON *.* TO the account",
        )


def _semi_sync(find: Findings, source: Source, query: Query) -> Iterator[Finding]:
    if source.semi_sync is not None:
        server = ServerSemiSync.of([query(question) for question in QUESTIONS])
        yield from check_semi_sync(find, server)


def _clock(find: Findings, query: Query, now_us: Callable[[], int]) -> Finding:
    before_us = now_us()
    text = str(query("SELECT UTC_TIMESTAMP(6)")[0][0])
    after_us = now_us()
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    skew_ms = (moment.timestamp() * 1e6 - (before_us + after_us) / 2) / 1000
    # Half of the answer's way may have been on either side.
    doubt_ms = (after_us - before_us) / 2000
    shown = f"{skew_ms:+.0f} ms (± {doubt_ms:.0f}) against this machine"
    if abs(skew_ms) - doubt_ms > CLOCK_SKEW_MS_MAX:
        return find.doubtful(
            "clock", shown, "set both clocks by NTP: lag and conflicts by time depend on them"
        )
    return find.good("clock", shown)


def _tables(
    find: Findings, source: Source, query: Query, literal: Callable[[str], str]
) -> Iterator[Finding]:
    try:
        tables = read_catalog(query, source.selects, literal)
    except FatalError as error:
        yield find.error("tables", error)
        return
    if not tables:
        yield find.bad(
            "tables",
            "no table is included",
            "correct databases, tables or exclude, or GRANT the account SELECT on them",
        )
        return
    yield find.good("tables", f"{len(tables)} included: {_shown(tables)}")
    yield from _names(find, source, list(tables), query)
    keyless = [
        name
        for name, table in tables.items()
        if not (
            table.schema.key
            or any(parse_table_pattern(text).matches(*name) for text in source.whole_row)
        )
    ]
    if keyless:
        listed = ", ".join(f"{database}.{table}" for database, table in keyless)
        yield find.bad(
            "keys",
            f"neither primary key nor unique key of NOT NULL columns: {_shown(keyless)}",
            f"add a primary key (an invisible AUTO_INCREMENT column disturbs nobody), or whole-row: [{listed}], "
            f"or exclude: [{listed}]",
        )
    yield from _readable(find, list(tables), query)
    yield from _cascades(find, set(tables), query)


def _names(
    find: Findings, source: Source, tables: Sequence[tuple[str, str]], query: Query
) -> Iterator[Finding]:
    """Names and patterns that mean none of the tables that are read: most likely misspelt."""
    idle = [
        pattern
        for pattern in map(parse_table_pattern, source.tables)
        if not any(pattern.matches(database, table) for database, table in tables)
    ]
    if idle:
        names = [str(row[0]) for row in query(_USERS_TABLES)]
        near = {nearest_name(p.table.text, names) for p in idle if p.is_exact} - {""}
        guess = f" (did you mean {', '.join(sorted(near))}?)" if near else ""
        yield find.doubtful(
            "table names",
            f"none of them is meant by {', '.join(pattern.text for pattern in idle)}",
            f"correct the name{guess}, or GRANT the account SELECT there; it may stay for a table to come",
        )
    empty = [
        text
        for text in source.databases
        if not any(parse_glob(text).matches(database) for database, _ in tables)
    ]
    if empty:
        yield find.doubtful(
            "database names",
            f"no table is read in {', '.join(empty)}",
            "correct the name, or GRANT the account SELECT there",
        )


def _readable(find: Findings, names: Sequence[tuple[str, str]], query: Query) -> Iterator[Finding]:
    refused: list[tuple[str, str]] = []
    for database, table in names:
        try:
            query(f"SELECT 1 FROM {_quote(database)}.{_quote(table)} LIMIT 0")
        except FatalError:
            refused.append((database, table))
    if refused:
        yield find.bad(
            "SELECT", f"refused on {_shown(refused)}", "GRANT SELECT on these tables TO the account"
        )
    else:
        yield find.good("SELECT", "granted on all of them")


def _cascades(find: Findings, names: set[tuple[str, str]], query: Query) -> Iterator[Finding]:
    """Foreign keys that change rows by themselves: InnoDB does so below the binlog."""
    rules = query(
        "SELECT CONSTRAINT_SCHEMA, TABLE_NAME, DELETE_RULE, UPDATE_RULE"
        " FROM information_schema.REFERENTIAL_CONSTRAINTS"
    )
    silent = {
        (str(database), str(table))
        for database, table, *actions in rules
        if (database, table) in names and not set(actions) <= {"RESTRICT", "NO ACTION"}
    }
    if silent:
        yield find.doubtful(
            "foreign keys",
            f"change rows of {_shown(sorted(silent))} without a word in the binlog (before MySQL 9.6)",
            "delete and update children in the application, or give the target the same foreign keys",
        )


def _shown(names: Mapping[tuple[str, str], Any] | Sequence[tuple[str, str]]) -> str:
    texts = [f"{database}.{table}" for database, table in names]
    more = len(texts) - _NAMES_SHOWN
    return ", ".join(texts[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _quote(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"
