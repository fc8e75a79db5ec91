"""What a transform may say, and where it is told that it may not."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from gravity.config import ConfigError, parse_config
from gravity.transform.rule import AddedColumn, CastColumn, TransformPlan

HEAD = """\
sources: [{name: shop}]
targets:
  - name: w
    type: mysql
    transforms:
      - tables: "orders_{part}"
"""
"""Six lines; what is under test begins on line 7."""


def plan(tail: str) -> TransformPlan:
    [transform] = parse_config(HEAD + tail, "g.yaml", env={}).config.targets[0].transforms
    return transform.plan()


def test_everything_a_transform_can_say() -> None:
    found = plan("""\
        exclude: [orders_tmp]
        sources: shop
        rename: {database: dw, table: "orders_{part}"}
        missing_columns: ignore
        columns:
          rename: {cust_no: customer-id}
          add:
            load_by: gravity
            a_b: {value: "{source}", type: VARCHAR(9), key: true}
            n: 5
            r: 1.5
            t: true
            x_y: {expression: a_b + 1, type: decimal(5)}
          drop: note
          cast: {q_q: bigint, z_z: {type: int unsigned, or_null: true}}
          mask: {p_p: last 4}
          hash: [e_e]
""")
    assert found == TransformPlan(
        tables=("orders_{part}",),
        exclude=("orders_tmp",),
        sources=("shop",),
        database="dw",
        table="orders_{part}",
        rename=(("cust_no", "customer-id"),),
        add=(
            AddedColumn("load_by", "varchar(255)", "gravity"),
            AddedColumn("a_b", "varchar(9)", "{source}", key=True),
            AddedColumn("n", "bigint", 5),
            AddedColumn("r", "double", 1.5),
            AddedColumn("t", "tinyint", True),
            AddedColumn("x_y", "decimal(5,0)", None, "a_b + 1"),
        ),
        drop=("note",),
        cast=(CastColumn("q_q", "bigint"), CastColumn("z_z", "int unsigned", True)),
        mask=(("p_p", "last 4"),),
        hash=("e_e",),
        lenient=True,
    )
    assert TransformPlan.from_json(found_json(found)) == found


def found_json(rule: TransformPlan) -> dict[str, object]:
    record: dict[str, object] = json.loads(json.dumps(asdict(rule)))
    return record


COLUMNS = "        columns:\n          "


@pytest.mark.parametrize(
    ("tail", "place", "said"),
    [
        ("        rename: {table: '{prt}'}", "7: targets[0].transforms[0].rename.table", "{prt} is not captured; known are {database}, {part}, {source}, {table}"),
        ("        rename: {table: '{'}", "7: targets[0].transforms[0].rename.table", "braces do not match"),
        ("        sources: shp", "7: targets[0].transforms[0].sources", "no source called shp is declared (did you mean shop?)"),
        (COLUMNS + "add: {a: '{prt}'}", "8: targets[0].transforms[0].columns.add.a", "{prt} is not captured"),
        (COLUMNS + "add: {a: {expression: 'b +', type: int}}", "8: targets[0].transforms[0].columns.add.a.expression", "not an SQL expression"),
        (COLUMNS + "add: {a: {expression: 'NOW()', type: datetime}}", "8: targets[0].transforms[0].columns.add.a.expression", "a replay would decide otherwise"),
        (COLUMNS + "add: {a: {expression: b}}", "8: targets[0].transforms[0].columns.add.a", "an expression needs a type"),
        (COLUMNS + "add: {a: {type: int}}", "8: targets[0].transforms[0].columns.add.a", "needs a value or an expression"),
        (COLUMNS + "add: {a: {expression: b, type: int, key: true}}", "8: targets[0].transforms[0].columns.add.a.key", "must be the same for every row"),
        (COLUMNS + "add: {a: {value: 300, type: tinyint}}", "8: targets[0].transforms[0].columns.add.a", "'300' does not fit tinyint"),
        (COLUMNS + "add: {_gravity_x: 1}", "8: targets[0].transforms[0].columns.add._gravity_x", "are ours"),
        (COLUMNS + "add: {a: 1, A: 2}", "8: targets[0].transforms[0].columns.add", "given twice, in another case"),
        (COLUMNS + "rename: {a: x, b: X}", "8: targets[0].transforms[0].columns.rename", "two columns would be called X"),
        (COLUMNS + "cast: {a: number}", "8: targets[0].transforms[0].columns.cast.a", "'number' is no type"),
        (COLUMNS + "mask: {a: middle}", "8: targets[0].transforms[0].columns.mask.a", "write all, first N or last N"),
        (COLUMNS + "hash: [a]\n          mask: {A: all}", "8: targets[0].transforms[0].columns.hash", "column a stands under mask too"),
        (COLUMNS + "drop: [a, a]", "8: targets[0].transforms[0].columns.drop", "given twice"),
        (COLUMNS + "drop: a\n          rename: {a: b}", "9: targets[0].transforms[0].columns.rename.a", "column a is dropped"),
        (COLUMNS + "hsh: a", "8: targets[0].transforms[0].columns.hsh", "unknown key (did you mean hash?)"),
        ("        missing-columns: skip", "7: targets[0].transforms[0].missing-columns", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(tail: str, place: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(tail)
    [problem] = caught.value.problems
    assert str(problem).startswith(f"g.yaml:{place}"), problem
    assert said in str(problem)


@pytest.mark.parametrize("pattern", ["orders_{", "{table}", "{a}.{a}", ""])
def test_a_pattern_that_can_not_be_read_is_refused(pattern: str) -> None:
    text = HEAD.replace("orders_{part}", pattern)
    with pytest.raises(ConfigError, match=r"g\.yaml:6: targets\[0\]\.transforms\[0\]\.tables"):
        parse_config(text, "g.yaml", env={})


def test_patterns_capture_what_the_names_use() -> None:
    text = HEAD.replace('"orders_{part}"', '["a_{x}_{y}", "b_{x}"]')
    rename = "        rename: {table: '%s'}\n"
    assert parse_config(text + rename % "o_{x}", env={}).config.targets[0].transforms
    with pytest.raises(ConfigError, match=r"\{y\} is not captured in every pattern"):
        parse_config(text + rename % "o_{y}", env={})
