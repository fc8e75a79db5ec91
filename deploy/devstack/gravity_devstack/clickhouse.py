"""ClickHouse: the engine of the `chdb` package behind the HTTP interface of `chdb_http.py`."""

from __future__ import annotations

import http.client
import sys
import urllib.parse
from typing import Literal

from gravity_devstack.server import Command, NotReady, Server

USER = "gravity"
PASSWORD = "gravity-dev"

FaultMode = Literal["drop_before", "drop_after", "delay", "error"]


class ClickHouseServer(Server):
    """One ClickHouse engine that answers the ordinary HTTP clients.

    It has one user, no sessions, no async-insert queue and no Keeper; see the README.
    """

    kind = "clickhouse"
    user = USER
    password = PASSWORD

    def prepare(self) -> None:
        """Makes the data folder; the program came with this package."""
        self.data.mkdir(exist_ok=True)

    def command(self) -> Command:
        """The facade in an interpreter of its own, since one process owns a data folder."""
        argv = [
            *(sys.executable, "-m", "gravity_devstack.chdb_http"),
            *("--host", self.host, "--port", str(self.port), "--path", str(self.data)),
        ]
        return Command(argv, env={"CLICKHOUSE_USER": self.user, "CLICKHOUSE_PASSWORD": PASSWORD})

    def probe(self) -> None:
        """Asks `/ping`."""
        try:
            self._ask("GET", "/ping")
        except (OSError, http.client.HTTPException) as error:
            raise NotReady(str(error)) from error

    def fault(
        self,
        *,
        mode: FaultMode,
        match: str = "",
        n: int = 1,
        code: int = 252,
        delay_s: float = 1.0,
    ) -> None:
        """Disturbs the next `n` statements whose text contains `match`, in any letter case.

        `drop_before` cuts the connection instead of executing, `drop_after` executes and cuts
        instead of answering, `delay` waits `delay_s` first, `error` answers error `code`.
        """
        query = urllib.parse.urlencode(
            {"mode": mode, "match": match, "n": n, "code": code, "seconds": delay_s}
        )
        self._ask("POST", f"/_fault?{query}")

    def _ask(self, method: str, path: str) -> None:
        """One request, without the proxy that the environment may name."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            connection.request(method, path)
            connection.getresponse().read()
        finally:
            connection.close()
