"""What most rows come to is found in a shorter way; it must be what the long way comes to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gravity.batch import DELETE, INSERT, LEFT, READ, UPDATE, Column, Value
from gravity.plan_part import Resolution
from gravity.position import START, Position
from gravity.resolution.register import Floor, Register, Shape
from gravity.resolution.strategy import resolve
from tests.prove.resolving_histories import RULES, SOURCES

SHAPE = Shape("s", tuple(Column(name, "int") for name in "xyz"))
NOBODY = {"nobody": Floor(START, 0)}

cells: st.SearchStrategy[Value] = st.sampled_from((None, 0, 1, 2))
times = st.integers(0, 3)
registers = st.builds(
    Register,
    st.builds(Position, st.just(1), st.just(1), st.integers(0, 9)),
    st.sampled_from((INSERT, UPDATE, READ, LEFT)),
    times,
    st.tuples(cells, cells, cells) | st.none(),
    st.just(SHAPE),
    st.none() | st.dictionaries(st.sampled_from("xyz"), times),
)


@pytest.mark.parametrize("name", RULES)
@given(known=st.dictionaries(st.sampled_from((*SOURCES, "D")), registers))
def test_rows_of_one_shape_come_to_what_rows_of_equal_shapes_do(
    name: str, known: dict[str, Register]
) -> None:
    known = {
        source: reg if reg.live or reg.op == LEFT else replace(reg, op=DELETE)
        for source, reg in known.items()
    }
    # Neither a floor of nobody nor shapes that are the same but for their identity change anything.
    apart = {source: replace(reg, shape=Shape("s", SHAPE.columns)) for source, reg in known.items()}
    assert resolve(known, RULES[name]) == resolve(apart, RULES[name], None, NOBODY)


def test_a_source_that_takes_no_part_has_no_say() -> None:
    rule = Resolution("timestamp-latest", {"A": 1})
    reg = Register(Position(1, 1, 1), UPDATE, 5, (1, 2, 3), SHAPE)
    assert resolve({"B": reg}, rule) is None
