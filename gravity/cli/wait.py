"""`gravity wait` and `gravity serve`: whether a target has what was written to a source."""

from __future__ import annotations

import asyncio
import ipaddress
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from gravity.cli.option import (
    EXIT_FAILED,
    AsJson,
    ConfigFile,
    plural,
    print_json,
    read_config,
    remarks,
    screen,
    timeout_s_of,
)
from gravity.config.source import parse_address
from gravity.errors import FatalError
from gravity.telemetry.log import configure_logging

if TYPE_CHECKING:
    from gravity.recency_reader import Answer

_PORT = 8430


def listening_at(text: str) -> tuple[str, int]:
    """(host, port) of `--listen`: a number alone is a port of this machine."""
    if text.isdecimal():
        text = f"127.0.0.1:{text}"
    try:
        return parse_address(text, _PORT)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--listen") from None


def wait(
    config: ConfigFile,
    *,
    source: Annotated[str, typer.Option(help="The source that was written to.", metavar="NAME")],
    target: Annotated[str, typer.Option(help="The target to be read.", metavar="NAME")],
    gtid: Annotated[
        str | None,
        typer.Option(
            help="GTID or GTID set of the writes, as the source's server prints it; left out: everything that "
            "the source has committed by now.",
            metavar="GTID",
        ),
    ] = None,
    timeout: Annotated[
        str, typer.Option(help="Longest wait: 500ms, 30s, 10m.", metavar="TIME")
    ] = "30s",
    processed: Annotated[
        bool, typer.Option("--processed", help="Also while rows of the target are on hold.")
    ] = False,
    disposition: Annotated[
        bool,
        typer.Option("--disposition", help="Tell, too, what became of the rows; with --gtid."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Wait until a target has what was written to a source, so that it can be read there.

    Exit code 0: every row of these transactions that goes to the target has been applied there. 1: not
    within the time; nothing is known then. docs/consistency.md says what this promises and what not.

    Without --gtid the source's servers are asked what they have committed; that fails while one is away.
    """
    from gravity.recency_reader import ask
    from gravity.recency_reader import wait as wait_for

    timeout_s = timeout_s_of(timeout)
    loaded = read_config(config, quiet=True).config
    question = ask(loaded, source, target, gtid, processed=processed, disposition=disposition)
    found = wait_for(loaded, question, timeout_s)
    if as_json:
        print_json(found.to_json())
    elif found.status == "applied":
        assert found.frontier is not None
        screen.print(
            f"applied: {target} has {source} up to {found.frontier.gtids}, after {found.seconds:.1f} s"
        )
        for line in _told(found):
            screen.print(line, markup=False)
    if found.status == "timeout":
        sys.stderr.write(f"error: not within {timeout}: {found.lacks}\n")
        raise typer.Exit(EXIT_FAILED)


def _told(found: Answer) -> Iterator[str]:
    """What became of the rows, in words."""
    if found.untold:
        yield f"what became of the rows is not known: {found.untold}"
    if found.disposition is None:
        return
    counts = found.disposition.counts
    told = (f"{count:,} {fate.replace('_', '-')}" for fate, count in counts.items() if count)
    yield f"{plural(sum(counts.values()), 'row')}: {', '.join(told) or 'none of a collected table'}"
    for row in found.disposition.others:
        yield f"  {row.table} {row.key}: {row.fate}" + (f" by {row.by}" if row.by else "")


def serve(
    config: ConfigFile,
    *,
    listen: Annotated[
        str,
        typer.Option(
            help="Address to listen at; a port alone is one of this machine.", metavar="HOST:PORT"
        ),
    ] = f"127.0.0.1:{_PORT}",
    waits_max: Annotated[
        int, typer.Option("--waits-max", min=1, help="Questions that may wait at one time.")
    ] = 200,
) -> None:
    """Answer programs over HTTP what `gravity wait` answers: POST /wait, until Ctrl-C.

    Body and answer are JSON; docs/consistency.md describes them. Whoever can reach the address may ask, so
    it is this machine alone unless --listen says otherwise.
    """
    host, port = listening_at(listen)
    loaded = read_config(config).config
    try:
        from gravity.recency_server import serve as serve_waits
    except ModuleNotFoundError as error:
        raise FatalError(
            f"Python package {error.name} is missing", remedy="pip install 'gravity[http]'"
        ) from None
    configure_logging("serve")

    def announce(host: str, port: int) -> None:
        if not _is_loopback(host):
            remarks.print(
                f"[yellow]notice[/] {host} can be reached by others: they may ask as well"
            )
        shown = f"[{host}]" if ":" in host else host
        questions = f"{plural(waits_max, 'wait')} at a time. Ctrl-C stops."
        remarks.print(f"POST http://{shown}:{port}/wait, {questions}", markup=False)

    try:
        asyncio.run(serve_waits(loaded, host, port, waits_max=waits_max, announce=announce))
    except OSError as error:
        raise FatalError(
            f"can't listen: {error.strerror or error}",
            where=listen,
            remedy="is another program there? `--listen 127.0.0.1:PORT` takes another port",
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
