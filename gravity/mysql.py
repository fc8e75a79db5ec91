"""The library's door to PyMySQL: one question-and-answer session at a source or a MySQL target."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self

import pymysql
from pymysql.converters import conversions

from gravity.errors import FatalError, GravityError, TransientError

if TYPE_CHECKING:
    from gravity.config.connection import Tls
    from gravity.config.source import Source
    from gravity.config.target import MysqlTarget

CONNECT_TIMEOUT_S: Final = 5
ANSWER_TIMEOUT_S: Final = 30
"""Longest wait for one answer: every question asked here is about catalogs and settings."""

# Encoders only: cells arrive as the server prints them.
_CONVERSIONS: Final[dict[Any, Any]] = {
    key: convert for key, convert in conversions.items() if not isinstance(key, int)
}
SESSION_SETTINGS: Final = (
    "SET SESSION time_zone = '+00:00', SESSION sql_mode = ''"
    "/*!80030 , SESSION show_gipk_in_create_table_and_information_schema = ON */"
)
"""How values and catalogs are to be printed, whatever the server's own settings are.

The last is of MySQL 8.0.30 and later: a generated primary key is in the binlog, and must be in the catalog too.
"""

_AWAY: Final[Mapping[int, str]] = {
    1040: "all of the server's connections are taken: raise max_connections, or wait",
    1053: "the server is shutting down",
    1205: "another session holds a lock: try again",
    2002: "is the server up, and are host and port right?",
    2003: "is the server up, and are host and port right?",
    2005: "is the host's name right, and does this machine's name service know it?",
    2006: "the server closed the connection: see its log",
    2013: "the server closed the connection: see its log",
}
_REFUSED: Final[Mapping[int, str]] = {
    1044: "GRANT the account access to that database",
    1045: "correct username and password; is the account allowed from this host?",
    1049: "create the database, or correct its name",
    1129: "the server has blocked this host after failed attempts: FLUSH HOSTS",
    1130: "CREATE USER … @ this host, or '%'",
    1142: "GRANT the missing privilege",
    1227: "GRANT the missing privilege (`gravity check` lists those needed)",
    1251: "the account's authentication plugin is not supported: use mysql_native_password or caching_sha2_password",
    1698: "the account logs in by the operating system's user only: give it a password",
    1820: "the password has expired: ALTER USER … IDENTIFIED BY …",
    1862: "the password has expired: ALTER USER … IDENTIFIED BY …",
    3118: "the account is locked: ALTER USER … ACCOUNT UNLOCK",
    3159: "the server wants encryption: set tls: {mode: required}",
}


def mysql_error(error: Exception, where: str) -> GravityError:
    """`error` of PyMySQL or of the socket in gravity's taxonomy. Unknown codes stop."""
    origin = getattr(error, "original_exception", None)
    if isinstance(origin, ssl.SSLError) or isinstance(error, ssl.SSLError):
        return FatalError(
            f"no encrypted connection: {origin or error}",
            where=where,
            remedy="set tls: {ca: FILE} to the server's authority, or another tls.mode",
        )
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    text = str(error.args[1]) if len(error.args) > 1 else str(error)
    what = f"the server says ({code}) {text}" if code else text or type(error).__name__
    if code in _AWAY:
        return TransientError(what, where=where, remedy=_AWAY[code])
    if isinstance(error, (pymysql.err.InterfaceError, OSError)):
        return TransientError(what, where=where, remedy="the connection was lost: try again")
    remedy = _REFUSED.get(code, "look the number up in the server's error reference")
    return FatalError(what, where=where, remedy=remedy)


def _tls_arguments(tls: Tls | None) -> dict[str, Any]:
    """None and `preferred` encrypt where the server offers it, without asking who it is."""
    if tls is None or tls.mode == "preferred":
        return {}
    if tls.mode == "disabled":
        return {"ssl_disabled": True}
    context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
    if tls.cert is not None:
        context.load_cert_chain(str(tls.cert), None if tls.key is None else str(tls.key))
    context.check_hostname = tls.mode == "verify-identity"
    if tls.mode == "required":
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}


def connection_arguments(
    server: Source | MysqlTarget, endpoint: tuple[str, int] | None = None
) -> dict[str, Any]:
    """Where and as whom PyMySQL (or a library on top of it) connects, with encryption as configured.

    `endpoint` is one of a source's several servers; None: the best of them.

    Raises:
        ConfigError: host or username are missing.
    """
    server.require_connection()
    host, port = endpoint or next(
        iter(getattr(server, "endpoints", ())), (server.host, server.port)
    )
    return {
        "host": host,
        "port": port,
        "user": server.username,
        "password": "" if server.password is None else server.password.get_secret_value(),
        "charset": "utf8mb4",
        **_tls_arguments(server.tls),
    }


class MysqlSession:
    """One connection in autocommit and UTC. Answers are text as the server prints it, None for NULL."""

    def __init__(
        self,
        server: Source | MysqlTarget,
        *,
        kind: str,
        endpoint: tuple[str, int] | None = None,
    ) -> None:
        """Connects. `kind` is `source` or `target`, for messages; `endpoint` one of a source's servers.

        Raises:
            TransientError: the server is away.
            FatalError: it refuses us.
            ConfigError: host or username are missing.
        """
        arguments = connection_arguments(server, endpoint)
        self.where = f"{kind} {server.name}, {arguments['host']}:{arguments['port']}"
        try:
            self._connection: pymysql.Connection[Any] = pymysql.connect(
                **arguments,
                conv=_CONVERSIONS,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=ANSWER_TIMEOUT_S,
                write_timeout=ANSWER_TIMEOUT_S,
            )
        except RuntimeError as error:  # PyMySQL: no `cryptography`, which some logins need.
            raise FatalError(str(error), where=self.where) from error
        except (pymysql.MySQLError, OSError) as error:
            raise mysql_error(error, self.where) from error
        self.query(SESSION_SETTINGS)

    def query(self, sql: str) -> Sequence[tuple[Any, ...]]:
        """The rows of one statement. Raises TransientError or FatalError by the server's code."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        except (pymysql.MySQLError, OSError) as error:
            raise mysql_error(error, self.where) from error

    def literal(self, text: str) -> str:
        """A string quoted for SQL."""
        return str(self._connection.literal(text))

    def close(self) -> None:
        """Ends the connection."""
        with suppress(pymysql.MySQLError, OSError):  # It may be gone already.
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def source_session(source: Source) -> MysqlSession:
    """A session at the best of a source's servers that answers.

    Raises what `MysqlSession` raises; TransientError only when every server is away.
    """
    for endpoint in source.endpoints[:-1]:
        with suppress(TransientError):
            return MysqlSession(source, kind="source", endpoint=endpoint)
    return MysqlSession(source, kind="source", endpoint=next(iter(source.endpoints[-1:]), None))
