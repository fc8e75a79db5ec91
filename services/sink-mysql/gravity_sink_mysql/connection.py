"""One session at a MySQL or MariaDB target. The only module here that knows PyMySQL."""

from __future__ import annotations

import contextlib
import re
import ssl
from typing import TYPE_CHECKING, Any

import pymysql
from pymysql.constants import CLIENT

from gravity.errors import GravityError, TransientError
from gravity_sink_mysql.error_code import CONNECTION_LOST, error_of

if TYPE_CHECKING:
    from gravity.config.connection import Tls
    from gravity.config.target import MysqlTarget

CONNECT_TIMEOUT_S = 10
ANSWER_TIMEOUT_S = 300
"""Longest wait for one statement's answer; a server that says nothing for longer is gone."""
IDLE_S_MAX = 10
"""The server closes a session that is silent for so long, and rolls back what a frozen sink left."""

# ALLOW_INVALID_DATES and the absent NO_ZERO_DATE: what a source's table holds must fit in its copy.
# NO_AUTO_VALUE_ON_ZERO: a key 0 is a 0.
_SQL_MODE = (
    "STRICT_TRANS_TABLES,STRICT_ALL_TABLES,NO_BACKSLASH_ESCAPES,NO_AUTO_VALUE_ON_ZERO,"
    "ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION"
)
LOCK_WAIT_S = 20
"""Longest wait for a row's lock."""
_SETTINGS = (
    f"SET SESSION sql_mode='{_SQL_MODE}', time_zone='+00:00', wait_timeout={IDLE_S_MAX}, "
    f"lock_wait_timeout=30, innodb_lock_wait_timeout={LOCK_WAIT_S}"
)
# Several lanes delete and insert side by side; without gap locks they seldom deadlock.
_ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"


def code_of(error: GravityError) -> int:
    """The server's code behind an error of `Session`; 0 if there is none."""
    cause = error.__cause__
    code = cause.args[0] if isinstance(cause, pymysql.MySQLError) and cause.args else 0
    return code if isinstance(code, int) else 0


def _tls_context(tls: Tls | None) -> ssl.SSLContext | None:
    if tls is None or tls.mode == "disabled":
        return None
    context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    if tls.cert is not None:
        context.load_cert_chain(str(tls.cert), None if tls.key is None else str(tls.key))
    context.check_hostname = tls.mode == "verify-identity"
    if tls.mode not in ("verify-ca", "verify-identity"):
        context.verify_mode = ssl.CERT_NONE
    return context


class Session:
    """A connection in autocommit, with the settings that `statement.py` writes its text for."""

    def __init__(self, target: MysqlTarget, database: str | None = None) -> None:
        """Connects. Raises TransientError when the server is away, FatalError when it refuses us."""
        self._where = f"target {target.name}, {target.host}:{target.port}"
        try:
            self._connection: pymysql.Connection[Any] = pymysql.connect(
                host=target.host,
                port=target.port,
                user=target.username,
                password="" if target.password is None else target.password.get_secret_value(),
                database=database,
                charset="utf8mb4",
                # Values as the server prints them, undecoded: that is how our own cells look.
                conv={},
                # Matched rows, not changed ones: an update to equal values has found its row.
                client_flag=CLIENT.FOUND_ROWS,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=ANSWER_TIMEOUT_S,
                write_timeout=ANSWER_TIMEOUT_S,
                ssl=_tls_context(target.tls),
                ssl_disabled=target.tls is not None and target.tls.mode == "disabled",
            )
        except (pymysql.MySQLError, OSError) as error:
            raise self._error(error) from error
        self.execute(_SETTINGS)
        self.execute(_ISOLATION)
        row = self.rows("SELECT CONNECTION_ID(), @@max_allowed_packet, VERSION()")[0]
        self.connection_id, self.packet_bytes_max = int(row[0]), int(row[1])
        self.is_mariadb = "mariadb" in str(row[2]).lower()
        self.version = tuple(int(n) for n in re.findall(r"\d+", str(row[2]))[:2])

    def execute(self, sql: str) -> int:
        """Runs a statement; returns how many rows it matched."""
        cursor = self._run(sql)
        return int(cursor.rowcount)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query: text as the server prints it, bytes for binary columns, None for NULL."""
        return list(self._run(sql).fetchall())

    def _run(self, sql: str) -> Any:
        try:
            cursor = self._connection.cursor()
            cursor.execute(sql)
        except (pymysql.MySQLError, OSError) as error:
            raise self._error(error) from error
        return cursor

    def ping(self) -> None:
        """Says that we live. Raises TransientError when the session is gone."""
        try:
            self._connection.ping(reconnect=False)
        except (pymysql.MySQLError, OSError) as error:
            raise self._error(error) from error

    def close(self) -> None:
        """Ends the session; the server rolls back what is open."""
        with contextlib.suppress(pymysql.MySQLError, OSError):  # It may be gone already.
            self._connection.close()

    def _error(self, error: Exception) -> GravityError:
        code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
        if isinstance(error, pymysql.err.InterfaceError) or not isinstance(
            error, pymysql.MySQLError
        ):
            return TransientError(f"the connection is gone: {error}", where=self._where)
        text = str(error.args[1]) if len(error.args) > 1 else str(error)
        if code in CONNECTION_LOST or (isinstance(error, pymysql.err.InternalError) and not code):
            return TransientError(f"the connection is gone: {code} {text}", where=self._where)
        return error_of(code, text, where=self._where)
