"""Sources whose COMMITs wait for targets: how that is said, and what is refused."""

from __future__ import annotations

import pytest

from gravity.config import ConfigError, parse_config

TARGETS = """
targets:
  - {name: lake, type: mysql, host: lake, username: u}
  - {name: bus, type: kafka, brokers: ["k:9092"]}
"""


def source(name: str, host: str, *targets: str) -> str:
    awaited = f", semi-sync: {{targets: [{', '.join(targets)}]}}" if targets else ""
    return f"  - {{name: {name}, host: {host}, username: u{awaited}}}\n"


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    return [str(problem) for problem in caught.value.problems]


def test_targets_are_named_one_or_several() -> None:
    config = parse_config("sources:\n" + source("a", "h", "lake", "bus") + TARGETS).config
    assert config.is_awaited("lake")
    assert config.is_awaited("bus")
    assert not config.is_awaited("a")
    assert config.has_awaited_targets
    one = parse_config(
        "sources: [{name: a, host: h, username: u, semi-sync: {targets: lake}}]" + TARGETS
    ).config
    assert one.is_awaited("lake")
    assert not one.is_awaited("bus")
    assert not parse_config("sources:\n" + source("a", "h") + TARGETS).config.has_awaited_targets


def test_an_unknown_target_is_named_with_its_line_and_the_nearest() -> None:
    (problem,) = problems("sources:\n" + source("a", "h", "lakee") + TARGETS)
    assert "no target called lakee is declared" in problem
    assert "lake" in problem.replace("lakee", "")
    assert ":2" in problem or "line 2" in problem


@pytest.mark.parametrize("targets", ["[]", "{}"])
def test_nobody_to_wait_for_is_refused(targets: str) -> None:
    text = f"sources: [{{name: a, host: h, username: u, semi-sync: {{targets: {targets}}}}}]"
    assert problems(text + TARGETS)


def test_a_source_that_is_only_copied_has_no_commits_to_wait() -> None:
    text = "sources: [{name: a, host: h, username: u, snapshot: only, semi-sync: {targets: lake}}]"
    (problem,) = problems(text + TARGETS)
    assert "snapshot: only" in problem


CIRCLE = """
targets:
  - {name: a, type: mysql, host: one, username: u}
  - {name: b, type: mysql, host: two, username: u}
  - {name: c, type: mysql, host: three, username: u}
"""


def test_servers_that_would_wait_for_each_other_are_refused() -> None:
    itself = problems("sources:\n" + source("x", "one", "a") + CIRCLE)
    assert "wait for each other" in itself[0]
    both = source("x", "one", "b") + source("y", "two", "a")
    assert "wait for each other" in problems("sources:\n" + both + CIRCLE)[0]
    three = source("x", "one", "b") + source("y", "two", "c") + source("z", "three", "a")
    assert "wait for each other" in problems("sources:\n" + three + CIRCLE)[0]


def test_a_chain_of_servers_may_wait() -> None:
    chain = source("x", "one", "b") + source("y", "two", "c") + source("z", "three")
    assert parse_config("sources:\n" + chain + CIRCLE).config.is_awaited("c")
