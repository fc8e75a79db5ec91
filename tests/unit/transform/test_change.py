"""A source's ALTER as its transformed table sees it: what the rows would have become, and no more."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import Column, TableSchema
from gravity.schema_change import ColumnAction, ColumnChange, RowsAfter, SchemaChange, TableAction
from gravity.transform.change import translated
from gravity.transform.rule import AddedColumn, CastColumn, TransformPlan
from gravity.transform.shape import transformation

RULE = TransformPlan(
    tables=("orders",),
    rename=(("cust_no", "customer_id"),),
    add=(
        AddedColumn("origin", "varchar(20)", "{source}", key=True),
        AddedColumn("one", "int", None, "1"),
    ),
    drop=("note",),
    cast=(CastColumn("qty", "bigint"),),
    mask=(("phone", "all"),),
    hash=("email",),
    lenient=True,
)
HASH = ("ascii", "ascii_bin")


def text(name: str, size: int = 20) -> Column:
    return Column(name, f"varchar({size})", charset="utf8mb4", collation="utf8mb4_bin")


def change(*columns: ColumnChange, key: tuple[str, ...] = (), action: TableAction = TableAction.ALTER) -> SchemaChange:  # fmt: skip
    return SchemaChange("s", "shop", "orders", action, "ALTER", "shop", "g", "1:1:4:0", 5, 0, columns, RowsAfter.FILLED, key)  # fmt: skip


ADD, DROP, RENAME, MODIFY = ColumnAction


@pytest.mark.parametrize(
    ("done", "seen"),
    [
        (
            ColumnChange(ADD, "x", column=text("x"), default="d", after="cust_no"),
            [ColumnChange(ADD, "x", column=text("x"), default="d", after="customer_id")],
        ),
        (
            ColumnChange(ADD, "x", column=text("x"), after="note"),
            [ColumnChange(ADD, "x", column=text("x"))],
        ),
        (ColumnChange(ADD, "x", column=text("x"), after=""), [ColumnChange(ADD, "x", column=text("x"), after="")]),
        (
            ColumnChange(ADD, "Phone", column=text("Phone"), default="0171"),
            [ColumnChange(ADD, "Phone", column=text("Phone"), default="****")],
        ),
        (
            ColumnChange(ADD, "email", column=text("email"), default="a"),
            [
                ColumnChange(
                    ADD, "email", column=Column("email", "char(64)", True, *HASH),
                    default="ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
                )
            ],
        ),
        (ColumnChange(ADD, "qty", column=Column("qty", "int"), default="3"), [ColumnChange(ADD, "qty", column=Column("qty", "bigint"), default="3")]),
        (ColumnChange(ADD, "note", column=text("note")), []),
        (ColumnChange(DROP, "note"), []),
        (ColumnChange(DROP, "CUST_NO"), [ColumnChange(DROP, "customer_id")]),
        (ColumnChange(DROP, "x"), [ColumnChange(DROP, "x")]),
        (ColumnChange(RENAME, "x", "y"), [ColumnChange(RENAME, "x", "y")]),
        (ColumnChange(RENAME, "cust_no", "y"), [ColumnChange(RENAME, "customer_id", "y")]),
        (ColumnChange(RENAME, "x", "cust_no"), [ColumnChange(RENAME, "x", "customer_id")]),
        (ColumnChange(RENAME, "cust_no", "customer_id"), []),
        (ColumnChange(RENAME, "x", "note"), [ColumnChange(DROP, "x")]),
        (ColumnChange(RENAME, "note", "x"), []),
        (
            ColumnChange(MODIFY, "note", "x", column=text("x")),
            [ColumnChange(ADD, "x", column=text("x"))],
        ),
        (
            ColumnChange(MODIFY, "cust_no", column=Column("cust_no", "bigint")),
            [ColumnChange(MODIFY, "customer_id", column=Column("customer_id", "bigint"))],
        ),
        (
            ColumnChange(MODIFY, "cust_no", "y", column=Column("y", "bigint")),
            [ColumnChange(MODIFY, "customer_id", "y", column=Column("y", "bigint"))],
        ),
        (
            ColumnChange(MODIFY, "email", column=text("email", 99)),
            [ColumnChange(MODIFY, "email", column=Column("email", "char(64)", True, *HASH))],
        ),
        (
            ColumnChange(MODIFY, "qty", column=Column("qty", "mediumint", nullable=False)),
            [ColumnChange(MODIFY, "qty", column=Column("qty", "bigint", nullable=False))],
        ),
        (ColumnChange(MODIFY, "phone", column=Column("phone", "json")), [ColumnChange(MODIFY, "phone", column=Column("phone", "json"))]),
    ],
)  # fmt: skip
def test_each_column_is_changed_as_the_target_knows_it(
    done: ColumnChange, seen: list[ColumnChange]
) -> None:
    assert list(translated(change(done), RULE).columns) == seen


def test_a_new_key_has_the_added_columns_in_it() -> None:
    assert translated(change(key=("cust_no", "id")), RULE).key == ("customer_id", "id", "origin")
    assert translated(change(), RULE).key == ()


def test_a_new_table_has_the_added_columns() -> None:
    made = translated(change(ColumnChange(ADD, "id", column=Column("id", "int")), action=TableAction.CREATE), RULE)  # fmt: skip
    assert [(c.name, c.column and c.column.type) for c in made.columns] == [
        ("id", "int"), ("origin", "varchar(20)"), ("one", "int"),
    ]  # fmt: skip
    assert translated(change(action=TableAction.CREATE), RULE).columns == ()


def test_what_it_is_named_by_stays() -> None:
    before = change(ColumnChange(DROP, "note"))
    assert translated(before, RULE) == replace(before, columns=())


NAMES = ("cust_no", "note", "phone", "email", "qty", "x", "y")
TYPES = ("int", "bigint", "varchar(20)", "varchar(40)")
actions = st.tuples(
    st.sampled_from(list(ColumnAction)), st.sampled_from(NAMES), st.sampled_from(NAMES), st.sampled_from(TYPES)
)  # fmt: skip


def declared(name: str, kind: str) -> Column:
    return text(name, int(kind[8:-1])) if kind.startswith("varchar") else Column(name, kind)


def apply(columns: dict[str, str], items: list[ColumnChange]) -> dict[str, str]:
    """Column → type after the changes, one after the other, as a target would apply them."""
    columns = dict(columns)
    for item in items:
        match item.action:
            case ColumnAction.ADD:
                assert item.column is not None
                columns.setdefault(item.name, item.column.type)
            case ColumnAction.DROP:
                columns.pop(item.name)
            case _:
                kind = columns.pop(item.name)
                columns[item.new_name or item.name] = item.column.type if item.column else kind
    return columns


@given(steps=st.lists(actions, max_size=8))
def test_the_target_of_the_changes_is_the_transform_of_the_changed_table(
    steps: list[tuple[ColumnAction, str, str, str]],
) -> None:
    """Whichever way round: the shape is transformed, or the changes to it are."""
    rule = replace(RULE, mask=(), hash=("phone", "email"), cast=())
    here = {"id": "int", "cust_no": "int", "x": "int", "note": "int"}
    there = {"id": "int", "customer_id": "int", "x": "int", "origin": "varchar(20)", "one": "int"}
    for action, name, other, kind in steps:
        new_name = other if action in (RENAME, MODIFY) and other not in here else ""
        if (action is ADD) == (name in here) or (action is RENAME and not new_name):
            continue
        if action is RENAME and {"phone", "email"} & {name, other}:
            continue  # A plain RENAME does not say what the column is: rows that follow do.
        if action is RENAME and name == "note":
            continue
        column = declared(new_name or name, kind) if action in (ADD, MODIFY) else None
        item = ColumnChange(action, name, new_name, column)
        here = apply(here, [item])
        there = apply(there, list(translated(change(item), rule).columns))
    schema = TableSchema("shop", "orders", tuple(declared(n, k) for n, k in here.items()), (0,))
    shaped = transformation(rule, "s", schema).schema
    assert {c.name: c.type for c in shaped.columns} == there
