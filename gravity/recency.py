"""Whether a target surely has what a source committed: the sinks' published frontiers against GTIDs. Pure.

A frontier says of one partition of a target that everything of a source before a place is in it. Markers
make it, and the collector puts them into one ordered log, so the frontiers of a source at a target differ
only in how far they are, and the least of them speaks for the whole target.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Self

from gravity.errors import FatalError
from gravity.gtid import Flavor, GtidSet, parse_gtids
from gravity.position import Position

_FORMS: Final[Mapping[Flavor, re.Pattern[str]]] = {
    "mariadb": re.compile(r"\d+-\d+-\d+"),
    "mysql": re.compile(
        r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}(?::[a-z_][a-z0-9_]*|:[1-9]\d*(?:-[1-9]\d*)?)*:[1-9]\d*(?:-[1-9]\d*)?"
    ),
}
_SERVER: Final[Mapping[Flavor, str]] = {"mysql": "MySQL", "mariadb": "MariaDB"}
_TOLD_MAX: Final = 200
"""Characters of a GTID set that a message shows."""


class QuestionError(FatalError):
    """A question that can never be answered: it names what is not there, or is no GTID set."""


@dataclass(frozen=True, slots=True)
class Transactions:
    """Transactions of one source that a target is to have; none at all are always there."""

    text: str
    """As they were asked for, without blanks."""
    flavor: Flavor | None
    """The kind of server that writes GTIDs so; None when there are none."""
    _sets: tuple[GtidSet, ...] = ()
    _names: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads GTIDs as MySQL (`uuid:1-5:7`) or MariaDB (`0-1-5,1-1-3`) prints them.

        Raises QuestionError for anything else.
        """
        plain = re.sub(r"\s", "", text).lower().strip(",")
        items = [item for item in plain.split(",") if item]
        flavor = flavor_of(plain)
        wrong = [item for item in items if flavor is None or not _FORMS[flavor].fullmatch(item)]
        if wrong:
            raise QuestionError(
                f"{wrong[0][:_TOLD_MAX]!r} is no GTID",
                remedy="MySQL's look like 3e11fa47-71ca-11e1-9e33-c80aa9429562:23, MariaDB's like 0-1-23",
            )
        # One by one: a list of MariaDB's GTIDs that names a domain twice must not forget the greater.
        sets = () if flavor is None else tuple(parse_gtids(flavor, item) for item in items)
        return cls(",".join(items), flavor, sets, frozenset(map(str, sets)))

    def are_in(self, executed: GtidSet) -> bool:
        """Whether all of them are in a set of the same flavor."""
        return all(executed.contains_all(wanted) for wanted in self._sets)

    def are_begun_in(self, executed: GtidSet) -> bool:
        """Whether one of them at least is in a set of the same flavor."""
        return any(executed.contains_any(wanted) for wanted in self._sets)

    def name(self, gtid: str) -> bool:
        """Whether the transaction is one of them. MariaDB's `0-1-23` names that one, not those before it."""
        if self.flavor != "mysql":
            return gtid in self._names
        return any(wanted.contains(gtid) for wanted in self._sets)


def flavor_of(gtids: str) -> Flavor | None:
    """The kind of server that prints GTIDs in the form of the first one; None for none and for nonsense."""
    first = gtids.partition(",")[0].strip().lower()
    return next((flavor for flavor, form in _FORMS.items() if form.fullmatch(first)), None)


@functools.lru_cache(maxsize=256)
def _executed(flavor: Flavor, gtids: str) -> GtidSet:
    # Every waiting question asks the same few sets, which may be long.
    return parse_gtids(flavor, gtids)


@dataclass(frozen=True, slots=True)
class Frontier:
    """How far a source has been applied in a partition, or in a whole target."""

    position: Position
    gtids: str
    """The transactions before `position`, as the server prints them."""
    time_us: int
    """When the collector wrote the marker that says so, microseconds by its own clock."""

    @classmethod
    def of(cls, point: Mapping[str, Any]) -> Self:
        """The frontier of a progress record."""
        return cls(Position.parse(point["position"]), point["gtids"], point["time_us"])

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "position": str(self.position)}


Points = Mapping[str, Frontier]
"""Source to its frontier in one partition."""


@dataclass(frozen=True, slots=True)
class Look:
    """Whether a target has the transactions, as far as its records tell."""

    frontier: Frontier | None
    """The least of the target's partitions; None while one of them has none."""
    lacks: str
    """What is not there yet, in words; empty when everything is."""
    holds: int
    """Rows of the target, of any source, that wait for an operator or for the sources to agree."""
    parked: int = 0
    """Rows of any source that wait at the target, because its constraints refuse them for now."""

    @property
    def is_there(self) -> bool:
        """Whether the target surely has them."""
        return not self.lacks


