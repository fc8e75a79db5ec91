"""What was written in the wrong place is answered with the right one, and with the form to copy."""

from __future__ import annotations

import pytest

from gravity.config import Config, ConfigError, parse_config
from gravity.config.elsewhere import elsewhere

FILE = """
sources: [{{name: s, host: h, username: u{source}}}]
targets: [{{name: a, type: {kind}, host: h, username: u{target}}}, {{name: b, type: mysql, host: h, username: u}}]
{more}
"""
SHARES = "takes names alone; weights and residues stand in `routing-rules`: {users: {strategy: weighted-round-robin"


def refusal(source: str = "", target: str = "", kind: str = "mysql", more: str = "") -> str:
    text = FILE.format(source=source, target=target, kind=kind, more=more)
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "g.yaml", env={})
    (problem,) = caught.value.problems
    return str(problem)


def test_a_key_of_another_type_of_target_is_named_with_the_type() -> None:
    said = refusal(target=", format: json")
    assert said.startswith(
        "g.yaml:3: targets[0].format: unknown key; it stands at a target of type kafka: {format: "
    )
    assert "did you mean" not in said


def test_a_key_of_a_source_at_a_target_and_the_other_way_round() -> None:
    assert "it stands at a source: {semi-sync: {targets: [warehouse]}}" in refusal(
        target=", semi-sync: w"
    )
    assert refusal(source=", consistency: strong").endswith("unknown key; it stands at a target")
    assert "at a target: {order-by: " in refusal(more="order-by: key")
    assert "at a rule under `conflict-resolution.rules`: {constraint:" in refusal(
        target=", constraint: x"
    )


def test_a_misspelt_key_is_still_guessed_and_one_known_in_many_places_says_nothing() -> None:
    assert refusal(source=", snapshto: never").endswith("unknown key (did you mean snapshot?)")
    assert elsewhere(Config, ("batch", "tables")) == ""
    assert elsewhere(Config, ("batch", "nonsense")) == ""
    assert elsewhere(Config, ("targets", 3, "mysql", "batch")).startswith("it stands at the top")


@pytest.mark.parametrize(
    ("targets", "place"),
    [
        ("[{target: a, weight: 2}, b]", "targets[0]"),
        ("[b, {target: a, residues: [0]}]", "targets[1]"),
        ("[b, a: 2]", "targets[1]"),
        ("{a: 2, b: 1}", "targets"),
    ],
)
def test_shares_in_a_route_are_answered_with_where_they_stand(targets: str, place: str) -> None:
    route = (
        f"routing: [{{source-tables: users, strategy: weighted-round-robin, targets: {targets}}}]"
    )
    assert f"g.yaml:4: routing[0].{place}: {SHARES}" in refusal(more=route)


def test_the_rule_that_is_shown_for_shares_is_taken() -> None:
    form = refusal(more="routing: [{source-tables: users, targets: {a: 2}}]").partition(
        "`routing-rules`: "
    )[2]
    text = FILE.format(source="", target="", kind="mysql", more=f"routing-rules: {form}")
    loaded = parse_config(text.replace("name: a", "name: db1").replace("name: b", "name: db2"))
    assert [target.weight for target in loaded.config.routing_rules[0].targets] == [2, 1]


def test_a_merge_that_says_no_strategy_is_refused() -> None:
    assert refusal(more="merge: {targets: a}") == (
        "g.yaml:4: merge: strategy: missing: without it nothing is merged, such as {strategy: time-ordered}"
    )
    parse_config(FILE.format(source="", target="", kind="mysql", more="merge: {}"), env={})
