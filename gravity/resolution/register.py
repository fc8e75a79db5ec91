"""What is known of one row: one register per source, an operator's decision, truncate floors.

Each part of it is a maximum over a total order, so it depends only on the set of events seen, never
on their order or on repeats.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gravity.batch import LEFT, READ, REMOVES_ROW, Column, Value
from gravity.position import Position
from gravity.resolution.cell import object_form

Row = tuple[Value, ...]

OPERATOR = "@operator"
"""Stands where a source's name would, for what an operator decided. No source can be called so."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The columns of a row, in order. Rows of one source and schema share one."""

    schema_id: str
    columns: tuple[Column, ...]
    _places: dict[str, int] = field(default_factory=dict, init=False, repr=False, compare=False)
    _forms: list[str] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def object_form(self) -> str:
        """Makes a readable JSON object of a row's cells; see `gravity.resolution.cell`."""
        if not self._forms:
            self._forms.append(object_form(column.name for column in self.columns))
        return self._forms[0]

    def index(self, name: str) -> int | None:
        """Where the column stands; None when the shape lacks it."""
        if not self._places:
            self._places.update({column.name: i for i, column in enumerate(self.columns)})
        return self._places.get(name)


@dataclass(slots=True)
class Change:
    """One source's change of one row."""

    # Neither this nor a register or an opinion is changed once it is made. They are not frozen because they
    # are made for every row, and a frozen one takes more than three times as long to make.

    source: str
    position: Position
    op: int
    ets: int
    """Commit time (running maximum); ignored for a snapshot's read."""
    row: Row
    shape: Shape
    changed: frozenset[str] | None = None
    """The columns to which it gave another value; None: not known, or of no interest to the rule."""


@dataclass(slots=True)
class Register:
    """The latest that one source said about a row. Never changed; what is remembered with it follows from it."""

    position: Position
    op: int
    ets: int
    """Latest commit time of a change of this row at this source; 0 while it is known from reads only."""
    row: Row | None
    """None: the source has deleted it."""
    shape: Shape
    changed_ets: Mapping[str, int] | None = None
    """Column to the latest commit time of a change of it; absent = 0. None: not kept, `ets` counts."""
    saved_as: str | None = field(default=None, init=False, repr=False, compare=False)
    """What it is saved as, for who saves it."""
    told_as: bytes | None = field(default=None, init=False, repr=False, compare=False)
    """What a record of a conflict says of it, for who writes those."""
    row_as: bytes | None = field(default=None, init=False, repr=False, compare=False)
    """The row in it alone."""

    @property
    def live(self) -> bool:
        """Whether the source has the row."""
        return self.row is not None

    def column_ets(self, column: str) -> int:
        """Latest commit time of a change of `column`."""
        return self.ets if self.changed_ets is None else self.changed_ets.get(column, 0)


Registers = Mapping[str, Register]


@dataclass(frozen=True, slots=True)
class Decision:
    """What an operator decided about a row, seeing it as it was then."""

    seq: int
    """Decisions about a row in their order; the greatest counts."""
    cover: Mapping[str, Position]
    """What the operator saw: each source's opinion up to this position."""
    row: Row | None
    """The row that is to stand; None = no row."""
    columns: tuple[Column, ...] = ()
    """The columns of `row`."""
    keep: str = OPERATOR
    """The source whose opinion it was, or OPERATOR."""


@dataclass(frozen=True, slots=True)
class Floor:
    """A source's latest TRUNCATE of a table: its older rows are gone."""

    position: Position
    ets: int


Floors = Mapping[str, Floor]


def register(old: Register | None, change: Change) -> Register:
    """The register after `change`, whatever order changes arrive in."""
    # A snapshot read says nothing about when the row was written: any real change beats it.
    ets = 0 if change.op == READ else change.ets
    changed_ets = _changed_ets(old, change, ets)
    if old is not None:
        ets = max(ets, old.ets)
        if change.position <= old.position:
            return replace(old, ets=ets, changed_ets=changed_ets)
    row = None if change.op in REMOVES_ROW else change.row
    return Register(change.position, change.op, ets, row, change.shape, changed_ets)


