"""A stack: any number of servers that live and end together."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Self, TypeVar

from gravity_devstack.clickhouse import ClickHouseServer
from gravity_devstack.database import DatabaseServer
from gravity_devstack.errors import StartError
from gravity_devstack.kafka import KafkaServer
from gravity_devstack.mariadb import DEFAULT_VERSION as MARIADB_VERSION
from gravity_devstack.mariadb import MariadbServer
from gravity_devstack.mysql import DEFAULT_VERSION as MYSQL_VERSION
from gravity_devstack.mysql import MysqlServer
from gravity_devstack.process import Guardian
from gravity_devstack.progress import Reporter
from gravity_devstack.server import Home, Server

TEMPORARY_PREFIX = "gravity-devstack-"

ServerT = TypeVar("ServerT", bound=Server)


class Stack:
    """Servers on loopback, started on demand, ended with the `with` block or with the program."""

    def __init__(
        self, folder: Path | str | None = None, *, reporter: Reporter | None = None
    ) -> None:
        """Keeps data and ports in `folder` for the next time; None means a temporary folder."""
        self._kept = Path(folder).absolute() if folder is not None else None
        self.reporter = reporter or Reporter()
        self._guardian: Guardian | None = None
        self._folder: Path | None = None
        self._servers: dict[str, Server] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        """Takes possession of the folder; starts no server.

        Raises:
            StartError: another stack uses the folder.
        """
        if self._kept is None:
            _remove_abandoned(Path(tempfile.gettempdir()))
            self._folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX))
            self._guardian = Guardian(self._folder)
        else:
            self._folder = self._kept
            self._folder.mkdir(parents=True, exist_ok=True)
            self._guardian = Guardian()
        if not self._guardian.claim(self._folder):
            self._guardian.close()
            raise StartError(
                "the folder belongs to another running stack",
                where=str(self._folder),
                remedy="end that stack, or choose another folder",
            )
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all servers; removes a temporary folder."""
        self.close()

    def close(self) -> None:
        """Ends all servers; in a kept folder they shut down in order. Harmless when repeated."""
        if self._guardian is not None:
            self._guardian.close()
            for server in self._servers.values():
                server.forget()

    @property
    def folder(self) -> Path:
        """Where data and logs are.

        Raises:
            StartError: the stack was not entered.
        """
        return self._entered()[0]

    @property
    def guardian_pid(self) -> int:
        """The process that looks after the servers."""
        return self._entered()[1].pid

    @property
    def servers(self) -> Mapping[str, Server]:
        """All servers that were asked for, by specification such as `mariadb:orders`."""
        return dict(self._servers)

    def kafka(self, options: Mapping[str, str | int] | None = None) -> KafkaServer:
        """The broker, started if need be; `options` are broker settings."""
        return self._server("kafka", KafkaServer, lambda home: KafkaServer(home, options))

    def mariadb(
        self,
        name: str,
        version: str = MARIADB_VERSION,
        *,
        options: Sequence[str] = (),
        **settings: str | int,
    ) -> DatabaseServer:
        """The MariaDB server `name`, 11.4 or 10.11, started if need be.

        `options` are given as on the command line, `settings` as `innodb_lock_wait_timeout=5`.

        Raises:
            Unavailable: this machine cannot have that version.
        """
        return self._server(
            f"mariadb:{name}",
            MariadbServer,
            lambda home: MariadbServer(home, version, options, settings),
        )

    def mysql(
        self,
        name: str,
        version: str = MYSQL_VERSION,
        *,
        options: Sequence[str] = (),
        **settings: str | int,
    ) -> DatabaseServer:
        """The MySQL server `name`, 8.0.15 or 9.7, started if need be; arguments as `mariadb`.

        Raises:
            Unavailable: this machine cannot have that version.
        """
        return self._server(
            f"mysql:{name}",
            MysqlServer,
            lambda home: MysqlServer(home, version, options, settings),
        )

    def clickhouse(self, name: str = "clickhouse") -> ClickHouseServer:
        """The ClickHouse server, started if need be."""
        key = "clickhouse" if name == "clickhouse" else f"clickhouse:{name}"
        return self._server(key, ClickHouseServer, ClickHouseServer)

    def start_all(self, specifications: Iterable[str]) -> dict[str, Server]:
        """Starts servers side by side and gives them by specification.

        A specification is `kafka`, `clickhouse`, `mariadb:NAME` or `mysql:NAME`, the last two
        also with `@VERSION`.

        Raises:
            ValueError: a specification is none of these.
            DevstackError: a server did not start; the others are up all the same.
        """
        starters = {text: self._starter(text) for text in specifications}
        futures = {text: _in_background(starter) for text, starter in starters.items()}
        wait(futures.values())
        return {text: future.result() for text, future in futures.items()}

    def _starter(self, specification: str) -> Callable[[], Server]:
        kind, _, rest = specification.partition(":")
        name, _, version = rest.partition("@")
        match kind, bool(name), bool(version):
            case "kafka", False, False:
                return self.kafka
            case "clickhouse", _, False:
                return lambda: self.clickhouse(name or "clickhouse")
            case "mariadb", True, _:
                return lambda: self.mariadb(name, version or MARIADB_VERSION)
            case "mysql", True, _:
                return lambda: self.mysql(name, version or MYSQL_VERSION)
        message = (
            f"{specification!r} names no server: say kafka, clickhouse, mariadb:NAME, mysql:NAME, "
            "mariadb:NAME@VERSION or mysql:NAME@VERSION"
        )
        raise ValueError(message)

    def _server(
        self, key: str, expected: type[ServerT], make: Callable[[Home], ServerT]
    ) -> ServerT:
        """The server `key`; whoever asks first starts it, others wait for that."""
        folder, guardian = self._entered()
        with self._turn:
            turn = self._turns.setdefault(key, threading.Lock())
        with turn:
            server = self._servers.get(key)
            if server is None:
                kind, _, name = key.partition(":")
                home = folder / key.replace(":", "-")
                server = make(Home(name or kind, home, guardian, self.reporter))
                server.start()
                self._servers[key] = server
        if not isinstance(server, expected):
            message = f"{key} is a {type(server).__name__}"
            raise TypeError(message)
        return server

    def _entered(self) -> tuple[Path, Guardian]:
        if self._folder is None or self._guardian is None:
            raise StartError(
                "the stack is not open",
                where="Stack",
                remedy="use it in a `with` statement",
            )
        return self._folder, self._guardian


def _in_background(starter: Callable[[], Server]) -> Future[Server]:
    """The coming result of `starter`, run in a thread that does not hold up the program's end.

    A pool would: Ctrl-C during a start would have to wait until the start is over.
    """
    future: Future[Server] = Future()

    def run() -> None:
        try:
            future.set_result(starter())
        except BaseException as error:  # noqa: BLE001  Handed on to whoever waits.
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def _remove_abandoned(parent: Path) -> None:
    """Removes temporary folders whose guardian is gone, which only its own SIGKILL can cause."""
    for folder in parent.glob(f"{TEMPORARY_PREFIX}*"):
        try:
            lock = os.open(folder / ".lock", os.O_RDWR)
        except OSError:  # Just being made or removed, or another user's.
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
