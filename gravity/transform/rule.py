"""A transform as a plan has it: which tables it is for, and how they differ at the target. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from gravity.pattern import TablePattern, parse_table_pattern
from gravity.transform.naming import fill, may_become, names_in

Constant = str | int | float | bool


@dataclass(frozen=True, slots=True)
class AddedColumn:
    """A column that the source does not have."""

    name: str
    type: str
    """Canonical type text, as gravity.column has it."""
    value: Constant | None = None
    """The same in every row of a table; a text is a template. None: `expression` says it."""
    expression: str | None = None
    """SQL over the source's columns; NULL where its value does not fit the type."""
    key: bool = False
    """Whether it is part of the key."""


@dataclass(frozen=True, slots=True)
class CastColumn:
    """A column that has another type at the target."""

    name: str
    type: str
    or_null: bool = False
    """Whether values that do not fit become NULL; else there must be none."""


@dataclass(frozen=True, slots=True)
class TransformPlan:
    """How some tables differ at a target. Columns are called as at the source, but for those added."""

    tables: tuple[str, ...]
    """Patterns, which may capture."""
    exclude: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    """Empty: of every source."""
    database: str | None = None
    """Template of the database's name; None = as without the transform."""
    table: str | None = None
    rename: tuple[tuple[str, str], ...] = ()
    add: tuple[AddedColumn, ...] = ()
    drop: tuple[str, ...] = ()
    cast: tuple[CastColumn, ...] = ()
    mask: tuple[tuple[str, str], ...] = ()
    """(column, what stays to be read)."""
    hash: tuple[str, ...] = ()
    lenient: bool = False
    """Whether a table may lack columns that are named here."""
    joins: bool = False
    """Whether several tables of one source become one: by its patterns, or because such were found."""

    @property
    def patterns(self) -> tuple[TablePattern, ...]:
        """Its tables."""
        return tuple(parse_table_pattern(text, captures=True) for text in self.tables)

    def means(self, source: str, database: str, table: str) -> bool:
        """Whether it is for this table of this source."""
        return (
            (not self.sources or source in self.sources)
            and any(pattern.matches(database, table) for pattern in self.patterns)
            and not any(parse_table_pattern(text).matches(database, table) for text in self.exclude)
        )

    def known_of(self, source: str, database: str, table: str) -> dict[str, str]:
        """What its templates may say of a table that it means."""
        pattern = next(p for p in self.patterns if p.matches(database, table))
        captured = pattern.captured(database, table)
        return captured | {"source": source, "database": database, "table": table}

    def renamed(self, source: str, names: tuple[str, str], plain: str) -> tuple[str, str]:
        """(database, table) at the target of the source's `names`; `plain`: its database otherwise."""
        database, table = names
        known = self.known_of(source, database, table)
        return (
            plain if self.database is None else fill(self.database, known),
            table if self.table is None else fill(self.table, known),
        )

    def may_make(self, source: str, names: tuple[str, str], plain: str | None) -> bool:
        """Whether a table of `source` that is not known yet may come to be called `names` at the target.

        `plain`: the database's name there unless the transform says it; None = the source's.
        """
        if self.sources and source not in self.sources:
            return False
        database, table = names
        fixed = {"source": source}
        if self.table is not None and not may_become(self.table, table, fixed):
            return False
        if self.table is None and not any(p.table.matches(table) for p in self.patterns):
            return False
        if self.database is not None:
            return may_become(self.database, database, fixed)
        return plain in (None, database)

    @property
    def renames(self) -> bool:
        """Whether it gives its tables another name."""
        return self.database is not None or self.table is not None

    @property
    def joins_by_name(self) -> bool:
        """Whether its patterns say that several tables of one source become one.

        That is, the new name leaves out what a wildcard stands for. A pattern without a database says nothing
        about databases: most sources have one.
        """
        if not self.renames:
            return False
        if len(self.tables) > 1:
            return True
        [pattern] = self.patterns
        used = names_in(self.table or "{table}") | names_in(self.database or "{database}")
        for name, glob in (("database", pattern.database), ("table", pattern.table)):
            if name in used or glob is None or glob.is_exact:
                continue
            if glob.has_nameless or not used.issuperset(glob.captures):
                return True
        return False

    @property
    def touches_columns(self) -> bool:
        """Whether it does more than give the table another name."""
        return bool(self.rename or self.add or self.drop or self.cast or self.mask or self.hash)

    def source_name(self, column: str) -> str | None:
        """What a column of the target is called at the source; None: the source does not have it."""
        folded = column.lower()
        if any(item.name.lower() == folded for item in self.add):
            return None
        return next((old for old, new in self.rename if new.lower() == folded), column)

    def effect(self, source: str, database: str, table: str) -> tuple[object, ...]:
        """What it does to the columns of a table that it means; equal where every row comes out alike."""
        known = self.known_of(source, database, table)
        added = tuple(
            replace(item, value=fill(item.value, known)) if isinstance(item.value, str) else item
            for item in self.add
        )
        return self.rename, added, self.drop, self.cast, self.mask, self.hash

    def of_key(self) -> TransformPlan:
        """The same for a table of which only the key's columns are seen."""
        return replace(self, lenient=True, add=tuple(item for item in self.add if item.key))

    @property
    def named_columns(self) -> tuple[str, ...]:
        """The source's columns that it names, expressions apart."""
        return (
            *(old for old, _ in self.rename),
            *self.drop,
            *(cast.name for cast in self.cast),
            *(name for name, _ in self.mask),
            *self.hash,
        )

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        """The transform in a plan's JSON."""
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in record.items()
        }
        plain["rename"] = tuple((old, new) for old, new in record["rename"])
        plain["add"] = tuple(AddedColumn(**item) for item in record["add"])
        plain["cast"] = tuple(CastColumn(**item) for item in record["cast"])
        plain["mask"] = tuple((name, what) for name, what in record["mask"])
        return cls(**plain)

    def describe(self) -> tuple[str, ...]:
        """What it does to columns, in words, one for each."""
        return (
            *(f"{old} → {new}" for old, new in self.rename),
            *(f"+ {_added_text(item)}" for item in self.add),
            *(f"- {name}" for name in self.drop),
            *(f"{c.name}: {c.type}{' or NULL' if c.or_null else ''}" for c in self.cast),
            *(f"{name}: masked, {what}" for name, what in self.mask),
            *(f"{name}: hashed" for name in self.hash),
        )


def _added_text(item: AddedColumn) -> str:
    value = item.expression if item.expression is not None else repr(item.value)
    return f"{item.name} = {value}{' (key)' if item.key else ''}"
