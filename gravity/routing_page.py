"""The tables of docs/routing.md that are computed: `python -m gravity.routing_page docs/routing.md`.

Each stands between `<!-- generated: NAME -->` and `<!-- end -->`; `make docs` writes them anew.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gravity.condition.signature import (
    ALIASES,
    CHOICE_FUNCTIONS,
    DATE_FUNCTIONS,
    NUMBER_FUNCTIONS,
    TEXT_FUNCTIONS,
    UNITS,
)
from gravity.placement import BUCKETS, rendezvous, residues_of, round_robin, smooth_cycle

_BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TARGETS_MAX = 6


def _table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    lines = [list(map(str, head))]
    lines.append(["---"] * len(lines[0]))
    lines += [list(map(str, row)) for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _functions() -> str:
    groups = {
        "Text": [*TEXT_FUNCTIONS, "TRIM", "POSITION"],
        "Numbers": list(NUMBER_FUNCTIONS),
        "Dates": [*DATE_FUNCTIONS, "DATE_ADD", "DATE_SUB", "EXTRACT"],
        "Choice": [*CHOICE_FUNCTIONS, "IF", "CASE", "ISNULL"],
        "JSON": ["JSON_EXTRACT", "JSON_UNQUOTE"],
    }
    rows = [(name, " ".join(f"`{f}`" for f in found)) for name, found in groups.items()]
    rows.append(("Other names", ", ".join(f"`{a}` = `{name}`" for a, name in ALIASES.items())))
    rows.append(("Units of INTERVAL", " ".join(f"`{unit}`" for unit in UNITS)))
    return _table(("", "functions"), rows)


def _residues() -> str:
    values: list[int] = [0, 1, 2, 3, 4, 7, -1, -4, -5]
    return _table(("user_id", *values), [("user_id % 4", *residues_of([values], 4))])


def _growth() -> str:
    rows = []
    for count in range(1, _TARGETS_MAX):
        names = [f"shard-{n}" for n in range(1, count + 2)]
        before = rendezvous(dict.fromkeys(names[:-1], 1))
        after = rendezvous(dict.fromkeys(names, 1))
        moved = sum(old != new for old, new in zip(before, after, strict=True))
        rows.append(
            (
                f"{count} to {count + 1}",
                moved,
                f"{100 * moved / BUCKETS:.1f} %",
                f"{100 / (count + 1):.1f} %",
            )
        )
    return _table(("targets", "buckets that move", "of all", "the new one's share"), rows)


def _weights() -> str:
    rows = []
    for weights in ({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 1}, {"a": 3, "b": 1, "c": 1}):
        turns = " ".join(smooth_cycle(weights, sum(weights.values())))
        in_turn, hashed = Counter(round_robin(weights)), Counter(rendezvous(weights))
        rows.append(
            (
                ", ".join(f"{name}: {weight}" for name, weight in weights.items()),
                turns,
                ", ".join(f"{name} {in_turn[name]}" for name in weights),
                ", ".join(f"{name} {hashed[name]}" for name in weights),
            )
        )
    return _table(("weights", "turns", "buckets, round-robin", "buckets, consistent-hash"), rows)


BLOCKS: Mapping[str, Callable[[], str]] = {
    "functions": _functions,
    "residues": _residues,
    "growth": _growth,
    "weights": _weights,
}


def render(page: str) -> str:
    """`page` with every generated table as it is now. Raises KeyError for a table of unknown name."""
    return _BLOCK.sub(lambda match: f"{match[1]}{BLOCKS[match[2]]()}{match[3]}", page)


def main(arguments: list[str]) -> int:
    """Writes the tables into the page given. Returns the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m gravity.routing_page PAGE\n")
        return 2
    path = Path(arguments[0])
    path.write_text(render(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
