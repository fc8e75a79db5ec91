"""Every character of every character set: the collector's decoders beside the servers' own tables.

Each sequence of one byte and of two, and for EUC-JP of three, is stored in a column of the character
set; what the server keeps as it is, is a character, and the server says what it is in UTF-8.
"""

from __future__ import annotations

from collections.abc import Iterator

from gravity_collector.charset import decoder_of
from gravity_devstack import Stack

from tests.prove.report import Report
from tests.prove.source_types import SOURCES, server_of
from tests.prove.type_world import Server, find_server

BATCH = 8000
DATABASE = "charsets"
_ONE_TO_FOUR = ("utf8", "utf8mb3", "utf8mb4")
_EUC = ("ujis", "eucjpms")
_HALF_SURROGATES = range(0xD800, 0xE000)


def run(report: Report) -> None:
    """Asks every server that this machine can have."""
    with Stack() as stack:
        for name, specification in SOURCES.items():
            server = find_server(stack, name, specification)
            if server is not None:
                report.servers.add(server_of(server))
                pairs, wrong = compare(server)
                report.line(
                    f"character sets of {server_of(server)}",
                    pairs=pairs,
                    differences=len(wrong),
                    examples=wrong[:20],
                )


def compare(server: Server) -> tuple[int, list[str]]:
    """How many characters were compared, and which differ."""
    server.write([f"DROP DATABASE IF EXISTS {DATABASE}", f"CREATE DATABASE {DATABASE}"])
    pairs, wrong = 0, []
    with server.cursor() as cursor:
        cursor.execute("SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS")
        charsets = [(_text(name), int(size)) for name, size in cursor.fetchall()]
    for charset, size in charsets:
        if charset == "binary":
            continue
        decode = decoder_of(charset)
        for raw, text in _characters(server, charset, size):
            pairs += 1
            try:
                found = decode(raw)
            except UnicodeDecodeError:
                found = "an error"
            if found != text:
                wrong.append(f"{charset} {raw.hex()}: {text!r}, found {found!r}")
    server.write([f"DROP DATABASE {DATABASE}"])
    return pairs, wrong


def _characters(server: Server, charset: str, size: int) -> Iterator[tuple[bytes, str]]:
    """What the server stores unchanged, and what it is as text."""
    table = f"{DATABASE}.{charset}"
    all_bytes = list(_sequences(charset, size))
    server.write([f"CREATE TABLE {table} (h varchar(8), c varchar(4) CHARACTER SET {charset})"])
    for start in range(0, len(all_bytes), BATCH):
        rows = ",".join(
            f"('{raw.hex()}',CONVERT(x'{raw.hex()}' USING {charset}))"
            for raw in all_bytes[start : start + BATCH]
        )
        server.write([f"INSERT IGNORE INTO {table} VALUES {rows}"])
    with server.cursor() as cursor:
        cursor.execute(
            f"SELECT h, HEX(CONVERT(c USING utf8mb4)) FROM {table} WHERE HEX(c) = UPPER(h)"
        )
        for stored, converted in cursor.fetchall():
            raw = bytes.fromhex(_text(stored))
            if charset == "ucs2" and int.from_bytes(raw) in _HALF_SURROGATES:
                continue  # MariaDB stores halves of pairs, which no text may hold: they halt by name.
            yield raw, bytes.fromhex(_text(converted)).decode()


def _sequences(charset: str, size: int) -> Iterator[bytes]:
    if charset in _ONE_TO_FOUR:
        for point in (*range(0xD800), *range(0xE000, 0x10000 if size < 4 else 0x30000)):
            yield chr(point).encode()
        return
    if charset == "utf32":
        for point in (*range(0xD800), *range(0xE000, 0x30000)):
            yield point.to_bytes(4)
        return
    if size == 1 or charset not in ("ucs2", "utf16", "utf16le"):
        yield from (bytes((first,)) for first in range(256))
    if size > 1:
        yield from (bytes((first, second)) for first in range(256) for second in range(256))
    if charset in _EUC:
        yield from (bytes((0x8F, a, b)) for a in range(0xA1, 0xFF) for b in range(0xA1, 0xFF))
    if charset == "gb18030":
        four = (range(0x81, 0x85), range(0x30, 0x3A), range(0x81, 0xFF), range(0x30, 0x3A))
        yield from (
            bytes((a, b, c, d)) for a in four[0] for b in four[1] for c in four[2] for d in four[3]
        )


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
