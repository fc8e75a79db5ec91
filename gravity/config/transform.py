"""How tables differ at a target: names, columns, values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from gravity.condition import ConditionError, compile_value
from gravity.config.model import Model, Names, Patterns, at, require_one_pattern
from gravity.pattern import PatternError, parse_table_pattern
from gravity.target_table import PREFIX
from gravity.transform.disguise import DisguiseError, masker
from gravity.transform.fit import FitError, parse_type
from gravity.transform.naming import KNOWN_NAMES, TemplateError, names_in, unknown_names
from gravity.transform.rule import AddedColumn, CastColumn, Constant, TransformPlan
from gravity.transform.shape import constant_of

"""Columns that begin so are ours."""
TEXT_TYPE, WHOLE_TYPE, REAL_TYPE, TRUTH_TYPE = "varchar(255)", "bigint", "double", "tinyint"
NAME_LENGTH_MAX = 64
"""Characters of a name at MySQL."""


def _capturing(text: str) -> str:
    try:
        require_one_pattern(text)
        pattern = parse_table_pattern(text, captures=True)
    except PatternError as error:
        raise ValueError(f"bad pattern: {error}") from None
    taken = sorted(set(pattern.captures) & set(KNOWN_NAMES))
    if taken:
        raise ValueError(f"{text!r}: {{{taken[0]}}} says what the source's {taken[0]} is called")
    return text


def _type(text: str) -> str:
    try:
        return parse_type(text).text
    except FitError as error:
        raise ValueError(str(error)) from None


def _expression(text: str) -> str:
    try:
        compile_value(text)
    except ConditionError as error:
        raise ValueError(str(error)) from None
    return text


def _mask(text: str) -> str:
    try:
        masker(text)
    except DisguiseError as error:
        raise ValueError(str(error)) from None
    return text


def _template(text: str) -> str:
    try:
        names_in(text)
    except TemplateError as error:
        raise ValueError(str(error)) from None
    return text


def _column(text: str) -> str:
    if text.lower().startswith(PREFIX):
        raise ValueError(f"{text}: names that begin with {PREFIX} are ours")
    if not text or len(text) > NAME_LENGTH_MAX or text != text.strip():
        raise ValueError(f"{text!r}: a column's name has 1 to {NAME_LENGTH_MAX} characters")
    return text


def _one_or_many(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _value_alone(value: object) -> object:
    return value if isinstance(value, (dict, Model)) else {"value": value}


def _type_alone(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


_TEXTS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
CapturingPatterns = Annotated[
    tuple[Annotated[str, AfterValidator(_capturing)], ...],
    BeforeValidator(_one_or_many),
    WithJsonSchema(_TEXTS),
]
"""Table patterns that may capture: `orders_{part}`, `{shop}.orders`, `orders_{n:[0-9]*}`."""
ColumnName = Annotated[str, AfterValidator(_column)]
ColumnNames = Annotated[
    tuple[ColumnName, ...], BeforeValidator(_one_or_many), WithJsonSchema(_TEXTS)
]
Type = Annotated[str, AfterValidator(_type)]
Template = Annotated[str, AfterValidator(_template)]


class NewName(Model):
    """What tables are called at the target."""

    database: Template | None = Field(
        None,
        min_length=1,
        description="Database; before the target's own `database`. Names in braces are filled in.",
    )
    table: Template | None = Field(
        None,
        min_length=1,
        description="Table. Several tables with one new name become one table.",
    )


class NewColumn(Model):
    """A column that the source does not have. A plain value is short for `value:`."""

    value: bool | int | float | str | None = Field(
        None,
        union_mode="smart",
        description="The same for every row of a table; texts have names in braces filled in: `{source}`.",
    )
    expression: Annotated[str, AfterValidator(_expression)] | None = Field(
        None,
        description=(
            "SQL over the source's columns, as in conditions. Where its value does not fit `type` it is NULL."
        ),
    )
    type: Type | None = Field(
        None,
        description=(
            "MySQL type. Unset = varchar(255), bigint, double or tinyint, as the value is; an expression needs it."
        ),
    )
    key: bool = Field(
        False,
        description="Whether it is part of the key, so that rows of several tables keep apart.",
    )

    @model_validator(mode="after")
    def _says_one_thing(self) -> Self:
        if (self.value is None) == (self.expression is None):
            raise at("", "needs a value or an expression, one of the two")
        if self.expression is not None and self.type is None:
            raise at("", "an expression needs a type, such as decimal(12,2)")
        if self.expression is not None and self.key:
            raise at("key", "a key column must be the same for every row of a table: use a value")
        return self

    def plan(self, name: str) -> AddedColumn:
        """The column in a plan."""
        kind = self.type or _type_of(self.value)
        return AddedColumn(name, kind, self.value, self.expression, self.key)


def _type_of(value: Constant | None) -> str:
    match value:
        case bool():
            return TRUTH_TYPE
        case int():
            return WHOLE_TYPE
        case float():
            return REAL_TYPE
        case _:
            return TEXT_TYPE


class NewType(Model):
    """The type of a column at the target. A plain text is short for `type:`."""

    type: Type = Field(description="MySQL type: numbers, texts, date or datetime.")
    or_null: bool = Field(
        False,
        description="Whether values that do not fit become NULL. Else a cast that may not fit is refused.",
    )


class ColumnChanges(Model):
    """What becomes of columns. All names are those at the source, but for new ones."""

    rename: dict[ColumnName, ColumnName] = Field(
        {}, description="Column to its name at the target.", examples=[{"phone": "tel"}]
    )
    add: dict[ColumnName, Annotated[NewColumn, BeforeValidator(_value_alone)]] = Field(
        {},
        description="New column to its value, or to `value` or `expression`, `type` and `key`.",
        examples=[{"origin": {"value": "{source}"}}],
    )
    drop: ColumnNames = Field((), description="Columns that do not go there.", examples=[["phone"]])
    cast: dict[ColumnName, Annotated[NewType, BeforeValidator(_type_alone)]] = Field(
        {}, description="Column to its type at the target.", examples=[{"price": "decimal(12,2)"}]
    )
    mask: dict[ColumnName, Annotated[str, AfterValidator(_mask)]] = Field(
        {},
        description="Text column to what stays to be read: `all` (masked), `first N`, `last N`; the rest is `*`.",
        examples=[{"phone": "last 4"}],
    )
    hash: ColumnNames = Field(
        (),
        description="Columns whose values are replaced by their SHA-256 (64 hexadecimal digits, no salt).",
        examples=[["email"]],
    )

    def _uses(self) -> Iterator[tuple[str, str]]:
        for key in ("drop", "cast", "mask", "hash"):
            for name in getattr(self, key):
                yield key, name

    @model_validator(mode="after")
    def _columns_are_used_once(self) -> Self:
        found: dict[str, str] = {}
        for key, name in self._uses():
            before = found.setdefault(name.lower(), key)
            if before != key:
                raise at(key, f"column {name} stands under {before} too: one of the two")
        for key in ("drop", "hash"):
            names = [name.lower() for name in getattr(self, key)]
            if len(set(names)) < len(names):
                raise at(key, "a column is given twice")
        for key in ("rename", "add", "cast", "mask"):
            names = [name.lower() for name in getattr(self, key)]
            if len(set(names)) < len(names):
                raise at(key, "a column is given twice, in another case")
        for name in self.rename:
            if found.get(name.lower()) == "drop":
                raise at(f"rename.{name}", f"column {name} is dropped")
        self._require_new_names()
        return self

    def _require_new_names(self) -> None:
        taken: dict[str, str] = {}
        for key, names in (("rename", self.rename.values()), ("add", self.add)):
            for name in names:
                if name.lower() in taken:
                    raise at(key, f"two columns would be called {name}")
                taken[name.lower()] = name


class Transform(Model):
    """How some tables differ at the target. The first entry that means a table is used, and no other."""

    tables: CapturingPatterns = Field(
        description=(
            "Tables at the source. `{name}` in a pattern stands for any text, `{name:pattern}` for what the "
            "pattern means; `rename` and `add` may use what stood there. `table:` says the same."
        )
    )
    exclude: Patterns = Field((), description="Tables to leave out of `tables`.")
    sources: Names = Field((), description="Only of these sources; unset = of every one.")
    rename: NewName = Field(
        NewName(),
        description="The table's name at the target.",
        examples=[{"database": "dw", "table": "users"}],
    )
    columns: ColumnChanges = Field(
        ColumnChanges(), description="What becomes of its columns.", examples=[{"drop": ["phone"]}]
    )
    missing_columns: Literal["refuse", "ignore"] = Field(
        "refuse",
        description=(
            "`refuse`: every table must have every column that is named here. `ignore`: some may lack it; "
            "mind that a column renamed at the source is then no longer masked, hashed or dropped."
        ),
    )

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        if not self.tables:
            raise at("tables", "needs a pattern; * means all tables")
        captured = [set(parse_table_pattern(text, captures=True).captures) for text in self.tables]
        known = {*KNOWN_NAMES, *set.intersection(*captured)}
        for key, text in self._templates():
            unknown = unknown_names(text, known)
            if unknown:
                names = ", ".join(f"{{{name}}}" for name in sorted(known))
                every = " in every pattern" if len(self.tables) > 1 else ""
                raise at(key, f"{{{unknown[0]}}} is not captured{every}; known are {names}")
        for name, column in self.columns.add.items():
            self._require_fit(name, column)
        return self

    def _templates(self) -> Iterable[tuple[str, str]]:
        for key in ("database", "table"):
            text = getattr(self.rename, key)
            if text is not None:
                yield f"rename.{key}", text
        for name, column in self.columns.add.items():
            if isinstance(column.value, str):
                try:
                    names_in(column.value)
                except TemplateError as error:
                    raise at(f"columns.add.{name}", str(error)) from None
                yield f"columns.add.{name}", column.value

    def _require_fit(self, name: str, column: NewColumn) -> None:
        """Refuses a value without names to fill in that its type can't hold; others wait for the tables."""
        if column.value is None or (isinstance(column.value, str) and names_in(column.value)):
            return
        try:
            constant_of(column.plan(name), {})
        except FitError as error:
            raise at(f"columns.add.{name}", str(error)) from None

    def plan(self) -> TransformPlan:
        """The transform in a plan."""
        columns = self.columns
        made = TransformPlan(
            tables=self.tables,
            exclude=self.exclude,
            sources=self.sources,
            database=self.rename.database,
            table=self.rename.table,
            rename=tuple(columns.rename.items()),
            add=tuple(column.plan(name) for name, column in columns.add.items()),
            drop=columns.drop,
            cast=tuple(CastColumn(n, kind.type, kind.or_null) for n, kind in columns.cast.items()),
            mask=tuple(columns.mask.items()),
            hash=columns.hash,
            lenient=self.missing_columns == "ignore",
        )
        return replace(made, joins=made.joins_by_name)
