"""`gravity reset`: has a source's existing rows read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gravity.cli.option import AsJson, ConfigFile, plural, print_json, read_config, remarks, screen
from gravity.config.problem import require_declared
from gravity.errors import FatalError
from gravity.supervisor import UnknownNameError
from gravity.topic import Topics, resnapshot_key

if TYPE_CHECKING:
    from gravity.config import Config
    from gravity.plan import RoutingPlan


def reset(
    config: ConfigFile,
    *,
    source: Annotated[str, typer.Option(help="The source whose rows are to be read again.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; do it.")] = False,
    as_json: AsJson = False,
) -> None:
    """Have all existing rows of a source read and sent again, to mend targets that lost some.

    Says what will be done again and what stays, then asks. The wish is the record
    `resnapshot/SOURCE` in the control topic, {"request": N}, N growing by one each time; the
    collector obeys it at its next start, by a new round of the snapshot. Nothing is deleted: a row
    that a target has although the source does not stays there.
    """
    from gravity.kafka.admin import TopicAdmin
    from gravity.kafka.control import ControlTopic
    from gravity.kafka.plan_store import PlanStore

    loaded = read_config(config, quiet=True)
    _require_source(loaded.config, source)
    cluster = loaded.config.kafka
    name = Topics(cluster.topic_prefix).control
    if name not in TopicAdmin(cluster).partition_counts():
        raise FatalError(
            f"topic {name} does not exist: this installation never ran",
            remedy="`gravity run` reads all existing rows at its first start anyway",
        )
    control = ControlTopic(cluster, name, "gravity-reset")
    try:
        plan = PlanStore(control).require_newest()
        request = last_request(control.records.get(resnapshot_key(source))) + 1
        fed = tables_fed_by(plan, source)
        if not as_json:
            _tell(source, request, fed, control.records.get(resnapshot_key(source)))
        if not yes and not typer.confirm("Go on?", err=True):
            raise typer.Exit(1)
        control.write(resnapshot_key(source), {"request": request})
    finally:
        control.close()
    if as_json:
        print_json({"source": source, "request": request, "targets": fed})
    else:
        screen.print(
            f'written: {resnapshot_key(source)} = {{"request": {request}}}. Restart the collector '
            "(or `gravity run`) to begin."
        )


def last_request(record: object) -> int:
    """The number of the newest wish in a control record; 0 when there is none."""
    request = record.get("request", 0) if isinstance(record, dict) else 0
    return request if isinstance(request, int) else 0


def tables_fed_by(plan: RoutingPlan, source: str) -> dict[str, list[str]]:
    """Target to the tables there that get rows of `source`, as known when the plan was made."""
    return {
        target: sorted(table for table, sources in tables.items() if source in sources)
        for target, tables in plan.feeding.items()
        if any(source in sources for sources in tables.values())
    }


def _require_source(config: Config, source: str) -> None:
    require_declared("source", source, [one.name for one in config.sources], UnknownNameError)


def _tell(source: str, request: int, fed: dict[str, list[str]], before: object) -> None:
    def say(text: str) -> None:
        remarks.print(text, markup=False)

    say(f"Source {source}, snapshot round {request} on request:")
    say("  again   every included table is read from its first row to its last and sent to")
    for target, tables in fed.items():
        say(f"            {target}: {plural(len(tables), 'table')}: {', '.join(tables)}")
    if not fed:
        say("            no target, as far as the plan knows: are its tables routed anywhere?")
    say("  stays   the position in the binlog, changes that flow meanwhile, all other sources")
    say("  stays   rows at the targets that are equal or newer; rows that only a target has")
    if before is not None:
        say(
            f"  note    {plural(last_request(before), 'request')} before; one that still waits is merged"
        )
