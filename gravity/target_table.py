"""The tables that the sinks keep at a target beside the rows: what they are called, and whether they are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gravity.catalog import Query

DATABASE: Final = "_gravity"
PREFIX: Final = "_gravity_"
"""What the names of all our tables begin with."""
PROGRESS: Final = "_gravity_progress"
"""What each partition has written, in the transactions in which it is written."""
TABLES: Final = "_gravity_tables"
"""Tables that the sink made."""
PARKED: Final = "_gravity_parked"
"""Rows that wait until they can be written."""
POINTS: Final = "_gravity_points"
"""Cuts: places of a source at which the whole target stood."""
ARRIVALS: Final = "_gravity_arrivals"
"""Partitions that stand for a cut."""
SCHEMA: Final = "_gravity_schema"
"""Changes of tables, and how far each is."""
ORIGINS: Final = "_gravity_origins"
"""Which tables of the sources fill the target's, and by which key."""
COLUMNS: Final = "_gravity_columns"
"""Which partitions' rows come without which columns."""


def quoted(table: str) -> str:
    """A table of ours by its full name, as SQL takes it."""
    return f"`{DATABASE}`.`{table}`"


def are_there(query: Query, *tables: str) -> bool:
    """Whether the sink has made all these tables."""
    names = ", ".join(f"'{table}'" for table in tables)
    found = query(
        "SELECT TABLE_NAME FROM information_schema.TABLES"
        f" WHERE TABLE_SCHEMA='{DATABASE}' AND TABLE_NAME IN ({names})"
    )
    return len(found) == len(tables)
