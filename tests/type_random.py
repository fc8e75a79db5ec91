"""More values of any case of tests/type_case, drawn from a seed."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from random import Random

from tests.type_case import CHARSETS, Case

_INTEGER_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_SAMPLES = dict(CHARSETS) | {"gb18030": "中文字丂😀"}
_COMMON = "aZ09 '\"%_~\t\n\0.,;"
"""Characters of every set but swe7, in which some of them are letters."""
_DOCUMENT_DEPTH_MAX = 4


def with_random(case: Case, seed: int, count: int) -> Case:
    """`case` with `count` values more; unchanged where its type is not known here."""
    random = Random(f"{seed} {case.name}")
    draw = _drawer(case, random)
    if draw is None:
        return case
    return replace(case, values=(*case.values, *(draw() for _ in range(count))))


def _drawer(case: Case, random: Random) -> Callable[[], str] | None:
    name, _, rest = case.ddl.partition("(")
    name = name.split()[0]
    numbers = [int(text) for text in re.findall(r"\d+", rest.partition(")")[0])]
    size = numbers[0] if numbers else 0
    if name in _INTEGER_BITS:
        bits = _INTEGER_BITS[name]
        shift = 0 if "unsigned" in case.ddl or "zerofill" in case.ddl else 1 << (bits - 1)
        return lambda: str(random.getrandbits(bits) - shift)
    if name in ("char", "varchar", "text") and "CHARACTER SET" in case.ddl:
        charset = case.ddl.split("CHARACTER SET ")[1].split()[0]
        return lambda: _text(random, charset, min(size or 40, 20))
    simple: dict[str, Callable[[], str]] = {
        "bit": lambda: str(random.getrandbits(size)),
        "decimal": lambda: _decimal(random, *numbers),
        "float": lambda: _float(random, "f"),
        "double": lambda: _float(random, "d"),
        "date": lambda: f"'{_date(random)}'",
        "datetime": lambda: f"'{_date(random)} {_clock(random, size)}'",
        "timestamp": lambda: (
            f"FROM_UNIXTIME({random.randrange(1, 1 << 31)}.{_digits(random, size)})"
        ),
        "time": lambda: (
            f"'{random.choice(('', '-'))}{random.randrange(838):02d}:{_clock(random, size)[3:]}'"
        ),
        "year": lambda: str(random.randrange(1901, 2156)),
        "binary": lambda: f"x'{random.randbytes(random.randrange(size + 1)).hex()}'",
        "varbinary": lambda: f"x'{random.randbytes(random.randrange(size + 1)).hex()}'",
        "blob": lambda: f"x'{random.randbytes(random.randrange(300)).hex()}'",
        "inet6": lambda: f"CAST(x'{random.randbytes(16).hex()}' AS INET6)",
        "uuid": lambda: f"CAST(x'{random.randbytes(16).hex()}' AS UUID)",
        "vector": lambda: f"x'{struct.pack('<3f', *(random.gauss(0, 9) for _ in range(3))).hex()}'",
        "point": lambda: (
            f"ST_GeomFromText('POINT({random.gauss(0, 99)!r} {random.gauss(0, 9)!r})')"
        ),
        "json": lambda: _utf8(json.dumps(_document(random, 0), ensure_ascii=random.random() < 0.3)),
    }
    if name == "float" and "," in rest:
        return None  # FLOAT(M,D) rounds to its digits, and so refuses most numbers.
    return simple.get(name)


def _utf8(text: str) -> str:
    return f"CONVERT(x'{text.encode().hex()}' USING utf8mb4)"


def _text(random: Random, charset: str, length: int) -> str:
    letters = _SAMPLES.get(charset, "x") + (_COMMON if charset != "swe7" else "aZ09")
    # Trailing spaces of CHAR are the server's to drop.
    return _utf8("".join(random.choices(letters, k=random.randrange(length + 1))))


def _digits(random: Random, count: int) -> str:
    return "".join(random.choices("0123456789", k=count)) or "0"


def _decimal(random: Random, precision: int, scale: int) -> str:
    sign = random.choice(("", "-"))
    whole = _digits(random, random.randrange(precision - scale + 1))
    return f"{sign}{whole}.{_digits(random, scale)}" if scale else f"{sign}{whole}"


def _float(random: Random, form: str) -> str:
    """Any finite number of that width by its bits, subnormal ones included."""
    bits = struct.calcsize(form)
    while True:
        (number,) = struct.unpack(form, random.randbytes(bits))
        if number == number and abs(number) != float("inf"):  # noqa: PLR0124 - not for NaN
            return f"{number!r}" if "e" in repr(number) else f"{number!r}e0"


def _date(random: Random) -> str:
    day = random.choice((0, *range(1, 29)))
    month = random.choice((0, *range(1, 13))) if day == 0 else random.randrange(1, 13)
    return f"{random.randrange(1, 10_000):04d}-{month:02d}-{day:02d}"


def _clock(random: Random, digits: int) -> str:
    text = f"{random.randrange(24):02d}:{random.randrange(60):02d}:{random.randrange(60):02d}"
    return f"{text}.{_digits(random, digits)}" if digits else text


def _document(random: Random, depth: int) -> object:
    if depth < _DOCUMENT_DEPTH_MAX and random.random() < 0.6:
        count = random.randrange(6)
        if random.random() < 0.5:
            return [_document(random, depth + 1) for _ in range(count)]
        return {_key(random): _document(random, depth + 1) for _ in range(count)}
    return random.choice(
        (
            None,
            True,
            random.getrandbits(63) - (1 << 62),
            random.getrandbits(64),
            random.uniform(-180, 180),
            random.uniform(-1, 1) * 10.0 ** random.randrange(-300, 300),
            _key(random),
        )
    )


def _key(random: Random) -> str:
    letters = "ab'\"\\/%.$[]*{}\n\t\x01 é中😀"
    return "".join(random.choices(letters, k=random.randrange(8)))
