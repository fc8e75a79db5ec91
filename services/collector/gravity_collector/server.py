"""What a source server is and how it is set: facts asked once, and whether they allow a truthful read.

Pure but for the `query` passed in, which runs one statement and gives its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from gravity.errors import SourceSettingError
from gravity.gtid import Flavor
from gravity_collector.file_name import file_index_of
from gravity_collector.table_map import Collation

Query = Callable[[str], Sequence[Sequence[object]]]
"""Runs one SQL statement; gives its rows. Refusals come as GravityError."""

_VARIABLES: Final = (
    "version",
    "server_uuid",
    "server_id",
    "log_bin",
    "binlog_format",
    "binlog_row_image",
    "binlog_row_metadata",
    "binlog_row_value_options",
    "gtid_mode",
    "gtid_executed",
    "gtid_purged",
    "gtid_binlog_pos",
    "gtid_domain_id",
    "gtid_binlog_state",
    "binlog_alter_two_phase",
    "lower_case_table_names",
    "log_slave_updates",
    "log_replica_updates",
    *(f"{role}_parallel_workers" for role in ("slave", "replica")),
    *(f"{role}_preserve_commit_order" for role in ("slave", "replica")),
)
_MYSQL_WITH_NEW_STATEMENT: Final = (8, 4)
_MYSQL_WITH_REPLICA_STATUS: Final = (8, 0, 22)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A source server at one moment. Settings that a server does not have are empty."""

    flavor: Flavor
    version: str
    server_uuid: str
    """MySQL's own identity; empty on MariaDB, which has none."""
    server_id: int
    log_bin: bool
    binlog_format: str
    binlog_row_image: str
    binlog_row_metadata: str
    binlog_row_value_options: str
    gtid_mode: str
    """MySQL: ON, OFF or a step between; MariaDB, which always has GTIDs: ON."""
    file_name: str
    """The binlog file that is being written; empty without one."""
    next_offset: int
    """Where in it the next transaction will start."""
    gtid_set: str
    """All transactions until there. MySQL: the executed set; MariaDB: the last GTID of each domain."""
    gtid_purged: str
    """MySQL: the transactions of which the binlog is gone."""
    collations: Mapping[int, Collation]
    gtid_binlog_state: str = ""
    """MariaDB: the last transaction of each pair of domain and server in the binlog."""
    log_replica_updates: bool = True
    """Whether what it replicates goes into its own binlog."""
    reorders: bool = False
    """MySQL: whether it may commit replicated transactions in another order."""
    two_phase_alter: bool = False
    """MariaDB: whether ALTER is logged when it begins, and so also where it fails then."""
    lowers_names: bool = False
    """Whether tables are named in lower case, however statements spell them."""

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """Such as (8, 0, 15)."""
        return _version_numbers(self.version)

    def binlog_file_name(self, file_index: int) -> str:
        """The name of the binlog file of that number at this server."""
        return f"{self.file_name.rpartition('.')[0]}.{file_index:06d}"

    @property
    def file_index(self) -> int:
        """The number of the binlog file that is being written."""
        return file_index_of(self.file_name)


def server_facts(query: Query) -> ServerFacts:
    """Asks a server for its facts. Needs REPLICATION CLIENT (MariaDB: BINLOG MONITOR)."""
    names = ", ".join(f"'{name}'" for name in _VARIABLES)
    variables = {
        str(row[0]).lower(): str(row[1] or "")
        for row in query(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})")
    }
    version = variables.get("version", "")
    flavor: Flavor = "mariadb" if "mariadb" in version.lower() else "mysql"
    log_bin = variables.get("log_bin", "OFF") == "ON"
    file_name, next_offset, executed = (
        _binlog_status(query, flavor, version) if log_bin else ("", 0, "")
    )
    if flavor == "mariadb":
        executed = variables.get("gtid_binlog_pos", "")
    return ServerFacts(
        flavor=flavor,
        version=version,
        server_uuid=variables.get("server_uuid", ""),
        server_id=int(variables.get("server_id", "0") or 0),
        log_bin=log_bin,
        binlog_format=variables.get("binlog_format", "ROW").upper(),
        binlog_row_image=variables.get("binlog_row_image", "FULL").upper(),
        binlog_row_metadata=variables.get("binlog_row_metadata", "").upper(),
        binlog_row_value_options=variables.get("binlog_row_value_options", "").upper(),
        gtid_mode=variables.get("gtid_mode", "ON" if flavor == "mariadb" else "OFF").upper(),
        file_name=file_name,
        next_offset=next_offset,
        gtid_set=executed.replace("\n", ""),
        gtid_purged=variables.get("gtid_purged", "").replace("\n", ""),
        collations=read_collations(query, flavor),
        gtid_binlog_state=variables.get("gtid_binlog_state", "").replace("\n", ""),
        log_replica_updates="ON"
        in (variables.get("log_slave_updates"), variables.get("log_replica_updates")),
        reorders=flavor == "mysql" and _reorders(variables),
        two_phase_alter=variables.get("binlog_alter_two_phase") == "ON",
        lowers_names=variables.get("lower_case_table_names") == "1",
    )


