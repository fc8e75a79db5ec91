from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from gravity_sink_kafka.envelope import Envelope, envelopes, partition_of, topic_of
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import TableSchema
from gravity.codec import decode_batch
from gravity.errors import FatalError
from gravity.header import TargetHeader
from gravity.testing.target_log import Change, TargetLog, table

COLUMNS = [
    ("id", "bigint unsigned"),
    ('na%s"me', "varchar(99)"),
    ("amount", "decimal(12,2)"),
    ("f", "double"),
    ("b", "varbinary(99)"),
]
SCHEMA = table("shop.t", COLUMNS, ["id"])


def made(schema: TableSchema, changes: list[Change]) -> list[Envelope]:
    headers, value = TargetLog().rows(schema, changes)
    return envelopes(decode_batch(value), TargetHeader.from_kafka(headers))


texts = st.text(st.sampled_from("'\"\\%,{}") | st.characters(exclude_categories=["Cs"]))
rows = st.tuples(
    st.integers(0, 2**64 - 1),
    st.none() | texts,
    st.none()
    | st.decimals(allow_nan=False, allow_infinity=False, places=2).map(lambda d: f"{d:f}"),
    st.none() | st.floats(allow_nan=False, allow_infinity=False),
    st.none() | st.binary(),
)


@given(st.lists(rows, min_size=1, max_size=5))
def test_every_value_reads_back_exactly(values: list[tuple[Any, ...]]) -> None:
    for envelope, row in zip(made(SCHEMA, [("I", row) for row in values]), values, strict=True):
        record = json.loads(envelope.value)
        meta = record.pop("_gravity")
        if record["b"] is not None:
            record["b"] = base64.b64decode(record["b"])
        assert tuple(record.values()) == row
        assert list(record) == [name for name, _ in COLUMNS]
        assert json.loads(envelope.key) == {"id": row[0]}
        assert meta["op"] == "insert"


def test_integers_of_sixty_four_bits_are_strings_where_asked() -> None:
    columns = [("id", "bigint unsigned"), ("b", "bit(64)"), ("n", "int"), ("d", "decimal(3,2)")]
    schema = table("shop.n", columns, ["id"])
    changes: list[Change] = [("I", (2**64 - 1, 2**63, 7, "1.50")), ("I", (1, None, None, None))]
    headers, value = TargetLog().rows(schema, changes)
    batch, header = decode_batch(value), TargetHeader.from_kafka(headers)
    first, second = envelopes(batch, header, numbers="strings")
    assert first.key == b'{"id":"18446744073709551615"}'
    assert first.value.startswith(
        b'{"id":"18446744073709551615","b":"9223372036854775808","n":7,"d":"1.50",'
    )
    assert second.value.startswith(b'{"id":"1","b":null,"n":null,"d":null,')
    assert envelopes(batch, header)[0].key == b'{"id":18446744073709551615}'


def test_what_is_known_about_a_change() -> None:
    row = (1, "a", "1.00", 0.5, b"")
    first, second = made(SCHEMA, [("U", row), ("M", row)])
    assert json.loads(second.value)["_gravity"] == {
        "op": "delete",
        "source": "s1",
        "gtid": "0-1-1200",
        "position": "1:1:1200:0",
        "commit_us": 1_700_000_000_001_200,
        "version": (1 << 56) + (1 << 16) + 1,
    }
    assert (first.removes, second.removes) == (False, True)


def test_a_row_that_was_overtaken_says_so() -> None:
    headers, value = TargetLog().rows(SCHEMA, [("U", (1, "a", "1.00", 0.5, b""))])
    header = TargetHeader.from_kafka(headers).describing(late=True)
    (envelope,) = envelopes(decode_batch(value), header)
    assert json.loads(envelope.value)["_gravity"]["late"] is True


def test_a_key_of_several_columns_stands_in_key_order() -> None:
    schema = table("shop.t", [("a", "int"), ("b", "varchar(9)"), ("c", "int")], ["b", "a"])
    assert made(schema, [("I", (1, 'x"', 2))])[0].key == b'{"b":"x\\"","a":1}'


def test_the_partition_of_a_key_is_fixed() -> None:
    # Golden: the hash is part of what consumers may rely on.
    assert [partition_of(b'{"id":%d}' % n, 4) for n in range(8)] == [0, 3, 2, 1, 3, 2, 3, 3]


def test_topics_by_template() -> None:
    names = {"source": "s1", "target": "t1", "database": "shop", "table": "orders"}
    assert topic_of("{database}.{table}", **names) == "shop.orders"
    assert topic_of("cdc-{target}-{source}-{table}", **names) == "cdc-t1-s1-orders"
    with pytest.raises(FatalError, match="can't be a topic's name"):
        topic_of("{table}", **{**names, "table": "bestellung für"})


def test_a_column_with_our_objects_name_is_refused() -> None:
    schema = table("shop.t", [("id", "int"), ("_gravity", "int")], ["id"])
    with pytest.raises(FatalError, match="column _gravity"):
        made(schema, [("I", (1, 2))])
