"""The MySQL family: what MariaDB and MySQL servers of a stack have in common."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pymysql
from pymysql.connections import Connection

from gravity_devstack.cache import made_once
from gravity_devstack.errors import StartError, Unavailable
from gravity_devstack.process import Guardian
from gravity_devstack.progress import Reporter
from gravity_devstack.server import Command, Home, NotReady, Server

USER = "gravity"
PASSWORD = "gravity-dev"

CREATE_USER = tuple(
    statement
    for host in ("%", "127.0.0.1", "localhost")
    for statement in (
        f"CREATE USER '{USER}'@'{host}' IDENTIFIED BY '{PASSWORD}';",
        f"GRANT ALL PRIVILEGES ON *.* TO '{USER}'@'{host}' WITH GRANT OPTION;",
    )
)

STORAGE_OPTIONS = ("--innodb-buffer-pool-size=64M", "--performance-schema=OFF")
"""Small memory; the same while a data folder is made and while it is used."""

SOURCE_OPTIONS = (
    "--log-bin=binlog",
    "--binlog-row-image=FULL",
    "--binlog-row-metadata=FULL",
    "--character-set-server=utf8mb4",
    "--default-time-zone=+00:00",
    # A crash of the process loses nothing with these two, only a crash of the machine does.
    "--sync-binlog=0",
    "--innodb-flush-log-at-trx-commit=2",
    "--skip-name-resolve",
    "--secure-file-priv=",
)


def server_id(name: str) -> int:
    """A replication server id for `name`: stable, and far from the small ids of readers."""
    return 1_000_000 + zlib.crc32(name.encode()) % 1_000_000_000


def user_options() -> list[str]:
    """What the servers of this family want to be told before they run as root."""
    return ["--user=root"] if os.geteuid() == 0 else []


class Release(ABC):
    """One version of a server: where its program comes from, and an empty data folder for it."""

    version: str

    def __init__(self, guardian: Guardian, reporter: Reporter) -> None:
        """Fetches nothing yet."""
        self.guardian = guardian
        self.reporter = reporter

    @abstractmethod
    def program(self) -> Command:
        """The start of the server's command line, fetched on the first call ever."""

    @abstractmethod
    def template(self) -> Path:
        """An initialised data folder with our user, made on the first call ever."""


AnyRelease = TypeVar("AnyRelease", bound=Release)


def release(
    known: Mapping[str, type[AnyRelease]],
    version: str,
    product: str,
    guardian: Guardian,
    reporter: Reporter,
) -> AnyRelease:
    """The release of `product` named `version`.

    Raises:
        Unavailable: we have no such release.
    """
    if version not in known:
        raise Unavailable(
            f"no {product} {version} here",
            where="the requested version",
            remedy=f"choose one of {', '.join(known)}",
        )
    return known[version](guardian, reporter)


class DatabaseServer(Server):
    """A server that speaks MySQL's protocol, ready to be a replication source."""

    flavor: str
    """`mariadb` or `mysql`."""

    def __init__(
        self,
        home: Home,
        options: Sequence[str] = (),
        settings: Mapping[str, str | int] | None = None,
    ) -> None:
        """Puts `options` (`--name=value`) and `settings` (`name=value`) after our own: they win."""
        super().__init__(home)
        self.user = USER
        self.password = PASSWORD
        self.options = [
            *options,
            *(f"--{key.replace('_', '-')}={value}" for key, value in (settings or {}).items()),
        ]
        self._version: str | None = None

    @property
    def version(self) -> str:
        """The version in the server's own words, such as `11.4.5-MariaDB-log`; asked once."""
        if self._version is None:
            with self.connect() as connection, connection.cursor() as cursor:
                cursor.execute("SELECT VERSION()")
                row = cursor.fetchone()
            self._version = str(row[0]) if row else "unknown"
        return self._version

    def connect(
        self,
        database: str | None = None,
        **arguments: Any,
    ) -> Connection[Any]:
        """A new PyMySQL connection with autocommit; `arguments` go to `pymysql.connect`.

        Raises:
            pymysql.err.OperationalError: the server does not accept the connection.
        """
        defaults: dict[str, Any] = {
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "database": database,
            "charset": "utf8mb4",
            "autocommit": True,
        }
        return pymysql.connect(**{**defaults, **arguments})

    @abstractmethod
    def template(self) -> Path:
        """The cached data folder of a server that was initialised and never used."""

    def prepare(self) -> None:
        """Copies the template unless the server has data already."""
        if self.data.exists():
            return
        copy_tree(self.template() / "data", self.data)

    def probe(self) -> None:
        """Asks for the greeting and logs in."""
        try:
            self.connect(connect_timeout=5).close()
        except pymysql.err.OperationalError as error:
            raise NotReady(str(error)) from error

    def listen_options(self) -> list[str]:
        """Address, identity and source options of this server, without the caller's own."""
        return [
            f"--datadir={self.data}",
            f"--port={self.port}",
            f"--bind-address={self.host}",
            # Relative to the data folder: an absolute path may exceed the 107 bytes of a socket.
            "--socket=server.sock",
            f"--pid-file={self.folder / 'server.pid'}",
            f"--tmpdir={self.folder / 'tmp'}",
            f"--server-id={server_id(self.name)}",
            *STORAGE_OPTIONS,
            *SOURCE_OPTIONS,
        ]


def cached_template(label: str, recipe: Sequence[str], build: Callable[[Path], None]) -> Path:
    """The cache entry for a data folder, a new one whenever `recipe` (options, SQL) changes."""
    digest = hashlib.sha256("\n".join(recipe).encode()).hexdigest()
    return made_once(f"template-{label}-{digest[:10]}", build)


def copy_tree(source: Path, target: Path) -> None:
    """Copies a folder; holes stay holes, and blocks are shared where the file system can.

    Raises:
        StartError: the copy failed; `target` is then absent.
    """
    partial = target.with_name(f"{target.name}.partial")
    done = subprocess.run(
        ["cp", "-a", "--reflink=auto", "--sparse=auto", f"{source}/.", str(partial)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StartError(
            f"cannot copy {source}: {done.stderr.strip()}",
            where=str(target),
            remedy="make room on the disk, or remove the cache folder",
        )
    partial.rename(target)
