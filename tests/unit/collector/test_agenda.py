"""Readers side by side: each key of a table in exactly one chunk, whoever takes, gives back or begins anew."""

from __future__ import annotations

import random

import pytest
from gravity_collector.agenda import Agenda, Taken
from gravity_collector.chunk import Coverage, Work

T, U = ("shop", "users"), ("shop", "orders")


def _begin(agenda: Agenda, coverage: Coverage, *tables: tuple[str, str]) -> None:
    for table in tables:
        agenda.begin(Work(table), coverage.gaps(table))


@pytest.mark.parametrize("seed", range(100))
def test_every_key_is_published_exactly_once_by_each_reading(seed: int) -> None:
    rng = random.Random(seed)
    agenda, coverage = Agenda(4), Coverage()
    rows = {T: rng.randint(0, 40), U: rng.randint(0, 40)}
    published: dict[tuple[str, str], list[int]] = {T: [], U: []}
    _begin(agenda, coverage, T, U)
    hands: list[Taken] = []
    for step in range(4000):
        act = rng.random()
        if act < 0.5 and len(hands) < 4 and (taken := agenda.take()) is not None:
            hands.append(taken)
        elif act < 0.52 and step < 300:
            table = rng.choice((T, U))
            coverage.forget(table)
            published[table].clear()
            _begin(agenda, coverage, table)
        elif act < 0.54 and step < 300:
            # Another owner begins where the log ends, with other bounds.
            agenda, hands = Agenda(4), []
            coverage = Coverage(coverage.chunk_ids())
            _begin(agenda, coverage, *(t for t in (T, U) if not coverage.is_complete(t)))
        elif hands:
            taken = hands.pop(rng.randrange(len(hands)))
            chunk = taken.chunk
            first = 0 if chunk.after is None else int(str(chunk.after[0])) + 1
            if taken.is_tail:
                ahead = first + rng.randint(1, 9) - 1
                hands.append(agenda.cut(taken, (ahead,) if ahead < rows[chunk.table] else None))
            elif rng.random() < 0.2:
                agenda.give_back(taken)
            else:
                if agenda.is_current(taken):
                    last = rows[chunk.table] - 1
                    if chunk.through is not None:
                        last = int(str(chunk.through[0]))
                    published[chunk.table] += range(first, last + 1)
                    coverage.add(chunk)
                agenda.finish(taken)
        if agenda.is_done:
            break
        assert len(coverage.chunk_ids()) <= 2 * (2 + 2 * 4), "the checkpoint stays small"
    assert agenda.is_done and not hands
    for table in (T, U):
        assert coverage.is_complete(table)
        assert sorted(published[table]) == list(range(rows[table]))


def test_a_second_reader_has_something_to_read_as_soon_as_the_first_chunk_is_cut() -> None:
    agenda = Agenda(4)
    _begin(agenda, Coverage(), T)
    first = agenda.take()
    assert first is not None and first.is_tail
    assert agenda.take() is None, "where the tail begins is not known yet"
    first = agenda.cut(first, (9,))
    second = agenda.take()
    assert second is not None
    assert (first.chunk.through, second.chunk.after) == ((9,), (9,))


def test_a_chunk_of_a_table_that_is_begun_anew_is_void_and_is_not_read_again() -> None:
    agenda = Agenda(4)
    _begin(agenda, Coverage(), T)
    old = agenda.take()
    assert old is not None
    _begin(agenda, Coverage(), T)
    assert not agenda.is_current(old)
    agenda.cut(old, (9,))
    agenda.give_back(old)
    new = agenda.take()
    assert new is not None and new.chunk.after is None
    assert agenda.take() is None
    agenda.cut(new, None)
    agenda.finish(new)
    assert agenda.is_done


def test_no_more_chunks_are_in_hand_than_may_be_read_again_after_a_crash() -> None:
    agenda = Agenda(2)
    _begin(agenda, Coverage(), T)
    first = agenda.take()
    assert first is not None
    agenda.cut(first, (1,))
    second = agenda.take()
    assert second is not None
    agenda.cut(second, (2,))
    assert agenda.take() is None
    agenda.finish(first)
    assert agenda.take() is not None
