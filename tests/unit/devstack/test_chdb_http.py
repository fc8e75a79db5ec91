"""What the HTTP facade does before the engine is asked."""

import gzip

import lz4.frame  # type: ignore[import-untyped]
import pytest
import zstandard
from gravity_devstack.chdb_http import FORMAT, INSERT, identifier, inflate, literal


@pytest.mark.parametrize(
    ("encoding", "compress"),
    [("lz4", lz4.frame.compress), ("zstd", zstandard.compress), ("gzip", gzip.compress)],
)
def test_every_frame_of_a_body_is_read(encoding: str, compress: object) -> None:
    assert callable(compress)
    body = b"".join(compress(part) for part in (b"first ", b"second ", b"third"))
    assert inflate(body, encoding) == b"first second third"


def test_an_unknown_encoding_is_refused() -> None:
    with pytest.raises(ValueError, match="br is not known"):
        inflate(b"x", "br")


def test_an_insert_is_cut_between_statement_and_data() -> None:
    sql = b"INSERT INTO `db`.`table` (a, b) FORMAT JSONEachRow\n{}"
    found = INSERT.match(sql)
    assert found
    assert found["name"] == b"JSONEachRow"
    assert sql[: found.start("word")] == b"INSERT INTO `db`.`table` (a, b) "
    assert sql[found.end() :] == b"{}"
    assert not INSERT.match(b"INSERT INTO t SELECT 1")


def test_the_format_word_at_the_end_is_found() -> None:
    found = FORMAT.search(b"SELECT 1 FORMAT Native SETTINGS a = 1;")
    assert found
    assert found["name"] == b"Native"
    assert not FORMAT.search(b"SELECT 'FORMAT x' AS y")


def test_names_and_texts_are_quoted() -> None:
    assert identifier("a`b\\") == "`a\\`b\\\\`"
    assert literal("it's") == "'it\\'s'"
