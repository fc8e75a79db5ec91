from __future__ import annotations

import random
from typing import Any

from gravity_sink_mysql.statement import (
    Layout,
    latest_per_key,
    literal,
    quote_name,
    row_texts,
    spans,
)
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import ChangeBatch, Value
from gravity.codec import decode_batch
from gravity.testing.target_log import TargetLog, table

ORDERS = table("shop.orders", [("id", "int"), ("part", "varchar(9)"), ("n", "int")], ["id", "part"])
SHORT = table("shop.short", [("id", "int"), ("n", "int")], ["id"])


def parse(text: str) -> list[Value]:
    """The values of one row text, read as a server in NO_BACKSLASH_ESCAPES would."""
    assert text[0] == "("
    assert text[-1] == ")"
    values: list[Value] = []
    rest = text[1:-1]
    while rest or len(values) == 0:
        if rest.startswith(("'", "X'")):
            quoted = rest[rest.index("'") + 1 :]
            end = 0
            while quoted[end] != "'" or quoted[end + 1 : end + 2] == "'":
                end += 2 if quoted[end] == "'" else 1
            body = quoted[:end].replace("''", "'")
            values.append(bytes.fromhex(body) if rest[0] == "X" else body)
            rest = quoted[end + 1 :]
        else:
            word, comma, tail = rest.partition(",")
            if word == "NULL":
                values.append(None)
            else:
                values.append(int(word) if word.lstrip("-").isdigit() else float(word))
            rest = comma + tail
        assert rest[:1] in ("", ",")
        rest = rest[1:]
    return values


texts = st.text(st.sampled_from("'\"\\%,()") | st.characters(exclude_categories=["Cs"]))
cells: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(-(2**63), 2**64 - 1),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "text": texts,
    "bytes": st.binary(),
}


@given(st.data(), st.lists(st.sampled_from(sorted(cells)), min_size=1, max_size=5))
def test_row_texts_read_back_as_the_rows(data: st.DataObject, kinds: list[str]) -> None:
    row = st.tuples(*(st.none() | cells[kind] for kind in kinds))
    rows = data.draw(st.lists(row, max_size=5))
    assert [parse(text) for text in row_texts(rows)] == [list(r) for r in rows]
    assert row_texts(rows) == ["(" + ",".join(map(literal, r)) + ")" for r in rows]


def test_quotes_are_doubled_beside_null_and_without() -> None:
    assert row_texts([("it's", 1), ("x", 2)]) == ["('it''s',1)", "('x',2)"]
    assert row_texts([("it's", 1), (None, 2)]) == ["('it''s',1)", "(NULL,2)"]
    assert row_texts([("%s\\", 1), (None, 2)]) == ["('%s\\',1)", "(NULL,2)"]


def test_names_are_quoted() -> None:
    assert quote_name("a`b") == "`a``b`"


def batch_of(schema: Any, changes: list[Any]) -> ChangeBatch:
    return decode_batch(TargetLog().rows(schema, changes)[1])


changes = st.lists(
    st.tuples(
        st.sampled_from("IUDRM"), st.integers(0, 4), st.sampled_from("ab"), st.integers(0, 9)
    ),
    min_size=1,
    max_size=40,
)


@given(changes, st.randoms(use_true_random=False))
def test_the_final_state_equals_one_by_one_application(
    changes: list[Any], draw: random.Random
) -> None:
    for schema, width in ((ORDERS, 2), (SHORT, 1)):
        made = [
            (op, (number, part, n) if width == 2 else (number, n))
            for op, number, part, n in changes
        ]
        expected: dict[Any, Any] = {("old",): "stays"}
        target = dict(expected)
        for op, row in made:
            expected.pop(row[:width], None)
            if op not in "DM":
                expected[row[:width]] = row
        cut = draw.randint(0, len(made))
        parts = [part for part in (made[:cut], made[cut:]) if part]
        wanted = tuple(range(len(schema.columns)))
        final = latest_per_key(
            ((i, batch_of(schema, part), wanted) for i, part in enumerate(parts)), schema.key
        )
        for _, _, key in final.removed():
            target.pop(key, None)
        origins, rows = final.upserted()
        for (message, index), row in zip(origins, rows, strict=True):
            assert parts[message][index][1] == row
            target[row[:width]] = row
        assert target == expected


def test_only_the_wanted_columns_are_taken() -> None:
    batch = batch_of(ORDERS, [("I", (1, "a", 7))])
    final = latest_per_key([(0, batch, (0, 1))], (0, 1))
    assert final.upserted()[1] == [(1, "a")]


@given(st.lists(st.integers(0, 50), max_size=30))
def test_spans_cover_all_within_limits(sizes: list[int]) -> None:
    found = list(spans(sizes, rows_max=4, bytes_max=60))
    assert [i for start, end in found for i in range(start, end)] == list(range(len(sizes)))
    for start, end in found:
        assert end - start <= 4
        assert sum(sizes[start:end]) <= 60 or end - start == 1


def test_statements_name_exactly_the_keys() -> None:
    layout = Layout("`d`.`t`", ("id", "part", "n"), ("id", "part"), (0, 1))
    assert layout.delete([(1, "a'"), (2, "b")]) == (
        "DELETE FROM `d`.`t` WHERE (`id`=1 AND `part`='a''') OR (`id`=2 AND `part`='b')"
    )
    assert layout.update((1, "a", None)) == (
        "UPDATE `d`.`t` SET `id`=1,`part`='a',`n`=NULL WHERE (`id`=1 AND `part`='a')"
    )
    single = Layout("`d`.`t`", ("id", "n"), ("id",), (0,))
    assert single.delete([(1,), (2,)]) == "DELETE FROM `d`.`t` WHERE `id` IN (1,2)"
