"""Rows of dead letters as requests to read them again at their source."""

from __future__ import annotations

from gravity.batch import ChangeBatch, Column, TableSchema, Transaction, Value
from gravity.codec import encode_batch
from gravity.config import parse_config
from gravity.plan import RoutingPlan
from gravity.plan_compiler import compile_plan
from gravity.record_log import Entry
from gravity.reread import ROWS_A_REQUEST, rereads

SCHEMA = TableSchema(
    "shop", "or`ders", (Column("id", "int"), Column("na`me", "varchar(9)")), (1, 0)
)
PLAIN = TableSchema("shop", "plain", (Column("id", "int"),), (0,))


def letter(number: int, schema: TableSchema, op: str, row: tuple[Value, ...]) -> Entry:
    batch = ChangeBatch("a", 1, schema, [Transaction("", 1, 4, 5, 5)], op.encode(), [0], [0],
                        [[cell] for cell in row])  # fmt: skip
    return Entry(f"l{number}", number, {"target": "t", "value": encode_batch(batch)})


def plan(transforms: str = "[]") -> RoutingPlan:
    text = f"sources: [{{name: a}}]\ntargets: [{{name: t, type: mysql, transforms: {transforms}}}]"
    return compile_plan(parse_config(text, env={}).config, [])


def test_rows_are_named_by_their_keys_whatever_is_in_them() -> None:
    entries = [
        letter(1, SCHEMA, "I", (7, "it's")),
        letter(2, SCHEMA, "U", (8, "")),
        letter(3, PLAIN, "I", (-1,)),
        letter(4, PLAIN, "D", (9,)),
        Entry("l5", 5, {"target": "t", "value": b"junk"}),
    ]
    first, second = rereads(entries, plan())
    assert (first.source, first.database, first.table) == ("a", "shop", "or`ders")
    assert first.where == (
        "(`na``me` = _utf8mb4 0x69742773 AND `id` = 7) OR (`na``me` = '' AND `id` = 8)"
    )
    assert [entry.name for entry in first.letters] == ["l1", "l2"]
    assert (second.where, [entry.name for entry in second.letters]) == ("(`id` = -1)", ["l3"])


def test_a_request_holds_so_many_rows_and_each_row_once() -> None:
    entries = [letter(n, PLAIN, "I", (n,)) for n in range(ROWS_A_REQUEST + 1)]
    sizes = [len(reread.letters) for reread in rereads([*entries, entries[-1]], plan())]
    assert sizes == [ROWS_A_REQUEST, 2]
    assert [reread.where.count("=") for reread in rereads([*entries, entries[-1]], plan())][-1] == 1


def test_a_row_is_named_at_its_source_as_the_source_names_it() -> None:
    transforms = "[{tables: 'shop.pl{n}', rename: {table: p}, columns: {rename: {id: number}, add: {part: {value: '{n}', key: true}}}}]"
    shaped = TableSchema(
        "shop", "plain", (Column("number", "int"), Column("part", "varchar(9)")), (0, 1)
    )
    [reread] = rereads([letter(1, shaped, "I", (7, "ain"))], plan(transforms))
    assert (reread.table, reread.where) == ("plain", "(`id` = 7)")
