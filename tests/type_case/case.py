"""What a case is."""

from __future__ import annotations

from dataclasses import dataclass

BOTH = ("mysql", "mariadb")
MYSQL_9 = (9, 0)


@dataclass(frozen=True, slots=True)
class Case:
    """A table with the one column `c` of type `ddl`, holding `values` (SQL expressions) in rows 1, 2, …"""

    name: str
    ddl: str
    values: tuple[str, ...]
    flavors: tuple[str, ...] = BOTH
    since: tuple[int, int] = (0, 0)
    """The server's first version that has it."""
    by: str = "edge"
    """`edge`: chosen values; `peer`: other systems are known to get them wrong."""

    def is_at(self, flavor: str, version: tuple[int, int]) -> bool:
        """Whether a server of this kind has the type."""
        return flavor in self.flavors and version >= self.since

    @property
    def statements(self) -> list[str]:
        """SQL that makes the table and writes its rows; the last row is NULL."""
        rows = ", ".join(
            f"({number}, {value})" for number, value in enumerate((*self.values, "NULL"), 1)
        )
        return [
            f"CREATE TABLE `{self.name}` (id int PRIMARY KEY, c {self.ddl} NULL)",
            f"INSERT INTO `{self.name}` VALUES {rows}",
        ]
