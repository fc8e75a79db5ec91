"""What several sources' histories of one row come to, worked out from the text of the rules alone.

Everything is looked up in the whole list of events each time; nothing is remembered, nothing is fast.
Events are dictionaries: source, op (U upsert, D delete, R snapshot read, T truncate), pos, ets, row
(a dictionary; None for D and T). Rows are compared as they are, so use values with one spelling.
A rule is a dictionary: strategy, sources (best first), on_delete, timestamp_column, columns, groups,
null_is_unset, window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Event = dict[str, Any]
Entry = dict[str, Any]


def outcome(
    rule: dict[str, Any], events: Sequence[Event], decisions: Sequence[Event] = ()
) -> tuple[str, Any]:
    """("row", row), ("delete", None), ("hold", None), or ("nothing", None) when nobody has spoken.

    A decision is a dictionary: seq, cover (source to pos), row (None = no row).
    """
    entries = entries_of(rule, events)
    if decisions:
        entries = decided(entries, max(decisions, key=lambda decision: decision["seq"]))
    if not entries:
        return ("nothing", None)
    row = {
        "source-priority": by_priority,
        "timestamp-latest": by_time,
        "merge": by_column,
        "error-stop": by_consent,
    }[rule["strategy"]](rule, entries)
    if row == "hold":
        return ("hold", None)
    if row is None:
        return ("delete", None)
    # Columns that only somebody knows whose row does not count are NULL.
    names = {name for entry in entries for name in entry["names"]}
    return ("row", {name: row.get(name) for name in sorted(names | set(row))})


def entries_of(rule: dict[str, Any], events: Sequence[Event]) -> list[Entry]:
    """One entry per source that takes part and has spoken."""
    found = []
    for rank, source in enumerate(rule["sources"]):
        told = [e for e in events if e["source"] == source and e["op"] in "UDR"]
        if not told:
            continue
        newest = max(told, key=lambda e: e["pos"])
        real = [e for e in told if e["op"] in "UD"]
        cts: dict[str, int] = {}
        for event in real:
            for name in changed(rule, event, events):
                cts[name] = max(cts.get(name, 0), event["ets"])
        entry = {
            "rank": rank,
            "pos": newest["pos"],
            "ets": max((e["ets"] for e in real), default=0),
            "row": newest["row"],
            "names": tuple(newest["columns"]),
            "cts": cts,
            "sources": {source},
        }
        floors = [e for e in events if e["source"] == source and e["op"] == "T"]
        if floors:
            floor = max(floors, key=lambda e: e["pos"])
            if entry["pos"] < floor["pos"]:
                entry.update(row=None, ets=floor["ets"], pos=floor["pos"])
        found.append(entry)
    return found


def changed(rule: dict[str, Any], event: Event, events: Sequence[Event]) -> set[str]:
    """The columns whose values the event changed at its source."""
    if event["op"] != "U":
        return set()
    older = [e for e in events if e["source"] == event["source"] and e["pos"] < event["pos"]]
    was = max(older, key=lambda e: e["pos"])["row"] if older else None
    if was is None:
        unset = rule.get("null_is_unset", True)
        return {name for name, value in event["row"].items() if not (value is None and unset)}
    return {name for name, value in event["row"].items() if name not in was or was[name] != value}


def decided(entries: list[Entry], decision: Event) -> list[Entry]:
    """With one entry in place of all that the operator saw."""
    cover = decision["cover"]
    seen = [
        e for e in entries if min(e["sources"]) in cover and e["pos"] <= cover[min(e["sources"])]
    ]
    if not seen:
        return entries
    row = decision["row"]
    best = min(seen, key=lambda e: e["rank"])
    ets = max(e["ets"] for e in seen)
    names = {name for e in entries for name in e["names"]}
    one = {
        "rank": best["rank"],
        "ets": ets,
        "row": row,
        "names": tuple(sorted(names | set(row or ()))),
        "cts": dict.fromkeys(names, ets),
        "sources": set().union(*(e["sources"] for e in seen)),
    }
    return [one, *(e for e in entries if e not in seen)]


def age(entry: Entry) -> tuple[int, int]:
    return (entry["ets"], -entry["rank"])


def filled(order: Sequence[Entry]) -> dict[str, Any]:
    """The first one's row; what it lacks from the next ones."""
    row: dict[str, Any] = {}
    for entry in reversed(order):
        row.update(entry["row"])
    return row


