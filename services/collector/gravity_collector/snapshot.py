"""Reading existing rows, chunk by chunk, each in a consistent view of the source.

How a chunk meets the stream without a lock and without writing to the source (docs/adr/0004): every
chunk is read in a transaction with a consistent snapshot of which it is *proved* what it saw.

- MariaDB opens the snapshot and notes the binlog position under one lock (`binlog_snapshot_file`,
  `binlog_snapshot_position`): the view saw the transactions before that position and no others.
- MySQL enters a GTID into `gtid_executed` after the storage engine's commit. What was in it before the
  snapshot was opened, the view saw; what the binlog did not yet hold after it was opened, it did not.
  What lies between comes by the stream in any case, so those rows are left out of the chunk.

The server's position alone would prove nothing: the binlog is written before a commit becomes visible,
and with semi-synchronous acknowledgement that gap is as long as the whole pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import pymysql
from pymysql.connections import Connection, MySQLResult
from pymysql.constants import COMMAND, CR
from pymysql.converters import conversions

from gravity.errors import FatalError, TransientError
from gravity.gtid import Flavor, parse_gtids
from gravity.mysql import SESSION_SETTINGS
from gravity_collector.binlog import error_of
from gravity_collector.chunk import GtidView, PositionView, View
from gravity_collector.file_name import file_index_of
from gravity_collector.text_rows import TextRows

# Encoders only: cells arrive as text, and gravity.column says what they become.
_CONVERSIONS: Final = {
    key: convert for key, convert in conversions.items() if not isinstance(key, int)
}
_TABLE_CHANGED: Final = frozenset((1412, 1146, 1054, 1051))
"""The table's shape is not the one that we asked for, or it is gone: the chunk is void."""
_BLOCK: Final = 1 << 18
"""Bytes read from the socket at a time."""


class SourceConnection:
    """A connection for questions and chunks: UTC, utf8mb4, no SQL mode that changes values."""

    def __init__(self, arguments: Mapping[str, Any], source: str) -> None:
        self._source = source
        with self._errors():
            self._connection: Connection[Any] = pymysql.connect(
                **{**arguments, "charset": "utf8mb4", "autocommit": True, "conv": _CONVERSIONS}
            )
        self.query(SESSION_SETTINGS)
        self.query("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        # Estimates of today, not of yesterday. Of no meaning to MariaDB.
        self.query("/*!80000 SET SESSION information_schema_stats_expiry = 0 */")

    def query(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """The rows of one statement; cells are text, or bytes where the column is binary."""
        with self._errors(), self._connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def columns(self, sql: str) -> TextRows:
        """The rows of one SELECT, undecoded, a list a column: PyMySQL's own reading costs several times as much."""
        connection: Any = self._connection
        with self._errors():
            connection._execute_command(COMMAND.COM_QUERY, sql)
            result = MySQLResult(connection)
            result.init_unbuffered_query()
            # From here on the rows are read past it.
            result.unbuffered_active = False
            rows = TextRows(result.field_count)
            while not rows.is_done:
                try:
                    data = connection._rfile.read1(_BLOCK)
                except OSError as error:
                    raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, str(error)) from error
                if not data:
                    raise pymysql.err.OperationalError(CR.CR_SERVER_LOST, "the server has gone")
                rows.feed(data)
            if rows.error is not None:
                pymysql.err.raise_mysql_exception(rows.error)
        return rows

    def literal(self, text: str) -> str:
        """A string quoted for SQL."""
        return str(self._connection.literal(text))

    def is_alive(self) -> bool:
        """Whether the server still answers on this connection; what was open on it is rolled back."""
        try:
            self.query("ROLLBACK")
        except (FatalError, TransientError):
            return False
        return True

    def close(self) -> None:
        """Ends the connection."""
        try:
            self._connection.close()
        except pymysql.err.Error:
            return

    def reading_text(self) -> AbstractContextManager[None]:
        """A block in which cells become text: names a cell that is none."""
        return self._errors()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except pymysql.err.MySQLError as error:
            if error.args and error.args[0] in _TABLE_CHANGED:
                raise TableChangedError(str(error), where=f"source {self._source}") from error
            raise error_of(error, self._source) from error
        except UnicodeDecodeError as error:
            raise FatalError(
                f"a cell is no text of its column's character set: {error.object[:40].hex()}",
                where=f"source {self._source}",
                remedy="find it by CONVERT(column USING binary), mend it, or exclude its table",
            ) from error


class TableChangedError(TransientError):
    """The table is no longer as it was when the chunk was planned."""


def open_view(connection: SourceConnection, flavor: Flavor) -> View:
    """Opens a transaction with a consistent snapshot and gives what is proved about it."""
    if flavor == "mariadb":
        connection.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        status = {
            str(name).lower(): value
            for name, value in connection.query("SHOW STATUS LIKE 'binlog_snapshot_%'")
        }
        file_name = str(status.get("binlog_snapshot_file", ""))
        if not file_name or file_name == "not-in-use":
            raise FatalError(
                "the server does not say which binlog position its snapshot stands for",
                remedy="MariaDB 5.3 or later with log_bin is needed to copy existing rows; or say snapshot: never",
            )
        return PositionView(file_index_of(file_name), int(status["binlog_snapshot_position"]))
    executed = str(connection.query("SELECT @@GLOBAL.gtid_executed")[0][0])
    connection.query("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    file_name, offset = binlog_end(connection)
    return GtidView(parse_gtids(flavor, executed), file_index_of(file_name), offset)


def binlog_end(connection: SourceConnection) -> tuple[str, int]:
    """The binlog file being written and where its next transaction will start."""
    version = str(connection.query("SELECT VERSION()")[0][0])
    numbers = tuple(int(part) for part in version.partition("-")[0].split(".")[:2])
    is_new = "mariadb" not in version.lower() and numbers >= (8, 4)
    row = connection.query("SHOW BINARY LOG STATUS" if is_new else "SHOW MASTER STATUS")[0]
    return str(row[0]), int(row[1])
