"""ClickHouse's HTTP interface in front of `chdb`: the same engine, SQL and formats, for tests.

One process owns a data folder. Understood: /ping, a query in the body or in `?query=`, INSERT ...
FORMAT x with data (chunked, lz4, zstd, gzip), settings in the address, `database`, `param_*`,
`default_format`, Basic and X-ClickHouse-User authentication, the X-ClickHouse-* headers and error
codes. Not understood: sessions (each request has its own), external data, response compression,
progress, grants, the async-insert queue, Keeper and Replicated engines.

Faults: POST /_fault?mode=drop_before|drop_after|delay|error&match=INSERT&n=1&code=252&seconds=1
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import signal
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb
import lz4.frame
import zstandard

TRANSPORT = frozenset(
    {
        *("query", "database", "default_format", "user", "password", "role", "quota_key"),
        *("session_id", "session_timeout", "session_check", "query_id", "stacktrace"),
        *("compress", "decompress", "enable_http_compression", "buffer_size", "wait_end_of_query"),
        *("client_protocol_version", "send_progress_in_http_headers"),
        "http_headers_progress_interval_ms",
        "cancel_http_readonly_queries_on_client_close",
    }
)
"""Parameters of the address that are not settings of the query."""

HTTP_STATUS = {
    **dict.fromkeys((6, 26, 27, 36, 53, 62), 400),
    **dict.fromkeys((164, 192, 497, 516), 403),
    **dict.fromkeys((46, 47, 60, 81, 115), 404),
    48: 501,
    159: 408,
}
"""The server's HTTP status by error code; 500 for all others."""

AUTHENTICATION_FAILED = 516
UNKNOWN_EXCEPTION = 1002
HEAD_BYTES = 1 << 16
"""How far into a statement we look for its words: beyond are only data."""

INSERT = re.compile(
    rb"^\s*INSERT\s+INTO\s.*?\b(?P<word>FORMAT)\s+(?P<name>\w+)(?:[ \t]*\r?\n|\s|;|$)",
    re.IGNORECASE | re.DOTALL,
)
FORMAT = re.compile(
    rb"\bFORMAT\s+(?P<name>\w+)\s*(?:SETTINGS\b.*)?;?\s*$", re.IGNORECASE | re.DOTALL
)


def identifier(name: str) -> str:
    """`name` quoted as an identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """`text` quoted as a string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _open(data: str) -> Any:
    """A handle of the engine on `data`; cheap after the first one of the process."""
    return chdb.connect(data)  # type: ignore[no-untyped-call]


def inflate(body: bytes, encoding: str | None) -> bytes:
    """The body without its `Content-Encoding`.

    All frames are read, for clients send one compressed frame per block of rows.

    Raises:
        ValueError: the encoding is not known.
    """
    decoders: dict[str, Callable[[], Any]] = {
        "lz4": lz4.frame.LZ4FrameDecompressor,
        "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
        "gzip": lambda: zlib.decompressobj(31),
        "deflate": lambda: zlib.decompressobj(15),
    }
    if encoding in (None, "", "identity"):
        return body
    if encoding not in decoders:
        message = f"Content-Encoding {encoding} is not known"
        raise ValueError(message)
    parts = []
    while body:
        decoder = decoders[encoding]()
        parts.append(decoder.decompress(body))
        body = decoder.unused_data
    return b"".join(parts)


