"""`gravity snapshot`: has a table, or some of its rows, read again while the stream runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from gravity.cli.option import AsJson, ConfigFile, print_json, read_config, remarks, screen
from gravity.clock import now_us
from gravity.config.problem import require_declared
from gravity.errors import FatalError
from gravity.snapshot_request import RESULTS_MAX
from gravity.supervisor import UnknownNameError
from gravity.topic import Topics, snapshot_request_key, snapshot_result_key

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.kafka.control import ControlTopic

_EVERY_S: Final = 0.5


def snapshot(
    config: ConfigFile,
    source: Annotated[str, typer.Argument(help="The source that has the table.")],
    table: Annotated[str, typer.Argument(help="The table: `database.table`.")],
    *,
    where: Annotated[
        str, typer.Option(help="SQL that chooses rows, such as `id > 1000`; unset = all rows.")
    ] = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for the end and show how far it is.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Have a table, or the rows of it that `--where` chooses, read and sent again.

    The stream is not stopped. The request is the record `snapshot/SOURCE/ID` in the control topic; the
    source's collector finds it within seconds, or whenever it runs again, and does it once. How it ended
    is the record `snapshot-result/SOURCE/ID`. Nothing is deleted: a row that a target has although the
    source does not stays there; only a table without a key (`whole-row`) is emptied first. A request that is cut off goes on where it stopped.
    """
    loaded = read_config(config, quiet=True)
    database, name = _table_of(loaded.config, source, table)
    control = _control(loaded.config)
    try:
        request_id = now_us()
        control.write(
            snapshot_request_key(source, request_id),
            {"id": request_id, "database": database, "table": name, "where": where.strip()},
        )
        _forget_old_ones(control, source)
        if not follow:
            _tell(source, request_id, as_json=as_json)
            return
        result = _followed(control, loaded.config, source, request_id)
    finally:
        control.close()
    if as_json:
        print_json({"source": source, **result})
    if result["error"]:
        raise FatalError(
            f"the request failed: {result['error']}",
            where=f"source {source}, table {table}, request {request_id}",
            remedy="mend it and ask again; the stream goes on",
        )
    if not as_json:
        screen.print(f"done: request {request_id}, {result['rows']:,} rows sent")


def _tell(source: str, request_id: int, *, as_json: bool) -> None:
    if as_json:
        print_json({"source": source, "id": request_id})
    else:
        screen.print(
            f"asked: request {request_id}. `gravity status` shows how far it is; its end will be "
            f"{snapshot_result_key(source, request_id)} in the control topic."
        )


def _table_of(config: Config, source: str, table: str) -> tuple[str, str]:
    """(database, table). Raises UnknownNameError for what the configuration does not read."""
    require_declared("source", source, [one.name for one in config.sources], UnknownNameError)
    found = next(one for one in config.sources if one.name == source)
    database, _, name = table.partition(".")
    if not name:
        raise UnknownNameError(
            f"{table} does not say which database it is in", remedy="write database.table"
        )
    if not found.selects(database, name):
        raise UnknownNameError(
            f"source {source} does not read {table}",
            remedy="see its `databases`, `tables` and `exclude`",
        )
    return database, name


def _control(config: Config) -> ControlTopic:
    from gravity.kafka.admin import TopicAdmin
    from gravity.kafka.control import ControlTopic

    name = Topics(config.kafka.topic_prefix).control
    if name not in TopicAdmin(config.kafka).partition_counts():
        raise FatalError(
            f"topic {name} does not exist: this installation never ran",
            remedy="`gravity run` reads all existing rows at its first start anyway",
        )
    return ControlTopic(config.kafka, name, "gravity-snapshot")


def _forget_old_ones(control: ControlTopic, source: str) -> None:
    """Removes requests that ended long ago, and their results, but the newest."""
    prefix = snapshot_result_key(source, 0).removesuffix("0")
    ended = sorted(
        int(key.removeprefix(prefix)) for key in control.refresh() if key.startswith(prefix)
    )
    for request_id in ended[:-RESULTS_MAX]:
        # In this order: a request without its result would be done again.
        control.delete(snapshot_request_key(source, request_id))
        control.delete(snapshot_result_key(source, request_id))


def _followed(
    control: ControlTopic, config: Config, source: str, request_id: int
) -> dict[str, Any]:
    """How the request ended; meanwhile shows how far it is."""
    from gravity.status_reader import StatusReader

    status = StatusReader(config)
    with remarks.status(f"request {request_id} waits for the collector") as shown:
        while True:
            result = control.refresh().get(snapshot_result_key(source, request_id))
            if result is not None:
                return {"id": request_id, "rows": result["rows"], "error": result["error"]}
            now = next(one for one in status.read().sources if one.name == source)
            rows = now.requests.get(str(request_id))
            if rows is not None:
                shown.update(f"request {request_id}: {rows:,} rows sent")
            time.sleep(_EVERY_S)
