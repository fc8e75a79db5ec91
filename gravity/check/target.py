"""Whether the targets let themselves be written. Pure but for the questions passed in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from gravity.catalog import Query
from gravity.check.finding import Finding, Findings
from gravity.check.grant import Grants
from gravity.config.target import ClickhouseTarget, KafkaTarget, MysqlTarget
from gravity.errors import GravityError
from gravity.target_table import DATABASE

_WRITE: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_DEFINE: Final = ("CREATE", "ALTER")


def check_mysql_target(target: MysqlTarget, query: Query) -> Iterator[Finding]:
    """The findings about a MySQL or MariaDB target that has let us in."""
    find = Findings(f"target {target.name}")
    version, read_only = query("SELECT VERSION(), @@GLOBAL.read_only")[0]
    yield find.good("version", str(version))
    if str(read_only) in ("1", "ON"):
        yield find.bad(
            "read_only", "ON", "SET GLOBAL read_only=OFF, or write to the primary instead"
        )
    else:
        yield find.good("read_only", "OFF")
    grants = Grants.parse(str(row[0]) for row in query("SHOW GRANTS FOR CURRENT_USER()"))
    yield _granted(find, grants, DATABASE, (*_WRITE, *_DEFINE))
    if target.database is not None:
        wanted = (*_WRITE, *_DEFINE) if target.create_tables else _WRITE
        if _may_drop(target):
            wanted = (*wanted, "DROP")
        yield _granted(find, grants, target.database, wanted)
    elif grants.missing(_WRITE):
        yield find.doubtful(
            "grants",
            "no database is named, so rows go to databases called as at the sources",
            "GRANT the account these databases, or say database: NAME",
        )
    engine = query("SELECT ENGINE FROM information_schema.ENGINES WHERE SUPPORT = 'DEFAULT'")
    if engine and str(engine[0][0]).lower() != "innodb":
        yield find.bad(
            "engine",
            f"tables are made with {engine[0][0]}",
            "SET GLOBAL default_storage_engine=InnoDB: rows and progress must commit together",
        )


def _may_drop(target: MysqlTarget | ClickhouseTarget) -> bool:
    """Whether a table that is dropped at the source is dropped here."""
    return target.create_tables and target.schema_evolution == "apply"


def _granted(find: Findings, grants: Grants, database: str, wanted: tuple[str, ...]) -> Finding:
    missing = grants.missing(wanted, database)
    if not missing:
        return find.good(f"grants on {database}", ", ".join(wanted))
    text = ", ".join(missing)
    remedy = f"GRANT {text} ON `{database}`.* TO the account"
    if grants.has_roles:
        return find.doubtful(
            f"grants on {database}", f"not listed: {text}; a role may give them", remedy
        )
    return find.bad(f"grants on {database}", f"missing: {text}", remedy)


def check_clickhouse_target(target: ClickhouseTarget, query: Query) -> Iterator[Finding]:
    """The findings about a ClickHouse target that has let us in."""
    find = Findings(f"target {target.name}")
    yield find.good("version", str(query("SELECT version()")[0][0]))
    readonly = query("SELECT value FROM system.settings WHERE name = 'readonly'")
    if readonly and str(readonly[0][0]) != "0":
        yield find.bad(
            "readonly", str(readonly[0][0]), "give the account a profile with readonly = 0"
        )
    else:
        yield find.good("readonly", "0")
    for database in dict.fromkeys((DATABASE, target.database)):
        if database is None:
            continue
        privileges = ", ".join(_clickhouse_privileges(target, database))
        quoted = "`" + database.replace("`", "\\`") + "`"
        try:
            granted = query(f"CHECK GRANT {privileges} ON {quoted}.*")
        except GravityError:
            # ClickHouse learned the question in 24.8: what is not known is not said.
            continue
        if granted and str(granted[0][0]) == "1":
            yield find.good(f"grants on {database}", privileges)
        else:
            yield find.bad(
                f"grants on {database}",
                "not all of those needed",
                f"GRANT CREATE DATABASE, {privileges} ON {quoted}.* TO the account",
            )


def _clickhouse_privileges(target: ClickhouseTarget, database: str) -> Iterator[str]:
    yield from ("SELECT", "INSERT", "CREATE TABLE", "CREATE VIEW", "DROP VIEW")
    alters = target.create_tables and target.schema_evolution != "stop"
    yield "ALTER COLUMN" if alters else "ALTER ADD COLUMN"
    # Who alters a table holds a small table of our own while it does.
    if (alters and database == DATABASE) or _may_drop(target):
        yield "DROP TABLE"


def check_kafka_target(target: KafkaTarget, topics: Mapping[str, int]) -> Iterator[Finding]:
    """The findings about a Kafka target, given its topics and how many partitions each has."""
    find = Findings(f"target {target.name}")
    if target.create_tables:
        yield find.good("topics", f"{len(topics)} there; missing ones are made")
    else:
        yield find.doubtful(
            "topics",
            f"{len(topics)} there; missing ones are not made",
            "make a topic for each table beforehand, or say create-tables: true",
        )
