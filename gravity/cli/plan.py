"""`gravity plan`: what would flow where, by the patterns of the file or by the tables there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from gravity.cli.option import (
    AsJson,
    ConfigFile,
    WaitSeconds,
    plural,
    print_json,
    read_config,
    screen,
)
from gravity.cli.plan_messages import chart as messages_chart
from gravity.cli.plan_messages import messages_by_pattern, messages_by_table
from gravity.key import LANE_JOB
from gravity.placed_anew import is_placed_as
from gravity.plan import RoutingPlan
from gravity.plan_compiler import SourceTable, compile_plan
from gravity.plan_part import STRONG, Resolution, RoutePlan
from gravity.transform.rule import TransformPlan

if TYPE_CHECKING:
    from gravity.cli.plan_diff import FlowChange
    from gravity.config import Config


@dataclass(frozen=True, slots=True)
class Flow:
    """One way of rows: from a table, or from tables a pattern means, into a target."""

    sources: tuple[str, ...]
    tables: tuple[str, ...]
    """`database.table` at the source, or patterns."""
    exclude: tuple[str, ...]
    target: str
    target_table: str | None
    """None: where patterns are all that is known."""
    conditions: tuple[str, ...] | None
    """Rows go if any is true, be it a condition or a share of keys; None = all rows go."""
    order: str
    conflicts: str
    columns: tuple[str, ...] = ()
    """What a transform makes of the columns, one text for each; with patterns, of the names as well."""


def plan(
    config: ConfigFile,
    connect: Annotated[
        bool, typer.Option("--connect", help="Ask the sources which tables they have.")
    ] = False,
    diff: Annotated[
        bool,
        typer.Option(
            "--diff", help="Ask the sources, and show what differs from the plan in force."
        ),
    ] = False,
    as_json: AsJson = False,
    wait_s: WaitSeconds = 10.0,
) -> None:
    """Show what flows where: tables, targets, conditions, order, conflict rules, and a Kafka target's messages.

    Without --connect nothing is connected to, and tables appear as the patterns of the file. With it, tables that
    no rule sends anywhere are named, and what in `transforms` is for no table.

    With --diff the file is set against the plan in force, and nothing is activated: what would begin, end, or
    go another way, as `gravity reload` or `gravity run` would put it in force. Refused is what they would
    refuse.
    """
    loaded = read_config(config, quiet=as_json)
    if diff:
        found = difference(loaded.config, wait_s)
        if as_json:
            print_json(found.to_json())
        else:
            show_difference(found)
        return
    tables: list[SourceTable] = []
    if connect:
        from gravity.activation import source_tables

        tables = source_tables(loaded.config, wait_s)
    compiled = compile_plan(loaded.config, tables)
    flows = table_flows(compiled, tables) if connect else pattern_flows(compiled)
    nowhere = tables_without_target(compiled, tables)
    idle = transforms_without_table(compiled, tables) if connect else []
    messages = messages_by_pattern(loaded.config)
    if connect:
        ways = [(flow.target, *flow.tables[0].partition(".")[::2]) for flow in flows]
        messages = messages_by_table(loaded.config, ways)
    if as_json:
        print_json({
            "connected": connect,
            "partitions": compiled.partitions,
            "sources": [asdict(source) for source in compiled.sources],
            "targets": [{"name": t.name, "type": t.type, "database": t.database} for t in compiled.targets],
            "flows": [asdict(flow) for flow in flows],
            "messages": [asdict(said) for said in messages],
            "tables_without_target": nowhere,
            "transforms_without_table": idle,
        })  # fmt: skip
        return
    screen.print(_chart(flows))
    if messages:
        screen.print(messages_chart(messages))
    for name in nowhere:
        screen.print(f"[yellow]no target[/]: {name} is read, but no rule sends it anywhere")
    _show_idle_transforms(idle)
    if connect:
        screen.print(f"{plural(len(tables), 'table')} at {plural(len(compiled.sources), 'source')}")


@dataclass(frozen=True, slots=True)
class Difference:
    """A configuration held against the plan in force."""

    previous: RoutingPlan | None
    new: RoutingPlan
    """`previous` itself where nothing differs."""
    changes: list[FlowChange]
    read_again: list[str]
    """Tables, as `source: database.table`, whose existing rows are read again, since they go another way."""
    transforms_without_table: list[str]
    """As the function of this name has them, by the new plan."""

    @property
    def gone(self) -> list[str]:
        """Sources and targets that the new plan does not have."""
        return [] if self.previous is None else _names_gone(self.previous, self.new)

    @property
    def new_parts(self) -> list[str]:
        """Sources and targets that stages don't know that run by the plan in force; before the first plan, all."""
        before = (
            replace(self.new, sources=(), targets=()) if self.previous is None else self.previous
        )
        return _names_gone(self.new, before)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "in_force": None if self.previous is None else self.previous.version,
            "next": self.new.version,
            "gone": self.gone,
            "changes": [change.to_json() for change in self.changes],
            "read_again": self.read_again,
            "transforms_without_table": self.transforms_without_table,
        }


