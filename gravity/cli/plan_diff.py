"""What a configuration would change of the plan in force: flow by flow, before anything is activated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

if TYPE_CHECKING:
    from gravity.cli.plan import Flow

Kind = Literal["new", "gone", "other"]


@dataclass(frozen=True, slots=True)
class FlowChange:
    """One table's way into one target, under both plans."""

    before: Flow | None
    after: Flow | None

    @property
    def kind(self) -> Kind:
        """Whether the way begins, ends, or is another one."""
        if self.before is None:
            return "new"
        return "gone" if self.after is None else "other"

    @property
    def moves_rows(self) -> bool:
        """Whether rows that the target has already would not go there any more, or others would."""
        return self.before is not None and (
            self.after is None or self.before.conditions != self.after.conditions
        )

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"kind": self.kind, "moves_rows": self.moves_rows, **asdict(self)}


def flow_changes(before: Sequence[Flow], after: Sequence[Flow]) -> list[FlowChange]:
    """The ways that differ, in the order of the new plan, those that end last."""
    old = {_way(flow): flow for flow in before}
    new = {_way(flow): flow for flow in after}
    changes = [FlowChange(old.get(way), flow) for way, flow in new.items() if old.get(way) != flow]
    return changes + [FlowChange(flow, None) for way, flow in old.items() if way not in new]


def _way(flow: Flow) -> tuple[object, ...]:
    return flow.sources, flow.tables, flow.target


def chart(changes: Sequence[FlowChange]) -> Table:
    """The changes as a table; where something differs, both are shown."""
    shaped = any(flow.columns for c in changes for flow in (c.before, c.after) if flow is not None)
    more = ["columns"] if shaped else []
    table = Table("", "from", "table", "target", "rows", "order", "conflicts", *more)
    for change in changes:
        flow = change.after or change.before
        assert flow is not None
        names = ", ".join(flow.tables)
        cells = [
            names if flow.target_table == names else f"{names} → {_both(change, 'target_table')}",
            flow.target,
            *(_both(change, name) for name in ("conditions", "order", "conflicts", *more)),
        ]
        colour = {"new": "green", "gone": "red", "other": "yellow"}[change.kind]
        plain = (cell.replace("[", r"\[") for cell in (", ".join(flow.sources), *cells))
        table.add_row(f"[{colour}]{change.kind}[/]", *plain)
    return table


def _both(change: FlowChange, name: str) -> str:
    texts = [
        _columns_text(flow.columns) if name == "columns" else _text(getattr(flow, name))
        for flow in (change.before, change.after)
        if flow is not None
    ]
    return " ⇒ ".join(dict.fromkeys(texts))


def _columns_text(columns: tuple[str, ...]) -> str:
    return "; ".join(columns) or "as they are"


def _text(value: str | tuple[str, ...] | None) -> str:
    if value is None:
        return "all"
    return value if isinstance(value, str) else " or ".join(value)