def _reorders(variables: Mapping[str, str]) -> bool:
    def of_replica(name: str) -> str:
        return variables.get(f"replica_{name}") or variables.get(f"slave_{name}", "")

    return (
        int(of_replica("parallel_workers") or 0) > 1 and of_replica("preserve_commit_order") != "ON"
    )


def is_replicating(query: Query, facts: ServerFacts) -> bool:
    """Whether the server is set up to receive transactions from another one."""
    if facts.flavor == "mariadb":
        return bool(query("SHOW ALL SLAVES STATUS"))
    is_new = facts.version_numbers[:3] >= _MYSQL_WITH_REPLICA_STATUS
    return bool(query("SHOW REPLICA STATUS" if is_new else "SHOW SLAVE STATUS"))


def identity(facts: ServerFacts) -> str:
    """What tells the server from every other that may stand behind the same address."""
    if facts.flavor == "mysql":
        return f"mysql:{facts.server_uuid}"
    return f"mariadb:{facts.server_id}"


def _version_numbers(version: str) -> tuple[int, ...]:
    numbers = version.partition("-")[0].split(".")
    return tuple(int(number) for number in numbers if number.isdecimal())


def _binlog_status(query: Query, flavor: Flavor, version: str) -> tuple[str, int, str]:
    is_new = flavor == "mysql" and _version_numbers(version)[:2] >= _MYSQL_WITH_NEW_STATEMENT
    rows = query("SHOW BINARY LOG STATUS" if is_new else "SHOW MASTER STATUS")
    if not rows:
        return "", 0, ""
    row = rows[0]
    return str(row[0]), int(str(row[1])), str(row[4] or "") if len(row) > 4 else ""  # noqa: PLR2004 - GTID set


def read_collations(query: Query, flavor: Flavor) -> dict[int, Collation]:
    """All collations of a server by the numbers that its TABLE_MAP events use."""
    sizes = {
        str(name): int(str(size))
        for name, size in query(
            "SELECT character_set_name, maxlen FROM information_schema.character_sets"
        )
    }
    rows = query(
        "SELECT id, collation_name, character_set_name FROM information_schema.collations WHERE id IS NOT NULL"
    )
    has_full_names = flavor == "mariadb" and query(
        "SELECT 1 FROM information_schema.columns WHERE table_schema = 'information_schema'"
        " AND table_name = 'COLLATION_CHARACTER_SET_APPLICABILITY' AND column_name = 'FULL_COLLATION_NAME'"
    )
    if has_full_names:
        rows = [
            *rows,
            *query(
                "SELECT id, full_collation_name, character_set_name"
                " FROM information_schema.collation_character_set_applicability WHERE id IS NOT NULL"
            ),
        ]
    return {
        int(str(number)): Collation(str(name), str(charset), sizes.get(str(charset), 1))
        for number, name, charset in rows
    }


def assert_readable(facts: ServerFacts, source: str) -> None:
    """Refuses a server whose settings would make gravity lose or invent row changes.

    Not binlog_row_image: a row that lacks what is needed halts when it comes, by its table's name
    (docs/adr/0013). Compressed binlogs are read.

    Raises:
        SourceSettingError: names every wrong setting and what to set.
    """
    problems: list[tuple[str, str]] = []
    if not facts.log_bin:
        problems.append(("it writes no binlog (log_bin=OFF)", "start it with --log-bin"))
    if facts.binlog_format != "ROW":
        problems.append((f"binlog_format={facts.binlog_format}", "SET GLOBAL binlog_format=ROW"))
    if facts.binlog_row_metadata != "FULL":
        value = facts.binlog_row_metadata or "not there: older than MySQL 8.0.1 or MariaDB 10.5"
        problems.append((f"binlog_row_metadata={value}", "SET GLOBAL binlog_row_metadata=FULL"))
    if facts.binlog_row_value_options:
        problems.append(
            (
                f"binlog_row_value_options={facts.binlog_row_value_options}",
                "SET GLOBAL binlog_row_value_options=''",
            )
        )
    if facts.two_phase_alter:
        problems.append(("binlog_alter_two_phase=ON", "SET GLOBAL binlog_alter_two_phase=OFF"))
    if facts.flavor == "mysql" and facts.gtid_mode != "ON":
        problems.append(
            (
                f"gtid_mode={facts.gtid_mode}",
                "switch gtid_mode to ON, with enforce_gtid_consistency=ON",
            )
        )
    if problems:
        raise SourceSettingError(
            "the server can't be read truthfully: " + "; ".join(what for what, _ in problems),
            where=f"source {source}, {facts.flavor} {facts.version}",
            remedy="; ".join(remedy for _, remedy in problems)
            + "; also in my.cnf, then reconnect the writers",
        )