def difference(config: Config, wait_s: float) -> Difference:
    """What `config` would change of the plan in force. Changes nothing.

    Raises what `gravity.activation` raises for a configuration that can't follow it.
    """
    from gravity.activation import next_plan, plan_in_force, source_tables
    from gravity.cli.plan_diff import flow_changes

    in_force = plan_in_force(config, wait_s)
    previous = in_force.plan
    tables = source_tables(config, wait_s, previous)
    new = next_plan(config, tables, previous, settled=in_force.settled)
    old_flows = [] if previous is None else table_flows(previous, tables)
    changes = flow_changes(old_flows, table_flows(new, tables))
    return Difference(
        previous,
        new,
        changes,
        _read_again(previous, new, tables),
        transforms_without_table(new, tables),
    )


def _read_again(
    previous: RoutingPlan | None, new: RoutingPlan, tables: Sequence[SourceTable]
) -> list[str]:
    if previous is None:
        return []
    return [
        f"{table.source}: {database}.{name}"
        for table in tables
        for database, name in [(table.schema.database, table.schema.table)]
        if new.includes(table.source, database, name)
        and previous.includes(table.source, database, name)
        and not is_placed_as(new, previous, table.source, database, name)
    ]


def show_difference(found: Difference) -> None:
    """Prints it for people."""
    from gravity.cli.plan_diff import chart

    previous, new = found.previous, found.new
    _show_idle_transforms(found.transforms_without_table)
    if previous is None:
        screen.print("no plan is in force yet: everything is new")
    elif new.version == previous.version:
        screen.print(f"nothing differs: plan {previous.version} stays in force")
        return
    for name in found.gone:
        screen.print(f"[yellow]no longer there[/]: {name}, with everything that it had")
    if found.changes:
        screen.print(chart(found.changes))
    else:
        screen.print("no table goes another way")
    if previous is not None:
        screen.print(f"plan {new.version} would follow plan {previous.version}")
    for name in found.read_again:
        screen.print(
            f"[yellow]read again[/]: {name}; rows that have no place at a target any more are deleted there"
        )


def _show_idle_transforms(found: Sequence[str]) -> None:
    for text in found:
        plain = text.replace("[", r"\[")
        screen.print(f"[yellow]no table[/]: {plain}")


def _names_gone(before: RoutingPlan, after: RoutingPlan) -> list[str]:
    """Sources and targets that `after` does not have; of those gone nobody can be asked for their tables."""
    pairs = (("source", before.sources, after.sources), ("target", before.targets, after.targets))
    return [
        f"{kind} {item.name}"
        for kind, old, new in pairs
        for item in old
        if item.name not in {other.name for other in new}
    ]


def table_flows(plan: RoutingPlan, tables: Sequence[SourceTable]) -> list[Flow]:
    """A flow for each table of each source and each target it goes to."""
    return [
        Flow(
            (table.source,),
            (f"{table.schema.database}.{table.schema.table}",),
            (),
            feed.target,
            feed.table,
            plan.rows_of(feed),
            feed.lane + _merge_text(plan, feed.target),
            _resolution_text(
                plan.resolution(feed.target, feed.table)
                if plan.is_joined(feed.target, feed.table)
                else None
            ),
            () if feed.transform is None else feed.transform.describe(),
        )
        for table in tables
        if plan.includes(table.source, table.schema.database, table.schema.table)
        for feed in plan.feeds(table.source, table.schema)
    ]


def tables_without_target(plan: RoutingPlan, tables: Sequence[SourceTable]) -> list[str]:
    """Tables that are read although no rule sends them anywhere, as `source: database.table`."""
    return [
        f"{table.source}: {table.schema.database}.{table.schema.table}"
        for table in tables
        if plan.includes(table.source, table.schema.database, table.schema.table)
        and not plan.feeds(table.source, table.schema)
    ]


def transforms_without_table(plan: RoutingPlan, tables: Sequence[SourceTable]) -> list[str]:
    """What of the targets' `transforms` is for no table there is: patterns, and entries that others go before."""
    found: list[str] = []
    for target in plan.targets:
        names = [
            (table.source, table.schema.database, table.schema.table)
            for table in tables
            if plan.includes(table.source, table.schema.database, table.schema.table)
            and any(feed.target == target.name for feed in plan.feeds(table.source, table.schema))
        ]
        used = {id(target.transform(*name)) for name in names}
        for number, rule in enumerate(target.transforms):
            where = f"target {target.name}, transforms[{number}]"
            meant = [name[1:] for name in names if rule.means(*name)]
            found += [
                f"{where}: {text} means no table that goes there"
                for text, pattern in zip(rule.tables, rule.patterns, strict=True)
                if not any(pattern.matches(*name) for name in meant)
            ]
            if meant and id(rule) not in used:
                found.append(f"{where}: an earlier entry means every table that this one does")
    return found


