"""A few questions to a ClickHouse server over HTTP, by the standard library: `gravity check` needs no more."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from gravity.errors import FatalError, TransientError

if TYPE_CHECKING:
    from gravity.config.target import ClickhouseTarget

ANSWER_TIMEOUT_S: Final = 10
_REFUSALS: Final = (401, 403)
_OK: Final = 200


class ClickhouseQuestions:
    """Asks one server; each question is a request of its own."""

    def __init__(self, target: ClickhouseTarget) -> None:
        """Connects to nothing yet. Raises ConfigError when the host is missing."""
        target.require_connection()
        self._target = target
        self.where = f"target {target.name}, {target.host}:{target.port}"

    def query(self, sql: str) -> Sequence[Sequence[Any]]:
        """The rows of one statement, cells as JSON has them.

        Raises:
            TransientError: the server is away.
            FatalError: it refuses us or the statement, or is no ClickHouse.
        """
        connection = self._connection()
        try:
            connection.request(
                "POST",
                f"/?default_format={quote('JSONCompact')}",
                body=sql.encode(),
                headers={"Authorization": f"Basic {self._credentials()}"},
            )
            response = connection.getresponse()
            status, body = response.status, response.read()
        except ssl.SSLError as error:
            raise FatalError(
                f"no encrypted connection: {error}",
                where=self.where,
                remedy="set tls: {ca: FILE} to the server's authority, or leave tls out",
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise TransientError(
                f"no answer: {error or type(error).__name__}",
                where=self.where,
                remedy="is the server up, and is port its HTTP port (8123, with TLS 8443)?",
            ) from error
        finally:
            connection.close()
        text = body.decode(errors="replace")
        if status != _OK:
            remedy = "check username and password" if status in _REFUSALS else ""
            raise FatalError(
                f"the server says {text.strip()[:300]}", where=self.where, remedy=remedy
            )
        try:
            rows: Sequence[Sequence[Any]] = json.loads(text)["data"]
        except (ValueError, KeyError, TypeError):
            raise FatalError(
                f"the answer is not ClickHouse's: {text.strip()[:100]!r}",
                where=self.where,
                remedy="is port its HTTP port (8123, with TLS 8443)?",
            ) from None
        return rows

    def _credentials(self) -> str:
        password = self._target.password
        secret = "" if password is None else password.get_secret_value()
        return base64.b64encode(f"{self._target.username}:{secret}".encode()).decode()

    def _connection(self) -> http.client.HTTPConnection:
        host, port, tls = self._target.host or "", self._target.port, self._target.tls
        if tls is None or tls.mode == "disabled":
            return http.client.HTTPConnection(host, port, timeout=ANSWER_TIMEOUT_S)
        context = ssl.create_default_context(cafile=None if tls.ca is None else str(tls.ca))
        if tls.cert is not None:
            context.load_cert_chain(str(tls.cert), None if tls.key is None else str(tls.key))
        context.check_hostname = tls.mode == "verify-identity"
        if not tls.mode.startswith("verify"):
            context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(host, port, timeout=ANSWER_TIMEOUT_S, context=context)
