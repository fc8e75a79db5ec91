"""The source's catalog, from rows as information_schema gives them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from gravity.catalog import CatalogTable, read_catalog
from gravity.errors import FatalError

ID = ("d", "t", "id", "int", "int", None, 10, 0, None, "NO", None, None)
MOOD = ("d", "t", "mood", "enum", "enum('?','a','?')", 1, None, None, None, "NO", "utf8mb4", "utf8mb4_bin")  # fmt: skip


def catalog(*keys: str) -> dict[tuple[str, str], CatalogTable]:
    def query(sql: str) -> Sequence[Sequence[object]]:
        if "STATISTICS" in sql:
            return [("d", "t", "PRIMARY", key, None, "") for key in keys]
        return [ID, MOOD]

    return read_catalog(query, lambda *_: True, repr)


def test_labels_that_the_catalog_may_have_lost_make_a_column_of_text() -> None:
    column = catalog("id")["d", "t"].schema.columns[1]
    assert (column.type, column.charset) == ("varchar(1)", "utf8mb4")


def test_in_a_key_such_labels_are_refused_by_name() -> None:
    with pytest.raises(FatalError, match=r"key column mood .*not known \[table d\.t\]"):
        catalog("id", "mood")
