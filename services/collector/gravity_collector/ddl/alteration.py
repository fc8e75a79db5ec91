"""ALTER TABLE's clauses as changes of columns, and what became of the rows. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gravity.batch import Column, TableSchema
from gravity.column import ColumnType
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter
from gravity_collector.ddl.alter import (
    AddColumn,
    AddPrimaryKey,
    AddUnique,
    ConvertCharset,
    DropColumn,
    DropPrimaryKey,
    Harmless,
    ModifyColumn,
    RenameColumn,
    RenameTo,
    ReplaceRows,
    Spec,
    Unknown,
)
from gravity_collector.ddl.column_definition import Definition, Dialect
from gravity_collector.ddl.conversion import keeps_text, keeps_values
from gravity_collector.ddl.fill import fill_of
from gravity_collector.ddl.shape import column_named
from gravity_collector.ddl.statement import AlterTable

_RANK = {RowsAfter.KEPT: 0, RowsAfter.FILLED: 1, RowsAfter.REREAD: 2}


@dataclass(slots=True)
class Alteration:
    """What an ALTER TABLE did."""

    rows: RowsAfter = RowsAfter.KEPT
    key: tuple[str, ...] = ()
    loses_rows: bool = False
    """Whether rows may be gone, or others, without a row event."""
    is_told: bool = True
    """Whether `columns` tell the table's shape afterwards."""
    _drops: list[ColumnChange] = field(default_factory=list)
    _in_place: list[ColumnChange] = field(default_factory=list)
    _placed: list[ColumnChange] = field(default_factory=list)

    @property
    def columns(self) -> tuple[ColumnChange, ...]:
        """The changes in the order in which servers make them: names always mean the old columns at first."""
        return (*self._drops, *self._in_place, *self._placed)

    def need(self, rows: RowsAfter) -> None:
        """The rows are at least this."""
        self.rows = max(self.rows, rows, key=lambda one: _RANK[one])

    def add(self, change: ColumnChange) -> None:
        """Takes a change in."""
        if change.action is ColumnAction.DROP:
            self._drops.append(change)
        elif change.action is ColumnAction.ADD or change.after is not None:
            self._placed.append(change)
        else:
            self._in_place.append(change)

    def order_names(self) -> None:
        """Puts renames so that none takes a name before it is free; where that can't be, rows are read again."""
        waiting, done = self._in_place, []
        moves = [change for change in (*waiting, *self._placed) if change.new_name]
        taken = {change.name.lower() for change in moves}
        while waiting:
            free = [
                change
                for change in waiting
                if not change.new_name
                or change.new_name.lower() == change.name.lower()
                or change.new_name.lower() not in taken
            ]
            if not free:
                # Columns change places: no order of single steps does it.
                self.is_told = False
                self.need(RowsAfter.REREAD)
                self._drops, self._in_place, self._placed = [], [], []
                return
            done += free
            taken -= {change.name.lower() for change in free}
            waiting = [change for change in waiting if change not in free]
        self._in_place = done


def alteration_of(ddl: AlterTable, shape: TableSchema | None, dialect: Dialect) -> Alteration:
    """What the statement did to a table that had `shape` (None: not known)."""
    done = Alteration()
    strict = dialect.mode.strict and not ddl.ignores
    for spec in ddl.specs:
        _take(done, spec, shape, strict=strict, ignores=ddl.ignores)
    if any(isinstance(spec, ConvertCharset) for spec in ddl.specs) and len(ddl.specs) > 1:
        # The other clauses' columns are converted too.
        done.is_told = False
    done.order_names()
    _follow_key(done, shape)
    return done


