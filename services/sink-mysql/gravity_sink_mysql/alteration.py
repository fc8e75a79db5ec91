"""ALTER TABLE for what a source's schema change comes to here. Pure."""

from __future__ import annotations

from dataclasses import replace

from gravity.batch import Column
from gravity.column import INTEGER_BYTES, ColumnType
from gravity.evolution import Alteration, Step, default_value
from gravity.schema_change import ColumnAction
from gravity.schema_follower import Fitness, RealColumn, Shape, Stage, columns_after, leaves
from gravity_sink_mysql.definition import Dialect, column_definition, vector_bytes
from gravity_sink_mysql.statement import literal, quote_name

_TEXT_BYTES = {"tinytext": 255, "text": 65_535, "mediumtext": 1 << 24, "longtext": 1 << 32}
_BLOB_BYTES = {"tinyblob": 255, "blob": 65_535, "mediumblob": 1 << 24, "longblob": 1 << 32}
_BYTES_PER_CHARACTER = 4
_NO_LITERAL_DEFAULT = frozenset((*_TEXT_BYTES, *_BLOB_BYTES, "json", "geometry"))
"""MySQL gives these a default by an expression only, which can't be added where GTIDs are in force."""
_DIGITS_MAX = 65
_LABELS_MAX = {"enum": 65_535, "set": 64}
FILL_ROWS = 10_000
"""Rows that one statement fills with a default."""
_UNICODE = "utf8mb4"
"""Holds every character there is."""


def judge(real: RealColumn, column: Column) -> Fitness:
    """Whether the column at the target takes what `column` of the source has."""
    there, here = ColumnType.parse(real.type), ColumnType.parse(column.type)
    charset_fits = not here.has_charset or real.charset in (None, column.charset, _UNICODE)
    null_fits = real.nullable or real.in_key or not column.nullable
    if charset_fits and null_fits and holds(there, here):
        return "fits"
    return "convert" if common(there, here) is None else "widen"


def common(there: ColumnType, here: ColumnType) -> ColumnType | None:
    """The type that holds what a column has and what it is to have; None: no such type is known.

    A column never becomes narrower: a partition that is behind the change has rows in it, and will write
    more, whose values the source has got rid of before it made the change.
    """
    if holds(there, here):
        return there
    if grows(there, here):
        return here
    if there.name in INTEGER_BYTES and here.name in INTEGER_BYTES:
        signed = [ColumnType(name) for name in INTEGER_BYTES]
        wide = [kind for kind in signed if _spans(kind, there) and _spans(kind, here)]
        return wide[0] if wide else ColumnType("decimal", precision=20)
    if there.name != here.name:
        return None
    match there.name:
        case "enum" | "set":
            new = tuple(label for label in here.labels if label not in there.labels)
            labels = there.labels + new
            return None if len(labels) > _LABELS_MAX[there.name] else replace(there, labels=labels)
        case "decimal":
            scale = max(there.scale, here.scale)
            whole = max(kind.precision - kind.scale for kind in (there, here) if kind.precision)
            unsigned = there.unsigned and here.unsigned
            wider = ColumnType("decimal", unsigned, precision=whole + scale, scale=scale)
            return wider if whole + scale <= _DIGITS_MAX else None
        case "float" | "double":
            return replace(there, unsigned=False)
        case _:
            return None


def _charset(real: RealColumn, column: Column) -> tuple[str | None, str | None]:
    """The character set that holds the texts of both, and its collation, if one of them names it."""
    if real.charset in (None, column.charset) or column.charset == _UNICODE:
        return column.charset, column.collation
    return (real.charset, real.collation) if real.charset == _UNICODE else (_UNICODE, None)


def holds(wide: ColumnType, narrow: ColumnType) -> bool:
    """Whether every value of `narrow` is a value of `wide`, and is printed alike there."""
    if wide == narrow:
        return True
    if narrow.name in INTEGER_BYTES:
        return wide.name in INTEGER_BYTES and _spans(wide, narrow)
    if narrow.name == "decimal" and wide.name == "decimal":
        digits, needed = wide.precision or 0, narrow.precision or 0
        return wide.scale == narrow.scale and digits >= needed and wide.unsigned <= narrow.unsigned
    if narrow.name == "json":
        return wide.name == "longtext"  # All that MariaDB has for it.
    if narrow.name == "vector":
        return wide.name == "varbinary" and (wide.length or 0) >= vector_bytes(narrow)
    if narrow.name in ("enum", "set") and wide.name == narrow.name:
        return set(narrow.labels) <= set(wide.labels)
    for sized, unsized, unit in (
        (("char", "varchar"), _TEXT_BYTES, _BYTES_PER_CHARACTER),
        (("varbinary", "binary"), _BLOB_BYTES, 1),
    ):
        family = (*sized, *unsized)
        if narrow.name in family and wide.name in family:
            return _longer(wide, narrow, unsized, unit)
    return False