@dataclass(slots=True)
class Frontiers:
    """What the records of the progress topic say; each key's records come in the order of the topic."""

    partitions: int
    """Of every target."""
    _points: dict[tuple[str, int], Points] = field(default_factory=dict)
    _holds: dict[tuple[str, int], int] = field(default_factory=dict)
    _parked: dict[tuple[str, int], int] = field(default_factory=dict)
    _gtids: dict[str, str] = field(default_factory=dict)
    """What the collector has read."""
    _copied_us: dict[str, int] = field(default_factory=dict)
    """Since when all existing rows are in the log, by the collector's clock; no key while it is copying."""
    _copying: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, record: Mapping[str, Any]) -> None:
        """Takes a record in. Keys of other kinds are left alone."""
        match key.split("/"):
            case ["collector", source]:
                self._add_collector(source, record)
            case ["sink", target, number]:
                points = record.get("frontier", {})
                self._points[target, int(number)] = {
                    name: Frontier.of(point) for name, point in points.items()
                }
                self._parked[target, int(number)] = int(record.get("parked", 0))
            case ["resolver", target, number]:
                self._holds[target, int(number)] = int(record.get("holds", 0))
            case _:
                pass

    def _add_collector(self, source: str, record: Mapping[str, Any]) -> None:
        copy = record.get("snapshot", {})
        done, total = int(copy.get("done", 0)), int(copy.get("total", 0))
        self._gtids[source] = record.get("gtids", "")
        if done < total:
            self._copied_us.pop(source, None)
            self._copying[source] = f"{done} of {total} tables are done"
        elif "ended_us" in copy:
            self._copied_us[source] = int(copy["ended_us"])
        else:  # Of a collector that does not tell when the copy ended.
            self._copied_us.setdefault(source, int(record.get("at_us", 0)))

    def check(self, source: str, wanted: Transactions) -> None:
        """Raises QuestionError when the source's server writes GTIDs of the other kind."""
        known = [self._gtids.get(source, "")]
        known += [p[source].gtids for p in self._points.values() if source in p]
        for flavor in (flavor for text in known if (flavor := flavor_of(text)) is not None):
            if wanted.flavor is not None and wanted.flavor != flavor:
                raise QuestionError(
                    f"{wanted.text[:_TOLD_MAX]} is a GTID of {_SERVER[wanted.flavor]}, "
                    f"but the source is {_SERVER[flavor]}",
                    where=f"source {source}",
                    remedy="take the GTID from the source that was written to",
                )

    def look(
        self, source: str, target: str, wanted: Transactions, *, processed: bool = False
    ) -> Look:
        """Whether every partition of `target` has passed what is wanted of `source`.

        `processed` takes rows on hold and parked ones for passed; else nothing is there while the target has any.
        """
        lanes = [(target, number) for number in range(self.partitions)]
        holds = sum(self._holds.get(lane, 0) for lane in lanes)
        parked = sum(self._parked.get(lane, 0) for lane in lanes)
        points = [p for lane in lanes if (p := self._points.get(lane, {}).get(source))]
        if len(points) < len(lanes):
            told = f"{len(points)} of {len(lanes)} partitions of {target} have passed a marker of {source}"
            return Look(
                None,
                f"{told}: does it run, and is a table of {source} routed there?",
                holds,
                parked,
            )
        least = min(points, key=lambda point: point.position)
        lacks = self._lacks(source, points, wanted)
        if not lacks and holds and not processed:
            # The records tell how many, not whose: any of them may be a row of these transactions.
            lacks = f"rows of {target} are on hold, {holds} in all: see `gravity conflicts list`"
        if not lacks and parked and not processed:
            lacks = (
                f"rows of {target} are parked, {parked} in all: see docs/conflicts.md, Constraints"
            )
        return Look(least, lacks, holds, parked)

    def least(self, source: str, targets: Collection[str]) -> Frontier | None:
        """How far every one of `targets` is with `source`, rows on hold or parked passed; None while one is not known."""
        lanes = [(target, number) for target in targets for number in range(self.partitions)]
        points = [p for lane in lanes if (p := self._points.get(lane, {}).get(source))]
        if len(points) < len(lanes):
            return None
        return min(points, key=lambda point: point.position, default=None)

    def _lacks(self, source: str, points: list[Frontier], wanted: Transactions) -> str:
        least = min(points, key=lambda point: point.position)
        flavor = flavor_of(least.gtids)
        if wanted.flavor is not None and (
            wanted.flavor != flavor or not wanted.are_in(_executed(flavor, least.gtids))
        ):
            return f"the target has {source} up to {least.gtids[:_TOLD_MAX] or 'no transaction'}"
        copied_us = self._copied_us.get(source)
        if copied_us is None:
            return f"existing rows are being copied: {self._copying.get(source, 'nothing is told of it')}"
        # The copy's last rows stand before the first marker that was written after the copy ended.
        if any(point.time_us < copied_us for point in points):
            return "the last of the copied rows may be under way"
        return ""