class Facade(ThreadingHTTPServer):
    """The listening server: who may enter, which data, which faults are due."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], data: str, users: Mapping[str, str], *, verbose: bool
    ) -> None:
        """Opens the engine on `data` and keeps it open; `users` are name to password."""
        super().__init__(address, Request)
        self.data = data
        self.users = users
        self.verbose = verbose
        self.engine = _open(data)
        answer = self.engine.query("SELECT version(), timezone()", "TSV").bytes().decode()
        self.version, self.time_zone = answer.split()
        self._faults: list[dict[str, str]] = []
        self._turn = threading.Lock()

    def add_fault(self, fault: dict[str, str]) -> None:
        """Lets `fault` hit the next matching statements."""
        with self._turn:
            self._faults.append(fault)

    def take_fault(self, sql: bytes) -> dict[str, str]:
        """The fault that is due for `sql`, counted down; empty if there is none."""
        head = sql[:HEAD_BYTES].lower()
        with self._turn:
            for fault in self._faults:
                left = int(fault.get("n", "1"))
                if left > 0 and fault.get("match", "").encode().lower() in head:
                    fault["n"] = str(left - 1)
                    return fault
        return {}

    def is_allowed(self, user: str, password: str) -> bool:
        """Whether the user exists and the password is right."""
        return self.users.get(user) == password


class Request(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Facade
    query_id = ""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  The parent's name.
        """Logs requests on demand only."""
        if self.server.verbose:
            super().log_message(format, *args)

    def do_GET(self) -> None:
        """Answers any request; ClickHouse treats the methods nearly alike."""
        address = urlsplit(self.path)
        parameters = dict(parse_qsl(address.query, keep_blank_values=True))
        body = self._body()
        if address.path == "/ping" or (address.path == "/" and not parameters and not body):
            self._reply(200, b"Ok.\n", {"Content-Type": "text/html; charset=UTF-8"})
        elif address.path == "/_fault":
            self.server.add_fault(parameters)
            self._reply(200, b"Ok.\n", {})
        elif not self._allowed(parameters):
            text = "DB::Exception: Authentication failed. (AUTHENTICATION_FAILED)"
            self._fail(AUTHENTICATION_FAILED, f"Code: {AUTHENTICATION_FAILED}. {text}")
        else:
            self._query(parameters, body)

    do_POST = do_GET  # noqa: N815  The names are given by the parent class.
    do_HEAD = do_GET  # noqa: N815

    def _body(self) -> bytes:
        """The whole body, with the chunks of a chunked one put together."""
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _allowed(self, parameters: Mapping[str, str]) -> bool:
        """Reads the credentials from wherever the client put them."""
        user, password = parameters.get("user"), parameters.get("password", "")
        authorization = self.headers.get("Authorization", "")
        if authorization.startswith("Basic "):
            user, _, password = base64.b64decode(authorization[6:]).decode().partition(":")
        elif "X-ClickHouse-User" in self.headers:
            user = self.headers["X-ClickHouse-User"]
            password = self.headers.get("X-ClickHouse-Key", "")
        return self.server.is_allowed(user or "default", password)

    def _query(self, parameters: Mapping[str, str], body: bytes) -> None:
        """Executes a statement, disturbed by the fault that is due, and replies."""
        self.query_id = parameters.get("query_id") or str(uuid.uuid4())
        try:
            data = inflate(body, self.headers.get("Content-Encoding"))
            sql = parameters.get("query", "").encode()
            if not sql:
                sql, data = data, b""
            fault = self.server.take_fault(sql)
            mode = fault.get("mode")
            if mode == "error":
                code = int(fault.get("code", "252"))
                self._fail(code, f"Code: {code}. DB::Exception: injected fault (FAULT)")
                return
            if mode == "delay":
                time.sleep(float(fault.get("seconds", "1")))
            if mode == "drop_before":
                self._drop()
                return
            output, headers = self._execute(sql, data, parameters)
        except Exception as error:  # noqa: BLE001  Outermost: chdb raises RuntimeError of all sorts.
            self._fail_as_server(str(error))
            return
        if mode == "drop_after":
            self._drop()
        else:
            self._reply(200, output, headers)

    def _execute(
        self, sql: bytes, data: bytes, parameters: Mapping[str, str]
    ) -> tuple[bytes, dict[str, str]]:
        """The answer to a statement in a handle of its own, and the headers that go with it."""
        started_ns = time.monotonic_ns()
        engine = _open(self.server.data)
        try:
            self._configure(engine, parameters)
            if insert := INSERT.match(sql[:HEAD_BYTES]):
                output, format_name = b"", insert["name"].decode()
                stream = engine.send_insert(sql[: insert.start("word")].decode(), format_name)
                stream.append(sql[insert.end() :] + data)
                result = stream.finish()
                summary = {
                    "written_rows": result.rows_written,
                    "written_bytes": result.bytes_written,
                }
            else:
                format_name = self._format(sql, parameters)
                text = (sql + (b"\n" + data if data else b"")).decode()
                values = {k[6:]: v for k, v in parameters.items() if k.startswith("param_")}
                result = engine.query(text, format_name, params=values or None)
                output = result.bytes() or b""
                summary = {
                    "read_rows": result.rows_read(),
                    "read_bytes": result.bytes_read(),
                    "written_rows": result.rows_written(),
                }
        finally:
            engine.close()
        summary["elapsed_ns"] = time.monotonic_ns() - started_ns
        return output, self._headers(format_name, summary)

    def _configure(
        self,
        engine: Any,
        parameters: Mapping[str, str],
    ) -> None:
        """Applies database and settings of the request to its handle."""
        database = parameters.get("database") or self.headers.get("X-ClickHouse-Database")
        if database:
            engine.query("USE " + identifier(database))
        settings = {
            name: value
            for name, value in parameters.items()
            if name not in TRANSPORT and not name.startswith("param_")
        }
        if self.command == "GET":
            settings["readonly"] = "1"
        if settings:
            pairs = (f"{identifier(name)} = {literal(v)}" for name, v in settings.items())
            engine.query("SET " + ", ".join(pairs))

    def _format(self, sql: bytes, parameters: Mapping[str, str]) -> str:
        """The output format: the statement's own word wins."""
        if found := FORMAT.search(sql):
            return found["name"].decode()
        wished = parameters.get("default_format") or self.headers.get("X-ClickHouse-Format")
        return wished or "TabSeparated"

    def _headers(self, format_name: str, summary: Mapping[str, int]) -> dict[str, str]:
        return {
            "Content-Type": "application/octet-stream",
            "X-ClickHouse-Query-Id": self.query_id,
            "X-ClickHouse-Format": format_name,
            "X-ClickHouse-Timezone": self.server.time_zone,
            "X-ClickHouse-Server-Display-Name": "chdb",
            "X-ClickHouse-Summary": json.dumps({k: str(v) for k, v in summary.items()}),
        }

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _fail_as_server(self, text: str) -> None:
        """Replies with the engine's error, which carries the server's code in its text."""
        if found := re.search(r"Code: (\d+)", text):
            version = f"(version {self.server.version} (chdb))"
            self._fail(int(found[1]), f"{text[found.start() :]} {version}")
        else:
            told = f"Code: {UNKNOWN_EXCEPTION}. DB::Exception: {text} (UNKNOWN_EXCEPTION)"
            self._fail(UNKNOWN_EXCEPTION, told)

    def _fail(self, code: int, text: str) -> None:
        headers = {
            "X-ClickHouse-Exception-Code": str(code),
            "X-ClickHouse-Query-Id": self.query_id,
            "Content-Type": "text/plain; charset=UTF-8",
        }
        self._reply(HTTP_STATUS.get(code, 500), text.encode() + b"\n", headers)

    def _drop(self) -> None:
        """Cuts the connection without an answer."""
        self.close_connection = True
        self.connection.close()


def main() -> None:
    """Serves until SIGTERM. User, password and database come from CLICKHOUSE_USER and the like."""
    parser = argparse.ArgumentParser(description="ClickHouse over HTTP on chdb, for tests")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--path", required=True, help="data folder")
    parser.add_argument("--verbose", action="store_true", help="log every request")
    options = parser.parse_args()
    user = os.environ.get("CLICKHOUSE_USER") or "default"
    users = {user: os.environ.get("CLICKHOUSE_PASSWORD", "")}
    facade = Facade((options.host, options.port), options.path, users, verbose=options.verbose)
    if database := os.environ.get("CLICKHOUSE_DB"):
        facade.engine.query("CREATE DATABASE IF NOT EXISTS " + identifier(database))
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=facade.shutdown).start())
    facade.serve_forever()
    facade.server_close()
    facade.engine.close()


if __name__ == "__main__":
    main()
