"""Whoever waits for a condition gets what it gives, or is told what did not come about."""

from __future__ import annotations

import pytest

from gravity.testing.waiting import wait_until


def test_the_first_true_value_is_given() -> None:
    values = iter([None, 0, "", "here", "later"])
    assert wait_until(lambda: next(values), what="a value", every_s=0.0) == "here"


def test_what_does_not_come_about_is_told_with_what_else_is_known() -> None:
    with pytest.raises(TimeoutError, match=r"not within 0 s: a value; last: 0\nthe log's end"):
        wait_until(lambda: 0, 0, what="a value", tell=lambda: "the log's end")


def test_an_error_of_the_condition_ends_the_wait() -> None:
    asked: list[int] = []

    def fails() -> None:
        asked.append(1)
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        wait_until(fails, what="a value")
    assert len(asked) == 1
