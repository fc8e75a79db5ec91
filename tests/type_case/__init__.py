"""Every column type with values at its edges, as SQL. Data: the decoder's tests and the type test share it."""

from __future__ import annotations

from tests.type_case.case import BOTH, Case
from tests.type_case.number import bits, decimals, floats, integers, more_numbers
from tests.type_case.other import addresses, geometries, json, vectors, wrong_elsewhere
from tests.type_case.temporal import temporal
from tests.type_case.text import CHARSETS, binaries, collations, disputed, labels, texts

__all__ = ["BOTH", "CASES", "CHARSETS", "MORE_CASES", "Case"]

CASES = (
    *integers(),
    *decimals(),
    *floats(),
    *bits(),
    *temporal(),
    *texts(),
    *binaries(),
    *labels(),
    *json(),
    *geometries(),
    *vectors(),
    *collations(),
    *disputed(),
    *addresses(),
    *wrong_elsewhere(),
)
MORE_CASES = tuple(more_numbers())
"""For the long form of the type test alone."""