def _take(
    done: Alteration, spec: Spec, shape: TableSchema | None, *, strict: bool, ignores: bool
) -> None:
    match spec:
        case AddColumn():
            _added(done, spec, shape)
        case DropColumn():
            name = _known_name(shape, spec.name)
            if name is not None or not spec.if_exists:
                done.add(ColumnChange(ColumnAction.DROP, name or spec.name))
        case RenameColumn():
            name = _known_name(shape, spec.name)
            if spec.new_name != name and (name is not None or not spec.if_exists):
                done.add(ColumnChange(ColumnAction.RENAME, name or spec.name, spec.new_name))
        case ModifyColumn():
            _modified(done, spec, shape, strict=strict)
        case ConvertCharset():
            _converted(done, spec, shape, strict=strict)
        case AddPrimaryKey():
            done.loses_rows |= ignores
            done.is_told &= spec.columns is not None
            done.key = tuple(_known_name(shape, name) or name for name in spec.columns or ())
            done.need(RowsAfter.REREAD)
        case DropPrimaryKey():
            done.need(RowsAfter.REREAD)
            done.is_told = False
        case AddUnique():
            done.loses_rows |= ignores
        case ReplaceRows():
            done.loses_rows = True
        case Unknown():
            done.is_told = False
            done.need(RowsAfter.REREAD)
        case RenameTo() | Harmless():
            pass


def _known_name(shape: TableSchema | None, name: str) -> str | None:
    """The column's name as the table spells it; as the statement does where the table is not known."""
    if shape is None:
        return name
    column = column_named(shape, name)
    return None if column is None else column.name


def _added(done: Alteration, spec: AddColumn, shape: TableSchema | None) -> None:
    definition, fill = spec.definition, fill_of(spec.definition)
    if spec.if_not_exists and shape is not None and column_named(shape, definition.name):
        return
    column = definition.column
    done.add(
        ColumnChange(
            ColumnAction.ADD,
            definition.name,
            column=column,
            default=fill.text if fill is not None else None,
            after=definition.after,
        )
    )
    if definition.is_primary:
        done.key = (definition.name,)
    if column is None or fill is None or not definition.is_certain:
        done.is_told &= column is not None and definition.is_certain
        done.need(RowsAfter.REREAD)
    elif spec.if_not_exists and shape is None:
        # A column that was there already has kept its own values.
        done.need(RowsAfter.REREAD)
    elif fill.text is not None:
        done.need(RowsAfter.FILLED)


def _modified(
    done: Alteration, spec: ModifyColumn, shape: TableSchema | None, *, strict: bool
) -> None:
    definition = spec.definition
    old = column_named(shape, spec.name) if shape is not None else None
    if old is None and spec.if_exists and shape is not None:
        return
    column = definition.column
    name = old.name if old is not None else spec.name
    if column is not None and shape is not None and name in shape.key_names:
        column = replace(column, nullable=False)
    # MODIFY too gives a column the name as it is spelt there.
    new_name = definition.name if definition.name != name else ""
    done.add(
        ColumnChange(
            ColumnAction.MODIFY,
            name,
            new_name,
            column,
            _default_text(definition),
            definition.after,
        )
    )
    if definition.is_primary:
        done.key = (definition.name,)
        done.need(RowsAfter.REREAD)
    done.is_told &= column is not None and definition.is_certain
    if old is None or not keeps_values(old, definition, strict=strict):
        done.need(RowsAfter.REREAD)


def _default_text(definition: Definition) -> str | None:
    if definition.default is None:
        return None
    fill = fill_of(definition)
    return None if fill is None else fill.text


def _converted(
    done: Alteration, spec: ConvertCharset, shape: TableSchema | None, *, strict: bool
) -> None:
    if shape is None:
        done.is_told = False
        done.need(RowsAfter.REREAD)
        return
    charset = spec.charset or None
    for column in shape.columns:
        kind = ColumnType.parse(column.type)
        if not kind.has_charset or _is_changed(done, column.name):
            continue
        after: Column | None = replace(column, charset=charset, collation=spec.collation)
        if charset == "binary" or (kind.name.endswith("text") and charset != column.charset):
            # Columns become binary, or grow so that as many characters fit.
            after, done.is_told = None, False
            done.need(RowsAfter.REREAD)
        elif not keeps_text(column.charset, charset, strict=strict):
            done.need(RowsAfter.REREAD)
        done.add(ColumnChange(ColumnAction.MODIFY, column.name, column=after))


def _is_changed(done: Alteration, name: str) -> bool:
    return any(change.name == name for change in done.columns)


def _follow_key(done: Alteration, shape: TableSchema | None) -> None:
    """A key that loses a column is another key."""
    if shape is None or done.key:
        return
    dropped = {change.name for change in done.columns if change.action is ColumnAction.DROP}
    if dropped & set(shape.key_names):
        done.key = tuple(name for name in shape.key_names if name not in dropped)
        done.need(RowsAfter.REREAD)
