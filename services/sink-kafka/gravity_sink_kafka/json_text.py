"""Cells, rows and keys as JSON text, a column at a time. Pure.

How each type appears is fixed in `gravity.column.TYPES` and written down in docs/types.md. A document
of type JSON is a string that holds its text: read again as JSON it might lose digits.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from json.encoder import encode_basestring
from typing import Literal

from gravity.batch import ChangeBatch, TableSchema, Value
from gravity.column import ColumnType, is_wide_integer

Numbers = Literal["exact", "strings"]
"""`strings`: integers of 64 bits are strings, as some readers of JSON keep only 53 bits of a number."""
Texts = tuple[str, Sequence[Value]]
"""A printf directive, and what to feed it for each row."""

text_of: Callable[[str], str] = encode_basestring
"""A JSON string."""


def bytes_text(value: bytes) -> str:
    """A JSON string in base64."""
    return '"' + base64.b64encode(value).decode("ascii") + '"'


def _cell_text(value: Value) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return text_of(value)
    if isinstance(value, bytes):
        return bytes_text(value)
    return repr(value)


def _plain_texts(values: Sequence[Value], *, quoted: bool) -> Texts:
    """`quoted` integers become strings."""
    if quoted:
        if None in values:
            return "%s", ["null" if value is None else f'"{value!r}"' for value in values]
        return '"%d"', values
    if None in values:
        return "%s", [_cell_text(value) for value in values]
    first = values[0]
    if isinstance(first, str):
        return "%s", [text_of(value) for value in values]  # type: ignore[arg-type]
    if isinstance(first, bytes):
        return "%s", [bytes_text(value) for value in values]  # type: ignore[arg-type]
    return ("%d" if isinstance(first, int) else "%r"), values


def column_texts(
    schema: TableSchema, columns: Sequence[Sequence[Value]], numbers: Numbers
) -> list[Texts]:
    """Every column of at least one row."""
    return [
        column_text(schema.columns[index].type, values, numbers)
        for index, values in enumerate(columns)
    ]


def column_text(type_text: str, values: Sequence[Value], numbers: Numbers) -> Texts:
    """A column of at least one row."""
    quoted = numbers == "strings" and is_wide_integer(ColumnType.parse(type_text))
    return _plain_texts(values, quoted=quoted)


def fields_template(names: Sequence[str], directives: Sequence[str]) -> str:
    """The inside of a JSON object, with directives for its values."""
    fields = (
        f"{text_of(name).replace('%', '%%')}:{directive}"
        for name, directive in zip(names, directives, strict=True)
    )
    return ",".join(fields)


def row_keys(schema: TableSchema, texts: Sequence[Texts]) -> list[bytes]:
    """The key columns of each row as a JSON object, in key order: `{"id":1}`. `texts` are those of all columns."""
    return _keys(schema, [texts[index] for index in schema.key])


def keys_of(batch: ChangeBatch, numbers: Numbers) -> list[bytes]:
    """`row_keys` of a batch's rows."""
    schema = batch.schema
    texts = [
        column_text(schema.columns[index].type, batch.columns[index], numbers)
        for index in schema.key
    ]
    return _keys(schema, texts)


def _keys(schema: TableSchema, texts: Sequence[Texts]) -> list[bytes]:
    template = "{" + fields_template(schema.key_names, [directive for directive, _ in texts]) + "}"
    return [(template % key).encode() for key in zip(*(values for _, values in texts), strict=True)]


def object_texts(names: Sequence[str], texts: Sequence[Texts]) -> list[str]:
    """Each row as a JSON object."""
    template = "{" + fields_template(names, [directive for directive, _ in texts]) + "}"
    return [template % row for row in zip(*(values for _, values in texts), strict=True)]


def record_bytes(record: Mapping[str, object]) -> bytes:
    """`record` as JSON without spaces."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()
