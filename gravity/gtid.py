"""Sets of executed transactions, as MySQL and MariaDB write them. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol, Self

from gravity.errors import FormatError

Flavor = Literal["mysql", "mariadb"]
_TAG: Final = re.compile(r"[a-z_][a-z0-9_]{0,31}")


class GtidSet(Protocol):
    """Transactions that are done. GTID sets are only partly ordered: ask what one contains."""

    def add(self, gtid: str) -> None:
        """Takes one more transaction in."""

    def contains(self, gtid: str) -> bool:
        """Whether the transaction is done."""

    def contains_all(self, other: Self) -> bool:
        """Whether every transaction of `other` is done."""

    def contains_any(self, other: Self) -> bool:
        """Whether a transaction of `other` is done."""

    def copy(self) -> Self:
        """A set that grows apart from this one."""

    def __str__(self) -> str:
        """The set as the server prints it."""


def parse_gtids(flavor: Flavor, text: str) -> GtidSet:
    """The set that a server of that flavor prints as `text`. Raises FormatError for anything else."""
    try:
        return MysqlGtids.parse(text) if flavor == "mysql" else MariadbGtids.parse(text)
    except (ValueError, IndexError) as error:
        raise FormatError(f"not a GTID set of {flavor}: {text[:200]!r}") from error


class MariadbGtids:
    """The last transaction of each replication domain; every earlier one of the domain is done too."""

    def __init__(self, last: dict[int, tuple[int, str]]) -> None:
        self._last = last
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `0-1-5,1-1-3`."""
        gtids = cls({})
        for item in filter(None, text.replace("\n", "").split(",")):
            gtids.add(item.strip())
        return gtids

    def add(self, gtid: str) -> None:
        """Takes one more transaction in."""
        domain, _, number = gtid.split("-")
        self._last[int(domain)] = (int(number), gtid)
        self._text = None

    @staticmethod
    def numbers(text: str) -> list[tuple[int, int, int]]:
        """(domain, server, number) of each GTID in a list."""
        items = (
            item.strip().split("-") for item in text.replace("\n", "").split(",") if item.strip()
        )
        return [(int(domain), int(server), int(number)) for domain, server, number in items]

    def contains(self, gtid: str) -> bool:
        """Whether the transaction is done."""
        domain, _, number = gtid.split("-")
        return self._last.get(int(domain), (-1, ""))[0] >= int(number)

    def contains_all(self, other: Self) -> bool:
        """Whether every transaction of `other` is done."""
        return all(self.contains(gtid) for _, gtid in other._last.values())

    def contains_any(self, other: Self) -> bool:
        """Whether the last transaction of a domain of `other` is done."""
        return any(self.contains(gtid) for _, gtid in other._last.values())

    def copy(self) -> Self:
        """A set that grows apart from this one."""
        return type(self)(dict(self._last))

    def __str__(self) -> str:
        if self._text is None:
            self._text = ",".join(gtid for _, (_, gtid) in sorted(self._last.items()))
        return self._text


class MysqlGtids:
    """Intervals of transaction numbers by who made them: a server's UUID, or `uuid:tag`."""

    def __init__(self, intervals: dict[str, list[tuple[int, int]]]) -> None:
        self._intervals = intervals
        self._text: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `uuid:1-5:7,uuid:1-3:tag:1-2`; numbers after a tag are those of `uuid:tag`."""
        gtids = cls({})
        for item in filter(None, text.replace("\n", "").split(",")):
            server, *parts = item.strip().lower().split(":")
            maker = server
            if not parts or not parts[-1].strip()[:1].isdecimal():
                message = f"no numbers of transactions: {item!r}"
                raise ValueError(message)
            for part in map(str.strip, parts):
                first, _, last = part.partition("-")
                if first.isdecimal():
                    gtids._add(maker, int(first), int(last or first))
                elif _TAG.fullmatch(part):
                    maker = f"{server}:{part}"
                else:
                    message = f"neither an interval nor a tag: {part!r}"
                    raise ValueError(message)
        return gtids

    @property
    def intervals(self) -> Mapping[str, Sequence[tuple[int, int]]]:
        """(first, last) of each run of numbers, ascending, by who made them."""
        return self._intervals

    @property
    def has_tags(self) -> bool:
        """Whether any transaction has one."""
        return any(":" in maker for maker in self._intervals)

    def _add(self, server: str, first: int, last: int) -> None:
        intervals = self._intervals.setdefault(server, [])
        self._text = None
        if intervals and intervals[-1][1] + 1 == first:
            intervals[-1] = (intervals[-1][0], last)
            return
        merged: list[tuple[int, int]] = []
        for begin, end in sorted([*intervals, (first, last)]):
            if merged and begin <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
            else:
                merged.append((begin, end))
        self._intervals[server] = merged

    def add(self, gtid: str) -> None:
        """Takes one more transaction in."""
        server, _, number = gtid.rpartition(":")
        self._add(server.lower(), int(number), int(number))

    def contains(self, gtid: str) -> bool:
        """Whether the transaction is done."""
        server, _, number = gtid.rpartition(":")
        return self._covers(server.lower(), int(number), int(number))

    def _covers(self, server: str, first: int, last: int) -> bool:
        intervals = self._intervals.get(server, [])
        index = bisect_right(intervals, first, key=lambda interval: interval[0]) - 1
        return index >= 0 and intervals[index][0] <= first and last <= intervals[index][1]

    def contains_all(self, other: Self) -> bool:
        """Whether every transaction of `other` is done."""
        return all(
            self._covers(server, first, last)
            for server, intervals in other._intervals.items()
            for first, last in intervals
        )

    def contains_any(self, other: Self) -> bool:
        """Whether a transaction of `other` is done."""
        return other.without(self)._intervals != other._intervals

    def without(self, other: Self) -> Self:
        """The transactions that `other` does not have."""
        left = type(self)({})
        for server, intervals in self._intervals.items():
            taken = other._intervals.get(server, [])
            for first, last in intervals:
                begin = first
                for other_first, other_last in taken:
                    if other_last < begin or other_first > last:
                        continue
                    if other_first > begin:
                        left._add(server, begin, other_first - 1)
                    begin = other_last + 1
                if begin <= last:
                    left._add(server, begin, last)
        return left

    def copy(self) -> Self:
        """A set that grows apart from this one."""
        return type(self)(
            {server: list(intervals) for server, intervals in self._intervals.items()}
        )

    def __str__(self) -> str:
        if self._text is None:
            by_server: dict[str, str] = {}
            for maker, intervals in sorted(self._intervals.items()):
                server, colon, tag = maker.partition(":")
                numbers = (f":{one}-{last}" if last > one else f":{one}" for one, last in intervals)
                by_server[server] = by_server.get(server, server) + colon + tag + "".join(numbers)
            self._text = ",".join(by_server.values())
        return self._text
