"""One row's history on trial: what a rule makes of it, by the very functions that the resolver runs. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import ValidationError

from gravity.batch import DELETE, INSERT, READ, UPDATE, Column, Value
from gravity.config.conflict import ConflictRule
from gravity.errors import GravityError
from gravity.plan_compiler import resolution_of
from gravity.plan_part import Resolution
from gravity.position import Position
from gravity.resolution.conflict import conflict_kind
from gravity.resolution.register import (
    OPERATOR,
    Change,
    Decision,
    Floor,
    Register,
    Row,
    Shape,
    changed_columns,
    opinions_of,
    register,
)
from gravity.resolution.strategy import Hold, Verdict, resolve

_KEYS_BY_OP: Final[Mapping[str, frozenset[str]]] = {
    "upsert": frozenset(("source", "op", "pos", "time", "row", "changed")),
    "delete": frozenset(("source", "op", "pos", "time")),
    "read": frozenset(("source", "op", "pos", "row")),
    "truncate": frozenset(("source", "op", "pos", "time")),
    "decide": frozenset(("op", "keep", "row", "cover", "seq")),
}
_OPTIONAL: Final = frozenset(("changed", "keep", "row", "cover", "seq"))
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d{1,6})?")
_DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?")


class HistoryError(GravityError):
    """A history that can't be tried: `where` is the place in the document."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of it."""

    result: dict[str, Any]
    """`outcome`, `row`, `winner`, `conflicts`, `opinions`: as docs/conflicts.md says."""
    remarks: tuple[str, ...] = ()
    """What may be a mistake in the document."""


@dataclass(slots=True)
class _Event:
    """An event of the document, checked."""

    place: str
    op: str
    source: str = ""
    pos: int = 0
    time: int = 0
    row: dict[str, Any] | None = None
    changed: frozenset[str] | None = None
    record: dict[str, Any] = field(default_factory=dict)


def try_history(document: Any) -> Trial:
    """What the rule of `document` makes of its events, in the form of docs/conflicts.md.

    Raises HistoryError for a document that is not of that form.
    """
    parts = _mapping(document, "the document")
    _only(parts, {"rule", "columns", "events"}, "the document")
    for name in ("rule", "columns", "events"):
        if name not in parts:
            raise HistoryError(f"{name} is missing", where="the document")
    defaults = _mapping(parts["columns"], "columns")
    rule = _rule(parts["rule"], defaults)
    if not isinstance(parts["events"], list):
        raise HistoryError("must be a list of events", where="events")
    events = [_event(record, f"events[{n}]", defaults) for n, record in enumerate(parts["events"])]
    _require_one_content(events)
    history = _History(rule, defaults, events)
    for event in events:
        history.take(event)
    unknown = sorted({e.source for e in events if e.source and e.source not in rule.ranks})
    return Trial(
        history.result(),
        tuple(f"source {name} is not in rule.sources: it has no say" for name in unknown),
    )


# ---------------------------------------------------------------------- reading the document


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise HistoryError("must be a JSON object", where=where)
    return value


def _only(
    record: Mapping[str, Any], known: Iterator[str] | set[str] | frozenset[str], where: str
) -> None:
    allowed = set(known)
    for name in record:
        if name not in allowed:
            raise HistoryError(
                f"unknown key {name!r}",
                where=where,
                remedy=f"known are {', '.join(sorted(allowed))}",
            )


def _rule(value: Any, defaults: Mapping[str, Any]) -> Resolution:
    record = dict(_mapping(value, "rule"))
    window = None
    for name in ("conflict_window", "conflict-window"):
        # A number is of the unit of the events' times.
        if isinstance(record.get(name), int):
            window = record.pop(name)
    try:
        rule = ConflictRule.model_validate(record)
    except ValidationError as error:
        details = error.errors(include_url=False)[0]
        place = ".".join(map(str, ("rule", *details["loc"])))
        blamed = details.get("ctx", {}).get("key")
        raise HistoryError(
            details["msg"].removeprefix("Value error, "),
            where=f"{place}.{blamed}" if blamed else place,
        ) from error
    if not rule.sources:
        raise HistoryError("missing: the sources, best first", where="rule.sources")
    named = [*rule.columns, *(name for group in rule.groups for name in group)]
    if rule.timestamp_source != "commit":
        named.append(rule.timestamp_source.partition(":")[2])
    for name in named:
        if name not in defaults:
            raise HistoryError(f"column {name!r} is not in columns", where="rule")
    ranks = {source: rank for rank, source in enumerate(rule.sources, 1)}
    resolution = resolution_of(rule, ranks)
    if window is None:
        return resolution
    if rule.strategy != "error-stop":
        raise HistoryError("only used by strategy error-stop", where="rule.conflict_window")
    return replace(resolution, conflict_window_us=window)