def _longer(wide: ColumnType, narrow: ColumnType, unsized: dict[str, int], unit: int) -> bool:
    if wide.name == "binary":
        return False  # It pads what is shorter.
    if wide.name == "char" and narrow.name != "char":
        return False  # It loses spaces at the end.
    if wide.name in unsized:
        size = unsized.get(narrow.name)
        needed = (narrow.length or 0) * unit if size is None else size
        return unsized[wide.name] >= needed
    return narrow.name not in unsized and (wide.length or 0) >= (narrow.length or 0)


def _spans(wide: ColumnType, narrow: ColumnType) -> bool:
    low, high = _bounds(wide)
    return low <= _bounds(narrow)[0] and _bounds(narrow)[1] <= high


def _bounds(kind: ColumnType) -> tuple[int, int]:
    bits = 8 * INTEGER_BYTES[kind.name]
    return (0, (1 << bits) - 1) if kind.unsigned else (-(1 << bits - 1), (1 << bits - 1) - 1)


def grows(there: ColumnType, here: ColumnType) -> bool:
    """Whether the server may turn `there` into `here` and every value stays what it is."""
    if holds(here, there):
        return True
    if there.name == here.name == "decimal":
        whole, needed = (here.precision or 0) - here.scale, (there.precision or 0) - there.scale
        return here.scale >= there.scale and whole >= needed and here.unsigned <= there.unsigned
    if there.name == here.name and there.name in ("datetime", "timestamp", "time"):
        return here.scale >= there.scale
    return there.name == "float" and here.name == "double"


def first_part(quoted: str, alteration: Alteration) -> list[Stage]:
    """Renames and drops, in one statement: either all of them happened or none."""
    there = {name.lower(): name for name in alteration.before}
    parts = []
    for step in alteration.steps:
        name = there.get(step.name.lower())
        if name is None:
            continue
        if leaves(step):
            parts.append(f"DROP COLUMN {quote_name(name)}")
        elif step.new_name and step.new_name != name:
            parts.append(f"RENAME COLUMN {quote_name(name)} TO {quote_name(step.new_name)}")
    after = columns_after(alteration.before, alteration.steps)
    return [Stage(f"ALTER TABLE {quoted} {', '.join(parts)}", after)] if parts else []


def second_part(quoted: str, alteration: Alteration, shape: Shape, dialect: Dialect) -> list[str]:
    """Additions and changes of type, as far as `shape` still wants them; each UPDATE until it finds nothing.

    An UPDATE may be repeated after a crash: until the alteration is recorded as done, no row holds
    another value than the default or one that this change is older than.
    """
    there = {real.name.lower(): real for real in shape}
    parts, fills = [], []
    for step in alteration.steps:
        name = step.new_name or step.name
        real = there.get(name.lower())
        if step.kept:
            if real is not None and not real.nullable:
                parts.append(f"MODIFY COLUMN {_relaxed(real)}")
            continue
        if step.column is None or step.action not in (ColumnAction.ADD, ColumnAction.MODIFY):
            continue
        fills += _fill(quoted, step, name)
        if real is None:
            if step.action is ColumnAction.ADD or step.anew:
                parts.append(f"ADD COLUMN {_added(step, name, dialect)}")
        elif step.action is ColumnAction.MODIFY and judge(real, step.column) != "fits":
            nullable = not real.in_key and (real.nullable or step.column.nullable)
            charset, collation = _charset(real, step.column)
            there_and_here = ColumnType.parse(real.type), ColumnType.parse(step.column.type)
            kind = common(*there_and_here) or there_and_here[1]
            column = Column(real.name, kind.text, nullable, charset, collation)
            definition = column_definition(column, dialect, in_key=real.in_key)
            parts.append(f"MODIFY COLUMN {definition}")
    return ([f"ALTER TABLE {quoted} {', '.join(parts)}"] if parts else []) + fills


def _fill(quoted: str, step: Step, name: str) -> list[str]:
    """Gives rows that are there the default of an added column whose type can't have one."""
    column = step.column
    if step.anew or column is None or ColumnType.parse(column.type).name not in _NO_LITERAL_DEFAULT:
        return []
    value = default_value(column, step.default)
    if step.action is not ColumnAction.ADD or value is None:
        return []
    at = quote_name(name)
    return [f"UPDATE {quoted} SET {at}={literal(value)} WHERE {at} IS NULL LIMIT {FILL_ROWS}"]


def _added(step: Step, name: str, dialect: Dialect) -> str:
    assert step.column is not None
    column = replace(step.column, name=name)
    definition = column_definition(column, dialect, added=True)
    if step.anew or (step.default is None and column.nullable):
        return definition
    if ColumnType.parse(column.type).name in _NO_LITERAL_DEFAULT:
        return definition
    value = literal(default_value(column, step.default))
    stem = definition.removesuffix(" NULL DEFAULT NULL")
    return f"{stem} {'NULL' if column.nullable else 'NOT NULL'} DEFAULT {value}"


def _relaxed(real: RealColumn) -> str:
    """The column as it is, but for NULL."""
    text = f"{quote_name(real.name)} {real.type}"
    if real.charset:
        text += f" CHARACTER SET {real.charset} COLLATE {real.collation}"
    return text + " NULL DEFAULT NULL"
