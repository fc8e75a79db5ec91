"""ClickHouse: the engine of the `chdb` package behind the HTTP interface of `chdb_http.py`."""

from __future__ import annotations

import sys
import urllib.error
import urllib.parse
import urllib.request
from typing import Literal

from gravity_devstack.server import Command, NotReady, Server

USER = "gravity"
PASSWORD = "gravity-dev"  # noqa: S105  Loopback only.

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
            with urllib.request.urlopen(self._address("/ping"), timeout=5):  # noqa: S310
                pass
        except OSError as error:
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
        address = self._address(f"/_fault?{query}")
        request = urllib.request.Request(address, method="POST")  # noqa: S310
        with urllib.request.urlopen(request, timeout=30):  # noqa: S310
            pass

    def _address(self, path: str) -> str:
        return f"http://{self.host}:{self.port}{path}"
