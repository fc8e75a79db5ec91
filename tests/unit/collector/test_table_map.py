"""What servers wrote about tables that other tests do not have."""

from __future__ import annotations

from gravity_collector.table_map import Collation, dialect_of, parse_table_map

COLLATIONS = {
    8: Collation("latin1_swedish_ci", "latin1", 1),
    46: Collation("utf8mb4_bin", "utf8mb4", 4),
    63: Collation("binary", "binary", 1),
}
VECTORS = bytes.fromhex(
    "700000000000010007766563746f7273000174000503f20ff20f060409000424001e01010003043f083f2e0d0203"
    "02040b02696401760161017701620801000c01f8"
)
"""MySQL 9.7.4: (id int, v vector(3), a varchar(9) latin1, w vector(2), b varchar(9) utf8mb4)."""


def test_vectors_take_their_place_in_the_list_of_character_sets() -> None:
    columns = parse_table_map(VECTORS, COLLATIONS, dialect_of("9.7.4")).schema.columns
    assert [(column.type, column.charset) for column in columns] == [
        ("int", None),
        ("vector(3)", None),
        ("varchar(9)", "latin1"),
        ("vector(2)", None),
        ("varchar(9)", "utf8mb4"),
    ]
