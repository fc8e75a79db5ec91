"""The table of conflicts that any resolver must get right, every row in every order, with repeats.

A row's events are written `A1@10 v=a`: source A, its first change, committed at 10. `del` in place of
the values is a delete, `read` before them a snapshot's read, `truncate` a TRUNCATE. They run through
`gravity.trial`, so through the functions that `gravity resolve` and the resolver run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from gravity.trial import try_history
from tests.prove.report import Report

L = {"strategy": "timestamp-latest"}
P = {"strategy": "source-priority"}
M = {"strategy": "merge"}
E = {"strategy": "error-stop"}
ABSOLUTE, FALLTHROUGH = {**P, "on_delete": "absolute"}, {**P, "on_delete": "fallthrough"}
SUM = {**M, "columns": {"x": "sum"}}
GROUP = {**M, "groups": [["x", "y"]]}
GONE, HOLD = "delete", "hold"
COVERED = {"op": "decide", "keep": "B", "cover": {"A": 1, "B": 1}}
_EVENT = re.compile(r"([ABC])(\d+)(?:@(\d+))?(?: (del|read|truncate))?(?: (.+))?")


@dataclass(frozen=True)
class Case:
    """A row of the table."""

    name: str
    rule: Mapping[str, Any]
    events: str
    expected: Any
    """The row's values, or GONE or HOLD."""
    conflicts: Sequence[str] | None = None
    """The kinds met in the order written; None: not looked at."""
    decision: Mapping[str, Any] | None = None


CASES = [
    Case("1 the later one", L, "A1@10 v=a; B1@11 v=b", {"v": "b"}, ["insert_insert"]),
    Case("2 a tie goes to the rank", L, "A1@10 v=a; B1@10 v=b", {"v": "a"}),
    Case("3 a delete that ties", L, "A1@10 v=a; B1@10 del", {"v": "a"}, ["delete_stale"]),
    Case("4 a later delete", L, "A1@10 v=a; B1@12 del", GONE, ["update_delete"]),
    Case("5 a late update", L, "B1@12 del; A1@11 v=a", GONE, ["delete_missing", "update_after_delete"]),
    Case("6 revived", L, "A1@12 del; B1@13 v=b", {"v": "b"}),
    Case("7 an old one again", L, "B1@11 v=b; A1@10 v=a; A2@20 v=a2; B1@11 v=b", {"v": "a2"}),
    Case("8 a clock that went back", L, "A1@20 v=a1; A2@15 v=a2; B1@17 v=b", {"v": "a2"}),
    Case("10 the better source", P, "B1@20 v=b; A1@10 v=a", {"v": "a"}),
    Case("11 its delete hides older rows", P, "A1@30 del; B1@20 v=b", GONE),
    Case("12 but not newer ones", P, "A1@30 del; B1@40 v=b", {"v": "b"}),
    Case("12 absolute: all", ABSOLUTE, "A1@30 del; B1@40 v=b", GONE),
    Case("12 fallthrough: none", FALLTHROUGH, "A1@30 del; B1@20 v=b", {"v": "b"}),
    Case("13 a worse source's delete", P, "A1@10 v=a; B1@50 del", {"v": "a"}, ["delete_stale"]),
    Case("14 inserted again", P, "A1@30 del; B1@40 v=b; A2@50 v=a2", {"v": "a2"}),
    Case("15 only the worst", P, "C1@5 v=c", {"v": "c"}, []),
    Case("17 other columns", M, "A1 read x=0 y=0; B1 read x=0 y=0; A2@10 x=1 y=0; B2@11 x=0 y=2", {"x": 1, "y": 2}),
    Case("18 the same column", M, "A1@10 x=1; B1@11 x=2", {"x": 2}),
    Case("19 no change", M, "A1@5 x=1 y=1; B1@4 x=2 y=2; B2@9 x=2 y=2", {"x": 1, "y": 1}),
    Case("20 older than a delete", M, "A1@12 del; B1 read x=0 y=0; B2@11 x=0 y=2", GONE),
    Case("22 each a half", M, "A1@10 x=1 y=null; B1@11 x=null y=2", {"x": 1, "y": 2}, ["insert_insert"]),
    Case("23 a group", GROUP, "A1 read x=0 y=0; B1 read x=0 y=0; A2@10 x=1 y=0; B2@11 x=0 y=2", {"x": 0, "y": 2}),
    Case("24 a sum", SUM, "A1@10 x=3; B1@11 x=4; A1@10 x=3", {"x": 7}),
    Case("26 they disagree", E, "A1@10 v=1; B1@11 v=2", HOLD),
    Case("26 they agree again", E, "A1@10 v=1; B1@11 v=2; A2@12 v=2", {"v": 2}),
    Case("27 they agree", E, "A1@10 v=1; B1@11 v=1", {"v": 1}, []),
    Case("27 written otherwise", E, 'A1@10 v="1.0"; B1@11 v="1.00"', {"v": "1.0"}, []),
    Case("29 decided", L, "A1@10 v=a; B1@11 v=b; A1@10 v=a", {"v": "b"}, None, COVERED),
    Case("29 decided, held before", E, "A1@10 v=a; B1@11 v=b", {"v": "b"}, None, COVERED),
    Case("29 and changed since", L, "A1@10 v=a; B1@11 v=b; A2@12 v=a2", {"v": "a2"}, None, COVERED),
    Case("30 moved away, used by another", L, "A1@1 v=a; A2@10 del; B1@11 v=b", {"v": "b"}),
    Case("31 swapped in one transaction", L, "A1@5 v=a; A2@10 del; A3@10 v=b", {"v": "b"}),
    Case("32 inserted, deleted, inserted, the delete again", L, "A1@1 v=1; A2@2 del; A3@3 v=3; A2@2 del", {"v": 3}),
    Case("34 a column that one source dropped", L, "A1@10 v=1 z=1; B1@9 v=2 z=5; A2@20 v=3", {"v": 3, "z": 5}),
    Case("37 a snapshot loses", L, "A9 read v=a; B1@5 v=b", {"v": "b"}),
    Case("37 snapshot against snapshot", L, "A9 read v=a; B9 read v=b", {"v": "a"}),
    Case("39 read again after a failover", L, "A1@10 v=a1; A2@20 v=a2; B1@11 v=b; A501@10 v=a1; A502@20 v=a2", {"v": "a2"}),
    Case("40 both deleted", L, "A1@10 del; B1@11 del", GONE, ["delete_missing"]),
    Case("a truncate", L, "B1@11 v=b; A1@10 v=a; B5@20 truncate", GONE),
    Case("a truncate of a worse source", P, "B1@11 v=b; A1@10 v=a; B5@20 truncate", {"v": "a"}),
]  # fmt: skip


