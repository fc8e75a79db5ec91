"""`gravity explain`, as a user runs it: the rules, the ways, and what is wrong with the question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gravity.batch import Column, TableSchema
from gravity.errors import FatalError
from gravity.explanation import cells_of
from tests.unit.cli.test_commands import gravity, written

RULES = """
sources: [{name: s, host: h, username: u, password: p}]
targets: [{name: a, type: mysql}, {name: b, type: mysql}, {name: c, type: kafka, brokers: k, exclude: orders}]
routing-rules:
  orders: {strategy: hash, key: user_id, targets: [{target: a, residues: [0, 1]}, {target: b, residues: [2, 3]}]}
routing: [{source-tables: orders, targets: [c]}]
distribution-rules: [{condition: "amount > 100", targets: b}]
"""


def explained(tmp_path: Path, *words: str) -> Any:
    done = gravity(
        "explain", written(tmp_path, RULES), "--source", "s", "--table", "orders", "--offline", "--json", *words
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def sent(answer: Any) -> list[tuple[str, str]]:
    return [(way["target"], way["op"]) for way in answer["sent"]]


def test_every_rule_says_what_it_computed(tmp_path: Path) -> None:
    answer = explained(tmp_path, "--row", '{"id": 1, "user_id": 6, "amount": 20.5}')
    assert [(r["target"], r["rule"], r["now"], r["why"]) for r in answer["rules"]] == [
        ("a", "orders: user_id % 4 in (0, 1)", False, "6 % 4 = 2, so b"),
        ("b", "orders: user_id % 4 in (2, 3)", True, "6 % 4 = 2, so b"),
        ("b", "amount > 100", False, "amount is 20.5"),
        ("c", "tables of the target", False, "the target's `tables` and `exclude` leave the table out"),
    ]  # fmt: skip
    assert sent(answer) == [("b", "insert")]


def test_a_changed_shard_key_is_a_delete_there_and_the_row_here(tmp_path: Path) -> None:
    answer = explained(tmp_path, "--row", '{"id": 1, "user_id": 6}', "--before", '{"user_id": 5}')
    assert sent(answer) == [("a", "delete"), ("b", "update")]
    assert answer["rules"][0]["before"] is True


def test_a_deleted_row_goes_where_it_was(tmp_path: Path) -> None:
    assert sent(explained(tmp_path, "--row", '{"id": 1, "user_id": 4}', "--delete")) == [
        ("a", "delete")
    ]


SHAPED = """
sources: [{name: s, host: h, username: u, password: p}]
targets:
  - name: w
    type: mysql
    transforms:
      - tables: "orders_{part}"
        rename: {table: orders}
        columns:
          rename: {cust: customer}
          add: {part: {value: "{part}", key: true}, double: {expression: cust * 2, type: int}}
          mask: {phone: last 2}
"""


def test_a_row_is_shown_as_the_target_gets_it(tmp_path: Path) -> None:
    words = ("--source", "s", "--table", "orders_07", "--offline")
    row = ("--row", '{"id": 1, "cust": 4, "phone": "0171"}')
    done = gravity("explain", written(tmp_path, SHAPED), *words, "--json", *row)
    [way] = json.loads(done.stdout)["sent"]
    assert (way["table"], way["key"]) == ("app.orders", {"id": 1, "part": "07"})
    assert way["row"] == {"id": 1, "customer": 4, "phone": "**71", "part": "07", "double": 8}
    shown = gravity("explain", str(tmp_path / "gravity.yaml"), *words, *row).stdout
    assert "customer=4" in shown.replace("\n", "")
    assert "0171" not in shown
    lacking = gravity(
        "explain", str(tmp_path / "gravity.yaml"), *words, "--row", '{"id": 1, "cust": 4}'
    )
    assert "transform of orders_{part}: the table has no column phone" in lacking.stderr
    assert "target w, source s, table app.orders_07" in lacking.stderr


def test_a_plan_shows_what_becomes_of_columns(tmp_path: Path) -> None:
    done = gravity("plan", written(tmp_path, SHAPED), "--json")
    [flow] = json.loads(done.stdout)["flows"]
    assert "".join(flow["columns"]) == (
        "orders_{part} → {database}.orders: cust → customer; + part = '{part}' (key); + double = cust * 2;"
        " phone: masked, last 2"
    )


def test_charts_are_for_readers(tmp_path: Path) -> None:
    done = gravity(
        "explain", written(tmp_path, RULES), "--source", "s", "--table", "orders", "--offline",
        "--row", '{"id": 1, "user_id": 4, "amount": 500}',
    )  # fmt: skip
    assert done.returncode == 0
    assert "4 % 4 = 0, so a" in done.stdout
    assert "types are guessed" in done.stderr


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("--source", "t", "--row", "{}"), "no source is called 't'", 2),
        (("--source", "s", "--row", "[1]"), "--row: not a JSON object", 2),
        (("--source", "s", "--row", "{id: 1}"), "--row: not JSON", 2),
        (("--source", "s", "--row", "{}"), "--row: a row without columns", 2),
        (("--source", "s", "--row", '{"id": 1}'), "decides by column user_id", 78),
    ],
)
def test_a_question_that_can_t_be_answered_is_told_why(
    tmp_path: Path, words: tuple[str, ...], said: str, code: int
) -> None:
    done = gravity("explain", written(tmp_path, RULES), "--table", "orders", "--offline", *words)
    assert done.returncode == code
    assert said in done.stderr


def test_cells_are_as_a_batch_carries_them() -> None:
    names = {"a": "int", "b": "double", "c": "decimal(9,2)", "d": "json", "e": "varbinary(9)"}
    schema = TableSchema("app", "t", tuple(Column(n, t) for n, t in names.items()), (0,))
    row = {"A": True, "b": 1, "c": "1.50", "d": {"x": [1]}, "e": {"hex": "00ff"}}
    assert cells_of(schema, row) == [1, 1.0, "1.50", '{"x": [1]}', b"\x00\xff"]
    assert cells_of(schema, {}) == [None] * 5
    with pytest.raises(FatalError, match=r"'x' is no value of column a \(int\)"):
        cells_of(schema, {"a": "x"})
    with pytest.raises(FatalError, match="the table has no column z"):
        cells_of(schema, {"z": 1})