def _event(value: Any, place: str, defaults: Mapping[str, Any]) -> _Event:
    record = _mapping(value, place)
    op = record.get("op")
    if not isinstance(op, str) or op not in _KEYS_BY_OP:
        raise HistoryError(
            "op is missing" if op is None else f"unknown op {op!r}", where=place,
            remedy=f"op is one of {', '.join(_KEYS_BY_OP)}",
        )  # fmt: skip
    known = _KEYS_BY_OP[op] | ({"time"} if op == "read" else set())
    _only(record, known, f"{place} ({op})")
    required = _KEYS_BY_OP[op] - (_OPTIONAL - ({"row"} if op != "decide" else set()))
    for name in sorted(required):
        if name not in record:
            raise HistoryError(f"{name} is missing", where=f"{place} ({op})")
    event = _Event(place, op, record=record)
    if op != "decide":
        event.source = record["source"]
        if not isinstance(event.source, str):
            raise HistoryError("source must be a name", where=place)
        event.pos = _whole(record["pos"], f"{place}.pos")
        if op != "read":
            event.time = _whole(record["time"], f"{place}.time")
    if record.get("row") is not None:
        event.row = _mapping(record["row"], f"{place}.row")
        for name in event.row:
            if name not in defaults:
                raise HistoryError(f"column {name!r} is not in columns", where=f"{place}.row")
    elif op in ("upsert", "read"):
        raise HistoryError("must be a JSON object", where=f"{place}.row")
    if "changed" in record:
        event.changed = _changed(record["changed"], event)
    return event