def by_priority(rule: dict[str, Any], entries: list[Entry]) -> Any:
    how = rule.get("on_delete", "incarnation")

    def shadowed(live: Entry) -> bool:
        better = [d for d in entries if d["row"] is None and d["rank"] <= live["rank"]]
        if how == "incarnation":
            better = [dead for dead in better if dead["ets"] >= live["ets"]]
        return bool(better) and how != "fallthrough"

    standing = [e for e in entries if e["row"] is not None and not shadowed(e)]
    standing.sort(key=lambda e: e["rank"])
    return filled(standing) if standing else None


def by_time(rule: dict[str, Any], entries: list[Entry]) -> Any:
    column = rule.get("timestamp_column")

    def key(entry: Entry) -> tuple[int, int, int]:
        if column is None or entry["row"] is None:
            return (1, entry["ets"], -entry["rank"])
        value = entry["row"].get(column)
        return (0, 0, -entry["rank"]) if value is None else (1, value, -entry["rank"])

    dead = [key(e) for e in entries if e["row"] is None]
    standing = [e for e in entries if e["row"] is not None and all(key(e) > d for d in dead)]
    standing.sort(key=key, reverse=True)
    return filled(standing) if standing else None


def by_column(rule: dict[str, Any], entries: list[Entry]) -> Any:
    dead = [age(e) for e in entries if e["row"] is None]
    candidates = [e for e in entries if e["row"] is not None and all(age(e) > d for d in dead)]
    if not candidates:
        return None
    row: dict[str, Any] = {}
    for group in rule.get("groups", ()):
        row.update(group_row(rule, group, candidates))
    for name in {name for e in candidates for name in e["row"]} - set(row):
        row[name] = cell(rule, name, candidates)
    return row


def is_set(rule: dict[str, Any], entry: Entry, name: str) -> bool:
    return (
        not rule.get("null_is_unset", True)
        or entry["row"][name] is not None
        or entry["cts"].get(name, 0) > 0
    )


def newest(entries: Iterable[Entry], names: Iterable[str]) -> Entry:
    names = list(names)
    return max(entries, key=lambda e: (max(e["cts"].get(n, 0) for n in names), -e["rank"]))


def cell(rule: dict[str, Any], name: str, candidates: list[Entry]) -> Any:
    having = [e for e in candidates if name in e["row"]]
    having = [e for e in having if is_set(rule, e, name)] or having
    by_rank = sorted(having, key=lambda e: e["rank"])
    values = [e["row"][name] for e in by_rank if e["row"][name] is not None]
    how = rule.get("columns", {}).get(name, "latest")
    if how == "priority":
        return by_rank[0]["row"][name]
    if how.startswith("owner:"):
        owners = [e for e in having if how[6:] in e["sources"]]
        return (owners[0] if owners else newest(having, [name]))["row"][name]
    if how in ("sum", "max", "min"):
        return {"sum": sum, "max": max, "min": min}[how](values) if values else None
    if how == "coalesce":
        return values[0] if values else None
    return newest(having, [name])["row"][name]


def group_row(
    rule: dict[str, Any], group: Sequence[str], candidates: list[Entry]
) -> dict[str, Any]:
    whole = [e for e in candidates if all(name in e["row"] for name in group)]
    whole = [e for e in whole if any(is_set(rule, e, name) for name in group)] or whole
    if not whole:
        return {}
    rules = [rule.get("columns", {}).get(name) for name in group]
    how = next((one for one in rules if one), "latest")
    chosen = newest(whole, group)
    if how == "priority":
        chosen = min(whole, key=lambda e: e["rank"])
    elif how.startswith("owner:"):
        chosen = next((e for e in whole if how[6:] in e["sources"]), chosen)
    return {name: chosen["row"][name] for name in group}


def by_consent(rule: dict[str, Any], entries: list[Entry]) -> Any:
    by_rank = sorted(entries, key=lambda e: e["rank"])
    live = [e for e in by_rank if e["row"] is not None]

    def image(entry: Entry) -> Any:
        if entry["row"] is None:
            return None
        return filled([entry, *(other for other in live if other is not entry)])

    window = rule.get("window")
    for one in entries:
        for other in entries:
            near = window is None or abs(one["ets"] - other["ets"]) <= window
            if near and image(one) != image(other):
                return "hold"
    return image(max(entries, key=age))