def events_of(text: str) -> list[dict[str, Any]]:
    """The events of a row of the table."""
    return [_event(part) for part in text.split("; ")]


def _event(text: str) -> dict[str, Any]:
    match = _EVENT.fullmatch(text)
    assert match is not None, text
    source, pos, time, op, values = match.groups()
    event: dict[str, Any] = {"source": source, "op": "upsert", "pos": int(pos)}
    if op:
        event["op"] = "delete" if op == "del" else op
    if time:
        event["time"] = int(time)
    if values:
        cells = (cell.split("=") for cell in values.split(" "))
        event["row"] = {name: _value(value) for name, value in cells}
    return event


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def document_of(case: Case, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The case with its events in some order, as `gravity resolve` reads it."""
    names = sorted({name for event in events for name in event.get("row", ())})
    decided = [case.decision] if case.decision else []
    return {
        "rule": {**case.rule, "sources": ["A", "B", "C"]},
        "columns": dict.fromkeys(names),
        "events": [*events, *decided],
    }


def orders(events: Sequence[Mapping[str, Any]]) -> Iterator[Sequence[Mapping[str, Any]]]:
    """Every order; in each, everything told again at the end, at once, or one event once more."""
    for order in permutations(events):
        yield order
        yield (*order, *order)
        yield tuple(event for event in order for _ in range(2))
        for event in order:
            yield (*order, event)


def wrong_orders(case: Case) -> tuple[int, list[str]]:
    """How many orders were tried, and what was wrong with which."""
    tried, wrong = 0, []
    events = events_of(case.events)
    for order in orders(events):
        tried += 1
        result = try_history(document_of(case, order)).result
        found = result["row"] if result["outcome"] == "row" else result["outcome"]
        if found != case.expected:
            wrong.append(f"{case.name}: {found} instead of {case.expected}: {order}")
    met = try_history(document_of(case, events)).result["conflicts"]
    if case.conflicts is not None and met != list(case.conflicts):
        wrong.append(f"{case.name}: met {met} instead of {case.conflicts}")
    return tried, wrong


def run(report: Report) -> None:
    """Every row of the table."""
    tried, wrong = 0, []
    for case in CASES:
        orders_tried, found = wrong_orders(case)
        tried += orders_tried
        wrong += found
    report.tally("resolving_table", wrong=wrong, rows=len(CASES), orders=tried)
