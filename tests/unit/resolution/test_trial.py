"""`gravity resolve`: a rule tried on one row's history, and what is wrong with a history told by place."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from gravity.cli.main import app
from gravity.trial import HistoryError, try_history
from tests.prove.resolving_histories import RULES, divergences
from tests.prove.resolving_table import CASES, Case, wrong_orders

DOCS = Path(__file__).parents[3] / "docs" / "conflicts.md"
EXAMPLE: dict[str, Any] = json.loads(
    """
{"rule": {"strategy": "merge", "sources": ["A", "B"], "columns": {"qty": "sum", "email": "owner:A"}, "groups": [["price", "currency"]], "on_delete": "incarnation"},
 "columns": {"qty": 0, "email": null, "price": null, "currency": null},
 "events": [{"source": "A", "op": "upsert", "pos": 1, "time": 10, "row": {"qty": 3, "email": "a@x"}, "changed": ["qty", "email"]},
            {"source": "B", "op": "delete", "pos": 1, "time": 12},
            {"source": "A", "op": "read", "pos": 9, "row": {"qty": 3}},
            {"op": "decide", "keep": "B", "cover": {"A": 1, "B": 1}}, {"source": "A", "op": "truncate", "pos": 20, "time": 30}]}
"""
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_row_of_the_table_in_every_order_with_repeats(case: Case) -> None:
    assert wrong_orders(case)[1] == []


@pytest.mark.parametrize("name", RULES)
def test_random_histories_end_as_the_oracle_says_whatever_the_order_or_crash(name: str) -> None:
    assert divergences(name, range(40)) == []


def told(*events: dict[str, Any], **rule: Any) -> dict[str, Any]:
    columns = {"qty": 0, "email": None, "price": None, "currency": "EUR"}
    rule = {"strategy": "timestamp-latest", "sources": ["A", "B"], **rule}
    return {"rule": rule, "columns": columns, "events": list(events)}


def upsert(source: str, pos: int, time: int, **row: Any) -> dict[str, Any]:
    return {"source": source, "op": "upsert", "pos": pos, "time": time, "row": row}


def test_the_form_of_the_document_is_this() -> None:
    trial = try_history(EXAMPLE)
    assert trial.remarks == ()
    assert trial.result == {
        "outcome": "delete",
        "row": None,
        "winner": "A",
        "conflicts": ["update_delete"],
        "opinions": [
            {"source": "A", "row": None, "time": 30, "pos": 20},
            {"source": "B", "row": None, "time": 12, "covers": ["B"]},
        ],
    }


def test_a_row_has_every_column_of_the_target() -> None:
    result = try_history(told(upsert("A", 1, 10, qty=3), upsert("B", 1, 9, email="b@x"))).result
    assert result["outcome"] == "row"
    assert result["winner"] == "A"
    # Of what nobody has, the target's default; of what A lacks, B's value.
    assert result["row"] == {"qty": 3, "email": "b@x", "price": None, "currency": "EUR"}
    assert [opinion["source"] for opinion in result["opinions"]] == ["A", "B"]


def test_a_column_whose_only_row_does_not_count_gets_the_default() -> None:
    document = told(upsert("A", 1, 10, qty=3), upsert("B", 1, 5, currency="USD"),
                    {"source": "B", "op": "delete", "pos": 2, "time": 9})  # fmt: skip
    assert try_history(document).result["row"]["currency"] == "EUR"


def test_a_hold_shows_the_opinions() -> None:
    document = told(upsert("A", 1, 10, qty=3), upsert("B", 1, 11, qty=4), strategy="error-stop")
    result = try_history(document).result
    assert (result["outcome"], result["row"], result["winner"]) == ("hold", None, None)
    assert [opinion["row"] for opinion in result["opinions"]] == [{"qty": 3}, {"qty": 4}]


def test_what_is_not_said_has_a_default() -> None:
    # `changed`: what differs from the source's row before; `cover`: all that is listed before.
    document = told(
        upsert("A", 2, 12, qty=1, email="new"),
        upsert("A", 1, 10, qty=1, email="old"),
        upsert("B", 1, 11, qty=2, email="b"),
        strategy="merge",
    )
    assert try_history(document).result["row"]["qty"] == 2
    assert try_history(document).result["row"]["email"] == "new"
    document["events"].append({"op": "decide", "keep": "A"})
    assert try_history(document).result["row"]["qty"] == 1
    document["events"].append({"op": "decide", "row": {"qty": 9}})
    result = try_history(document).result
    assert (result["row"]["qty"], result["winner"]) == (9, "@operator")
    document["events"].append({"op": "decide", "row": None})
    assert try_history(document).result["outcome"] == "delete"


def test_json_values_and_moments_are_compared_as_what_they_are() -> None:
    document = told(
        upsert("A", 1, 10, email={"b": 1, "a": [1]}),
        upsert("B", 1, 11, email={"a": [1], "b": 1}),
        strategy="error-stop",
    )
    assert try_history(document).result["row"]["email"] == {"a": [1], "b": 1}
    document = told(
        upsert("A", 1, 10, email="2024-01-01 10:00:00.5"),
        upsert("B", 1, 11, email="2024-01-01 10:00:00.25"),
        timestamp_source="column:email",
    )
    assert try_history(document).result["winner"] == "A"


def test_a_source_without_a_say_is_remarked() -> None:
    trial = try_history(told(upsert("C", 1, 10, qty=1)))
    assert trial.result["outcome"] == "delete"
    assert trial.remarks == ("source C is not in rule.sources: it has no say",)


A1 = upsert("A", 1, 10, qty=1)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "must be a JSON object [the document]"),
        ({"rule": {}, "columns": {}}, "events is missing"),
        ({**told(), "rows": []}, "unknown key 'rows'"),
        (told(sources=[]), "[rule.sources]"),
        (told(strategy="newest"), "[rule.strategy]"),
        (told(strategy="merge", columns={"qyt": "sum"}), "column 'qyt' is not in columns [rule]"),
        (told(strategy="merge", columns={"qty": "add"}), "[rule.columns.qty]"),
        (told(A1, {"source": "A", "pos": 1}), "op is missing [events[1]]"),
        (told({**A1, "op": "insert"}), "unknown op 'insert' [events[0]]"),
        (told({"source": "A", "op": "delete", "pos": 1}), "time is missing [events[0] (delete)]"),
        (told({"op": "upsert", "pos": 1, "time": 1, "row": {}}), "source is missing"),
        (told({**A1, "pos": "1"}), "must be a whole number [events[0].pos]"),
        (told({**A1, "row": None}), "must be a JSON object [events[0].row]"),
        (told({**A1, "when": 1}), "unknown key 'when' [events[0] (upsert)]"),
        (told({**A1, "row": {"qyt": 1}}), "column 'qyt' is not in columns [events[0].row]"),
        (told({**A1, "changed": ["email"]}), "not in the event's row [events[0].changed]"),
        (told(A1, {**A1, "time": 11}), "source A says something else at pos 1 than in events[0]"),
        (told(A1, {"op": "decide"}), "needs either keep"),
        (told(A1, {"op": "decide", "keep": "B"}), "has said nothing that the decision covers"),
        (told(A1, {"op": "decide", "keep": "A", "cover": {"A": "x"}}), "[events[1].cover.A]"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(document: Any, message: str) -> None:
    with pytest.raises(HistoryError) as found:
        try_history(document)
    assert message in str(found.value)


def test_the_command_reads_a_file_or_standard_input(tmp_path: Path) -> None:
    file = tmp_path / "history.json"
    file.write_text(json.dumps(told(A1)))
    runner = CliRunner()
    by_file = runner.invoke(app, ["resolve", str(file)])
    by_input = runner.invoke(app, ["resolve", "-"], input=file.read_text())
    assert by_file.exit_code == by_input.exit_code == 0
    assert json.loads(by_file.stdout) == json.loads(by_input.stdout)
    file.write_text('{"rule": }')
    broken = runner.invoke(app, ["resolve", str(file)])
    assert isinstance(broken.exception, HistoryError)
    assert "line 1, column 10" in str(broken.exception)


def examples() -> list[tuple[str, str]]:
    """Each example of the manual, and the outcome that the manual shows below it."""
    text = DOCS.read_text(encoding="utf-8")
    return re.findall(r"```json\n(\{\"rule\".*?)```\n\n```json\n(.*?)```", text, re.DOTALL)


def test_the_manual_has_an_example_of_each_strategy() -> None:
    strategies = {json.loads(history)["rule"]["strategy"] for history, _ in examples()}
    assert strategies == {"source-priority", "timestamp-latest", "merge", "error-stop"}


@pytest.mark.parametrize("example", examples(), ids=range(len(examples())))
def test_the_examples_of_the_manual_come_out_as_it_says(example: tuple[str, str]) -> None:
    history, shown = map(json.loads, example)
    result = try_history(history).result
    assert {name: result[name] for name in shown} == shown
