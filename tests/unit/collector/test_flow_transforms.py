"""A table that a target's transform does not fit is not read on: the log must hold nothing that can't be routed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from gravity_collector.flow import Flows, no_keys

from gravity.batch import Column, TableSchema
from gravity.config import parse_config
from gravity.errors import FatalError
from gravity.plan_compiler import compile_plan

TEXT = """
sources: [{name: s, host: h, username: u, password: p}]
targets:
  - name: w
    type: mysql
    transforms:
      - {tables: "orders_*", rename: {table: orders}, columns: {mask: {phone: all}, add: {origin: x}}}
"""
SCHEMA = TableSchema(
    "shop",
    "orders_1",
    (Column("id", "int", nullable=False), Column("phone", "varchar(20)")),
    (0,),
)


def flows() -> Flows:
    return Flows(compile_plan(parse_config(TEXT, env={}).config, []), "s", no_keys)


def test_a_table_that_fits_is_read() -> None:
    assert flows().of_schema(SCHEMA).schema is SCHEMA


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ((SCHEMA.columns[0], Column("telephone", "varchar(20)")), "has no column phone"),
        ((SCHEMA.columns[0], Column("phone", "int")), "mask takes texts, and phone is int"),
        ((*SCHEMA.columns, Column("origin", "int")), "two columns would be called origin"),
    ],
    ids=["renamed", "another type", "a name that is taken"],
)
def test_a_table_that_changed_so_that_the_transform_fails_halts_by_name(
    columns: tuple[Column, ...], said: str
) -> None:
    mine = flows()
    mine.of_schema(SCHEMA)
    with pytest.raises(FatalError, match=said) as caught:
        mine.of_schema(replace(SCHEMA, columns=columns))
    assert caught.value.where == "target w, source s, table shop.orders_1"
    assert "gravity reload" in caught.value.remedy


def test_another_table_under_the_same_name_must_have_the_same_key() -> None:
    mine = flows()
    mine.of_schema(SCHEMA)
    mine.of_schema(replace(SCHEMA, table="orders_2"))
    named = (Column("id", "varchar(9)", nullable=False), SCHEMA.columns[1])
    with pytest.raises(FatalError, match="their keys differ"):
        mine.of_schema(replace(SCHEMA, table="orders_3", columns=named))
