"""What the binlog says, in the words of the collector.

Every transaction is Begin, then any number of Rows and Query, then Commit or Rollback: also single
statements such as DDL, which the binlog writes without a commit, and transactions of MyISAM tables.
"""

from __future__ import annotations

from typing import NamedTuple

from gravity_collector.decoder import TableDecoder


class Begin(NamedTuple):
    """A transaction starts."""

    gtid: str
    """`uuid:number`, `uuid:tag:number` (MySQL) or `domain-server-number` (MariaDB)."""
    file_index: int
    offset: int
    """The first byte of its GTID event: reading can start again here."""
    commit_us: int
    """When it is committed, in microseconds since 1970 UTC: a server writes it whole, when it commits. MariaDB and
    older MySQL tell whole seconds."""


class Rows(NamedTuple):
    """Rows of one table were changed. They are decoded when asked for, so that skipped tables cost little."""

    table: TableDecoder
    op: int
    """INSERT, UPDATE or DELETE of gravity.batch."""
    body: bytes
    at: int
    """Where in `body` the number of columns stands: call `table.rows(body, at)` or `table.updates(body, at)`."""


class Query(NamedTuple):
    """A statement that is no row change, such as DDL. Inside a transaction for CREATE TABLE … SELECT."""

    database: str
    """The session's default database."""
    sql: str
    sql_mode: int
    """The session's sql_mode as bits, for parsing `sql` (4 is ANSI_QUOTES)."""


class Commit(NamedTuple):
    """The transaction's changes hold."""

    file_index: int
    next_offset: int
    """The byte after the transaction."""


class Rollback(NamedTuple):
    """What came since Begin does not hold: a rollback, or the server died while writing it."""

    file_index: int
    next_offset: int


class XaStart(NamedTuple):
    """The transaction that has just begun is an XA transaction: its changes hold when XA COMMIT comes.

    This and the other events of XA transactions are turned into ordinary ones by gravity_collector.xa.
    """

    xid: str
    """Its name as in statements, in lower case: `x'67',x'62',1`."""


class XaPrepare(NamedTuple):
    """In place of Commit: the XA transaction's changes are kept, and wait."""

    xid: str
    file_index: int
    next_offset: int


class XaCommit(NamedTuple):
    """In place of Commit: what an XA transaction changed before holds from here on."""

    xid: str
    file_index: int
    next_offset: int


class XaRollback(NamedTuple):
    """In place of Commit: what an XA transaction changed before is gone."""

    xid: str
    file_index: int
    next_offset: int


class Rotate(NamedTuple):
    """Reading goes on in another file, or has just begun in it."""

    file_name: str
    file_index: int
    next_offset: int
    artificial: bool
    """The server made it up for this connection; it stands in no file."""


class FormatDescription(NamedTuple):
    """A binlog file starts, or the server describes the one that we start in the middle of."""

    server_version: str
    has_checksums: bool


class Heartbeat(NamedTuple):
    """The server is alive and has nothing to send: everything before this position has been sent."""

    file_index: int
    next_offset: int


class AckAsked(NamedTuple):
    """A COMMIT at the server waits until everything before this position is acknowledged (semi-synchronous)."""

    file_name: str
    """As the server spells it, and wants it back."""
    file_index: int
    next_offset: int


class GtidList(NamedTuple):
    """MariaDB: the last transaction of each domain and server before this file."""

    gtids: tuple[str, ...]


class Statement(NamedTuple):
    """The text of the statement whose row events follow (annotate rows, binlog_rows_query_log_events)."""

    sql: str


Event = (
    Begin
    | Rows
    | Query
    | Commit
    | Rollback
    | XaStart
    | XaPrepare
    | XaCommit
    | XaRollback
    | Rotate
    | FormatDescription
    | Heartbeat
    | AckAsked
    | GtidList
    | Statement
)