def pattern_flows(plan: RoutingPlan) -> list[Flow]:
    """The flows as the file says them: each rule, then what the targets take of all other tables."""
    everywhere = tuple(source.name for source in plan.sources)
    routed = tuple(dict.fromkeys(pattern for route in plan.routes for pattern in route.tables))
    rest = any(pattern == "*" for pattern in routed)
    flows = [
        Flow(
            route.sources or everywhere,
            route.tables,
            route.exclude,
            route.target,
            None,
            _rows_text(plan, route),
            _order_text(plan, route.target),
            _rules_text(plan, route.target),
            _transforms_text(plan, route.target),
        )
        for route in _merged(plan.routes)
    ]
    if not rest:
        flows += [
            Flow(
                everywhere,
                target.tables,
                (*target.exclude, *routed),
                target.name,
                None,
                None,
                _order_text(plan, target.name),
                _rules_text(plan, target.name),
                _transforms_text(plan, target.name),
            )
            for target in plan.targets
        ]
    return flows


def _rows_text(plan: RoutingPlan, route: RoutePlan) -> tuple[str, ...] | None:
    if route.share is not None:
        return (plan.placement(route.share.placement).describe(route.share.place),)
    return None if route.condition is None else (route.condition,)


def _transforms_text(plan: RoutingPlan, target: str) -> tuple[str, ...]:
    """The target's transforms, each with the tables that it is for."""
    return tuple(
        f"{', '.join(rule.tables)}{_new_name(rule)}: {'; '.join(rule.describe()) or 'all columns as they are'}"
        for rule in plan.target(target).transforms
    )


def _new_name(rule: TransformPlan) -> str:
    if rule.database is None and rule.table is None:
        return ""
    return f" → {rule.database or '{database}'}.{rule.table or '{table}'}"


def _merged(routes: Iterable[RoutePlan]) -> list[RoutePlan]:
    """Each rule once."""
    return list(dict.fromkeys(routes))


def _order_text(plan: RoutingPlan, target: str) -> str:
    asked = dict(plan.target(target).order_by)
    if asked:
        order = ", ".join(
            lane if pattern == "*" else f"{pattern}: {lane}" for pattern, lane in asked.items()
        )
    elif plan.lane_needed(target, "") == LANE_JOB:
        why = ", for scope job" if plan.merge_at(target) is None else ""
        if plan.target(target).consistency == STRONG:
            why = ", for consistency strong"
        order = f"all tables in one order{why}"
    elif plan.lane_needed(target, ""):
        order = "each table in one order"
    else:
        order = "by each table's keys"
    return order + _merge_text(plan, target)


def _merge_text(plan: RoutingPlan, target: str) -> str:
    merge = plan.merge_at(target)
    return "" if merge is None else f", sources {merge.strategy}"


def _rules_text(plan: RoutingPlan, target: str) -> str:
    if len(plan.sources) < 2:  # noqa: PLR2004 - a conflict needs two
        return "none: one source"
    rules = [
        f"{', '.join(rule.tables)}: {_resolution_text(rule.resolution)}"
        for rule in plan.rules
        if rule.target in (None, target)
    ]
    return "; ".join([*rules, _resolution_text(plan.default_resolution)])


def _resolution_text(resolution: Resolution | None) -> str:
    if resolution is None:
        return "none: one source"
    ranked = " > ".join(sorted(resolution.ranks, key=lambda name: resolution.ranks[name]))
    column = f" by {resolution.timestamp_column}" if resolution.timestamp_column else ""
    stops = "" if resolution.stops == "key" else f", stops the {resolution.stops}"
    return f"{resolution.strategy}{column} ({ranked}{stops})"


def _chart(flows: Sequence[Flow]) -> Table:
    shaped = any(flow.columns for flow in flows)
    heads = ["from", "tables", "target", "rows", "order", "conflicts"]
    table = Table(*heads, *(["columns"] if shaped else []), show_lines=False)
    for flow in flows:
        tables = ", ".join(flow.tables)
        if flow.exclude:
            tables += f" without {', '.join(flow.exclude)}"
        if flow.target_table and flow.target_table != tables:
            tables += f" → {flow.target_table}"
        rows = "all" if flow.conditions is None else " or ".join(flow.conditions)
        cells = [", ".join(flow.sources), tables, flow.target, rows, flow.order, flow.conflicts]
        if shaped:
            cells.append("\n".join(flow.columns) or "as they are")
        table.add_row(*(cell.replace("[", r"\[") for cell in cells))
    return table