def _whole(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise HistoryError("must be a whole number", where=where)
    return value


def _changed(value: Any, event: _Event) -> frozenset[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise HistoryError("must be a list of column names", where=f"{event.place}.changed")
    for name in value:
        if event.row is None or name not in event.row:
            raise HistoryError(
                f"column {name!r} is not in the event's row", where=f"{event.place}.changed"
            )
    return frozenset(value)


def _require_one_content(events: Sequence[_Event]) -> None:
    """A position names one event: told again, it must say the same."""
    known: dict[tuple[str, int], _Event] = {}
    for event in events:
        if event.op == "decide":
            continue
        first = known.setdefault((event.source, event.pos), event)
        if first.record != event.record:
            raise HistoryError(
                f"source {event.source} says something else at pos {event.pos} than in {first.place}",
                where=event.place,
            )


# ---------------------------------------------------------------------- columns and cells


def _type_of(values: Sequence[Any]) -> str:
    """The column type that such values would have in a source's table."""
    if any(isinstance(value, (list, dict)) for value in values):
        return "json"
    if any(isinstance(value, float) for value in values):
        return "double"
    if not any(isinstance(value, str) for value in values):
        return "bigint"
    texts = [value for value in values if isinstance(value, str)]
    if all(_MOMENT.fullmatch(text) for text in texts):
        return "datetime(6)"
    if any("." in text for text in texts) and all(_DECIMAL.fullmatch(text) for text in texts):
        return "decimal(65,30)"
    return "longtext"


# ---------------------------------------------------------------------- running it


class _History:
    """The state of the row while its events are taken in, as the resolver keeps it."""

    def __init__(
        self, rule: Resolution, defaults: Mapping[str, Any], events: Sequence[_Event]
    ) -> None:
        self._rule, self._defaults, self._events = rule, defaults, events
        rows = [event.row for event in events if event.row is not None]
        self._columns = {
            name: Column(name, _type_of([default, *(row[name] for row in rows if name in row)]))
            for name, default in defaults.items()
        }
        self._registers: dict[str, Register] = {}
        self._floors: dict[str, Floor] = {}
        self._decision: Decision | None = None
        self._decisions = 0
        self._cover: dict[str, Position] = {}
        self._conflicts: dict[str, None] = {}

    def take(self, event: _Event) -> None:
        """Takes in one event."""
        if event.op == "decide":
            self._decide(event)
            return
        position = _position(event.pos)
        self._cover[event.source] = max(position, self._cover.get(event.source, position))
        if event.op == "truncate":
            floor = Floor(position, self._ets(event))
            known = self._floors.get(event.source)
            if known is None or known.position < position:
                self._floors[event.source] = floor
            return
        change = self._change(event)
        before = dict(self._registers)
        self._registers[event.source] = register(before.get(event.source), change)
        kind = conflict_kind(before, change, self._rule, self._verdict())
        if kind is not None:
            self._conflicts[kind] = None

    def _verdict(self) -> Verdict | None:
        return resolve(self._registers, self._rule, self._decision, self._floors)

    def _change(self, event: _Event) -> Change:
        earlier = self._row_before(event)
        shape, row = self._image(event.row or {})
        op = {"read": READ, "delete": DELETE}.get(event.op, UPDATE if earlier else INSERT)
        changed = event.changed
        if changed is None:
            changed = changed_columns(
                earlier, op, row, shape, null_is_unset=self._rule.null_is_unset
            )
        return Change(
            event.source, _position(event.pos), op, self._ets(event), row, shape,
            changed if self._rule.strategy == "merge" else None,
        )  # fmt: skip

    def _row_before(self, event: _Event) -> Register | None:
        """The source's row before the event, by position; None where it had none."""
        earlier = [
            other
            for other in self._events
            if other.source == event.source and other.op != "decide" and other.pos < event.pos
        ]
        newest = max(earlier, key=lambda other: other.pos, default=None)
        if newest is None or newest.row is None:
            return None
        shape, row = self._image(newest.row)
        return Register(_position(newest.pos), UPDATE, 0, row, shape)

    def _ets(self, event: _Event) -> int:
        """The latest commit time at the source up to the event: a clock may have gone back."""
        return max(
            (
                other.time
                for other in self._events
                if other.source == event.source
                and other.op in ("upsert", "delete", "truncate")
                and other.pos <= event.pos
            ),
            default=0,
        )

    def _decide(self, event: _Event) -> None:
        record = event.record
        if ("keep" in record) == ("row" in record):
            raise HistoryError(
                "needs either keep (a source) or row (an object, or null for no row)",
                where=f"{event.place} (decide)",
            )
        cover = dict(self._cover)
        if "cover" in record:
            given = _mapping(record["cover"], f"{event.place}.cover")
            cover = {
                source: _position(_whole(pos, f"{event.place}.cover.{source}"))
                for source, pos in given.items()
            }
        row, keep = event.row, OPERATOR
        if "keep" in record:
            keep = record["keep"]
            row = self._kept_row(keep, cover, event.place)
        self._decisions += 1
        seq = _whole(record.get("seq", self._decisions), f"{event.place}.seq")
        if self._decision is None or self._decision.seq < seq:
            shape, cells = self._image(row or {})
            self._decision = Decision(
                seq, cover, None if row is None else cells, shape.columns, keep
            )

    def _kept_row(
        self, keep: Any, cover: Mapping[str, Position], place: str
    ) -> dict[str, Any] | None:
        seen = [
            other
            for other in self._events
            if other.source == keep
            and other.op != "decide"
            and keep in cover
            and _position(other.pos) <= cover[keep]
        ]
        if not isinstance(keep, str) or not seen:
            raise HistoryError(
                f"source {keep!r} has said nothing that the decision covers", where=f"{place}.keep"
            )
        return max(seen, key=lambda other: other.pos).row

    # -- cells

    def _cell(self, name: str, value: Any) -> Value:
        if value is not None and self._columns[name].type == "json":
            return json.dumps(value, ensure_ascii=False)
        cell: Value = value
        return cell

    def _image(self, row: Mapping[str, Any]) -> tuple[Shape, Row]:
        names = [name for name in self._defaults if name in row]
        shape = Shape(",".join(names), tuple(self._columns[name] for name in names))
        return shape, tuple(self._cell(name, row[name]) for name in names)

    def _plain(self, row: Row, columns: Sequence[Column]) -> dict[str, Any]:
        return {
            column.name: json.loads(cell)
            if column.type == "json" and isinstance(cell, str)
            else cell
            for column, cell in zip(columns, row, strict=True)
        }

    # -- the result

    def result(self) -> dict[str, Any]:
        """What the events came to."""
        verdict = self._verdict()
        outcome, row, winner = "delete", None, None
        if isinstance(verdict, Hold):
            outcome = "hold"
        elif verdict is not None:
            winner = verdict.winner
            if verdict.row is not None:
                outcome = "row"
                known = self._plain(verdict.row, verdict.columns)
                row = {
                    name: default if name in verdict.lacking else known.get(name, default)
                    for name, default in self._defaults.items()
                }
        return {
            "outcome": outcome,
            "row": row,
            "winner": winner,
            "conflicts": list(self._conflicts),
            "opinions": list(self._opinions()),
        }

    def _opinions(self) -> Iterator[dict[str, Any]]:
        for opinion in opinions_of(self._registers, self._rule.ranks, self._decision, self._floors):
            reg = opinion.register
            record: dict[str, Any] = {
                "source": opinion.source,
                "row": None if reg.row is None else self._plain(reg.row, reg.shape.columns),
                "time": reg.ets,
            }
            if opinion.decided:
                record["covers"] = sorted(opinion.speaks_for)
            else:
                record["pos"] = reg.position.offset
            yield record


def _position(pos: int) -> Position:
    return Position(1, 1, pos)
