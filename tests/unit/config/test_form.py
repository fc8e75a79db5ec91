"""Who writes a part in another form is shown the form to copy, and what is shown is right."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo

from gravity.config import ConfigError, parse_config
from gravity.config.form import flow_text
from gravity.config.model import Model
from gravity.config.tree import read_tree
from gravity.config.walk import spelt_fields

HEAD = """\
sources:
  - {{name: shop, host: h, username: u{source}}}
targets:
  - {{name: w, type: mysql, host: h, username: u{target}}}
  - {{name: k, type: kafka, brokers: ["b:9"]{kafka}}}
{tail}
"""


RULE = "{{tables: a, strategy: source-priority, {0}}}"
PLACES = {
    "source": {"source": ", {0}"},
    "target": {"target": ", {0}"},
    "kafka": {"kafka": ", {0}"},
    "transform": {"target": ", transforms: [{{tables: a, {0}}}]"},
    "event": {"kafka": ", events: [{{tables: a, {0}}}]"},
    "rule": {"tail": f"conflict-resolution: {{{{rules: [{RULE}]}}}}"},
    "document": {"tail": "{0}"},
}


def file_with(place: str, text: str) -> str:
    parts = dict.fromkeys(("source", "target", "kafka", "tail"), "")
    return HEAD.format(**parts | {key: form.format(text) for key, form in PLACES[place].items()})


@pytest.mark.parametrize(
    ("place", "text", "wanted"),
    [
        ("source", "semi-sync: w", "such as {targets: [warehouse]}"),
        ("source", "rate-limit: 100", "such as {rows-per-s-max: 10000}"),
        ("source", "hosts: db1", "must be a list, such as [db1:3306, db2:3306]"),
        ("target", "tls: required", "such as {mode: required}"),
        ("target", "order-by: [users]", "such as {orders: 'group:sales'}"),
        (
            "target", "transforms: {users: {}}",
            "must be a list, such as [{tables: users, columns: {drop: [phone]}}]",
        ),
        ("target", "transforms: [users]", "such as {tables: users, columns: {drop: [phone]}}"),
        ("transform", "rename: dw.users", "such as {database: dw, table: users}"),
        (
            "transform", "rename: {phone: tel}",
            (
                "rename.phone: unknown key; known here: database, table; or say columns: {rename: "
                "{phone: tel}}"
            ),
        ),
        (
            "transform", "drop: x",
            "drop: unknown key; it stands under columns: {drop: [phone]}",
        ),
        ("transform", "columns: {mask: phone}", "such as {phone: last 4}"),
        ("transform", "columns: {add: origin}", "such as {origin: {value: '{source}'}}"),
        ("event", "event-type: x", "such as {insert: user_created}"),
        ("event", "timestamp: created_at", "such as {from: created_at, as: epoch-seconds}"),
        ("event", "fields: [id, name, id]", "fields: column id is given twice"),
        ("rule", "constraint: dlq", "such as {fk-parent-missing: dlq}"),
        (
            "rule", "constraint: {fk-parent-missing: 10m}",
            "fk-parent-missing: say dlq, hold, or {park: 10m, then: dlq}",
        ),
        (
            "rule", "constraint: {unique-secondary: park}",
            "unique-secondary: say dlq, hold, or {park: 10m, then: dlq}",
        ),
        (
            "rule", "constraint: {unique-secondary: 10}",
            "unique-secondary: say dlq, hold, or {park: 10m, then: dlq}",
        ),
        ("rule", "match: users", "match: must be a mapping of keys, such as {target: shop, table: users}"),
        ("document", "merge: [a]", "merge: must be a mapping of keys, such as {strategy: time-ordered}"),
        ("document", "merge: time-orderd", "by-table, time-ordered (did you mean time-ordered?)"),
        (
            "source", "tables: 'users, orders'",
            "tables: bad pattern: a comma: several patterns are a list, [users, orders]; a comma in a name is [,]",
        ),
        ("source", "databases: 'a,b'", "are a list, [a, b]; a comma in a name is [,]"),
        ("target", "exclude: ['a,b']", "are a list, [a, b]; a comma in a name is [,]"),
        ("target", "transforms: [{tables: 'a, b'}]", "are a list, [a, b]; a comma in a name is [,]"),
        ("target", "order-by: {'a,b': table}", "are a list, [a, b]; a comma in a name is [,]"),
        ("document", "failover: w", "such as {primary: [db1], backup: [db2]}"),
    ],
)  # fmt: skip
def test_an_error_shows_the_form_to_copy(place: str, text: str, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(file_with(place, text), "g.yaml", env={})
    (found,) = caught.value.problems
    assert str(found).endswith(wanted)


@pytest.mark.parametrize("word", ["parallel", "by-table", "time-ordered"])
def test_a_word_alone_says_in_which_order_sources_are_merged(word: str) -> None:
    text = file_with("document", f"merge: {word}")
    assert parse_config(text).config.merge.strategy == word


def test_a_comma_in_a_name_is_written_as_a_set() -> None:
    source = parse_config(file_with("source", "tables: ['a[,]b', 'c[1,2]']")).config.sources[0]
    assert source.selects("shop", "a,b")
    assert source.selects("shop", "c2")


def fields(model: type[BaseModel] = Model) -> Iterator[tuple[str, FieldInfo]]:
    for child in model.__subclasses__():
        for key, field in spelt_fields(child).items():
            yield f"{child.__name__}.{key}", field
        yield from fields(child)


def has_structure(annotation: Any) -> bool:
    """Whether a mapping, or a list of them, is asked for."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType, tuple):
        return any(map(has_structure, get_args(annotation)))
    if origin is Annotated:
        return has_structure(get_args(annotation)[0])
    return origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel))


FIELDS = dict(fields())
SHOWN = {name: field for name, field in FIELDS.items() if field.examples}


@pytest.mark.parametrize("name", [n for n, f in FIELDS.items() if has_structure(f.annotation)])
def test_every_part_has_an_example_to_show(name: str) -> None:
    assert FIELDS[name].examples


@pytest.mark.parametrize("name", SHOWN)
def test_what_is_shown_is_taken(name: str) -> None:
    field = SHOWN[name]
    for example in field.examples or ():
        checked(field).validate_python(example)
        assert read(flow_text(example)) == example


def checked(field: FieldInfo) -> TypeAdapter[Any]:
    if not field.metadata:
        return TypeAdapter(field.annotation)
    return TypeAdapter(Annotated[field.annotation, *field.metadata])


def read(text: str) -> Any:
    tree, problems = read_tree(f"key: {text}", "f")
    assert not problems
    plain = tree.plain()
    assert isinstance(plain, dict)
    return plain["key"]


words = st.one_of(
    st.booleans(),
    st.integers(),
    st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    st.sampled_from(
        ["yes", "1e3", "0x1", "12:30", "a: b", "#", "1_0", "~", "null", ".5", "2024-01-01"]
    ),
)


@given(
    st.recursive(
        words,
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["a", "b-c"]), inner),
    )
)
def test_a_value_on_one_line_reads_as_itself(value: Any) -> None:
    assert read(flow_text(value)) == value