def _changed_ets(old: Register | None, change: Change, ets: int) -> Mapping[str, int] | None:
    if change.changed is None:
        return None
    before: Mapping[str, int] = {}
    if old is not None:
        # Kept from now on: until now a change counted as one of every column.
        names = (column.name for column in old.shape.columns)
        before = dict.fromkeys(names, old.ets) if old.changed_ets is None else old.changed_ets
    if not change.changed or not ets:
        return before
    return {**before, **{name: max(ets, before.get(name, 0)) for name in change.changed}}


def changed_columns(
    before: Register | None, op: int, row: Row, shape: Shape, *, null_is_unset: bool
) -> frozenset[str]:
    """The columns that a change gives another value than the source's own row had before it.

    A source's changes of one row come in order, so its register is that row. A row that was not
    there gives all its columns a value, but for those that it leaves NULL, if that means unset.
    """
    if op == READ or op in REMOVES_ROW:
        return frozenset()
    if before is None or before.row is None:
        return frozenset(
            column.name
            for column, value in zip(shape.columns, row, strict=True)
            if not (value is None and null_is_unset)
        )
    if before.shape.columns == shape.columns:
        cells = zip(shape.columns, row, before.row, strict=True)
        return frozenset(column.name for column, new, old in cells if new != old)
    was = {c.name: value for c, value in zip(before.shape.columns, before.row, strict=True)}
    missing = object()
    return frozenset(
        column.name
        for column, value in zip(shape.columns, row, strict=True)
        if was.get(column.name, missing) != value
    )


@dataclass(slots=True)
class Opinion:
    """A register as it counts in resolving: below a floor, or covered by a decision, it counts otherwise."""

    source: str
    """Who is named as its author."""
    rank: int
    register: Register
    speaks_for: frozenset[str]
    """The sources whose registers it stands for: its own, or all that a decision covers."""
    decided: bool = False
    """Whether an operator decided it."""
    behind: tuple[Column, ...] = ()
    """Decided only: columns of the opinions that it stands for."""

    @property
    def live(self) -> bool:
        """Whether it says that there is a row."""
        return self.register.live

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of which the target may hold a value because of it."""
        return self.behind or self.register.shape.columns

    @property
    def age(self) -> tuple[int, int]:
        """Orders opinions by time; of two of one time the better rank is the greater."""
        return (self.register.ets, -self.rank)

    def cell(self, column: str) -> tuple[Value, Column] | None:
        """Its value of a column; None where it has no such column."""
        index = self.register.shape.index(column)
        if index is None or self.register.row is None:
            return None
        return self.register.row[index], self.register.shape.columns[index]


def opinions_of(
    registers: Registers, ranks: Mapping[str, int], decision: Decision | None, floors: Floors
) -> list[Opinion]:
    """The opinions that count, best rank first: of sources that take part, floors and decision applied."""
    found = [
        Opinion(source, ranks[source], _above(reg, floors.get(source)), frozenset((source,)))
        for source, reg in registers.items()
        if source in ranks
    ]
    # A source that has placed the row at another target has no say here, while another still has.
    found = [opinion for opinion in found if opinion.register.op != LEFT] or found
    found.sort(key=lambda opinion: opinion.rank)
    if decision is None:
        return found
    covered = [
        opinion
        for opinion in found
        if opinion.source in decision.cover
        and opinion.register.position <= decision.cover[opinion.source]
    ]
    if not covered:
        return found
    rest = [opinion for opinion in found if opinion not in covered]
    return sorted([_decided(decision, covered), *rest], key=lambda opinion: opinion.rank)


def _above(reg: Register, floor: Floor | None) -> Register:
    if floor is None or reg.position > floor.position:
        return reg
    return replace(reg, position=floor.position, ets=floor.ets, row=None)


def _decided(decision: Decision, covered: list[Opinion]) -> Opinion:
    """The one opinion in place of all that the operator saw."""
    best = covered[0]
    latest = max(opinion.register.ets for opinion in covered)
    shape = best.register.shape
    if decision.row is not None:
        shape = Shape(f"decision {decision.seq}", decision.columns)
    reg = Register(best.register.position, best.register.op, latest, decision.row, shape)
    speaks_for = frozenset(opinion.source for opinion in covered)
    columns = {c.name: c for o in reversed(covered) for c in o.register.shape.columns}
    behind = tuple({**columns, **{c.name: c for c in shape.columns}}.values())
    return Opinion(decision.keep, best.rank, reg, speaks_for, decided=True, behind=behind)
