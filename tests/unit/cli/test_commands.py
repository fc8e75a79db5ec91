"""Commands that need no server, run as a user runs them."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gravity.cli import reference
from gravity.cli.main import EXIT_CODES

GOOD = """
sources:
  - {name: east, host: db1, username: u, tables: [users, orders]}
  - {name: west, host: db2, username: u, tables: [users], priority: 2}
targets:
  - {name: lake, type: clickhouse, host: ch, order-by: {orders: "group:sales"}}
  - {name: bus, type: kafka, brokers: "k:9092"}
routing:
  - {source-tables: [users], strategy: single, targets: [lake]}
  - source-tables: [orders]
    strategy: conditional
    conditions:
      - {if: "amount > 100", targets: [bus]}
"""


def gravity(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gravity.cli.main", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"COLUMNS": "200", "PATH": "/usr/bin", "NO_COLOR": "1"},
    )


def written(folder: Path, text: str) -> Path:
    path = folder / "gravity.yaml"
    path.write_text(text)
    return path


def printed(*words: str | Path) -> Any:
    done = gravity(*words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_valid_file_is_summed_up(tmp_path: Path) -> None:
    done = gravity("validate", written(tmp_path, GOOD))
    assert done.returncode == 0
    assert "2 sources, 2 targets" in done.stdout


def test_every_problem_is_told_at_once_with_its_line_and_the_nearest_name(tmp_path: Path) -> None:
    bad = GOOD.replace("targets: [lake]", "targets: [lakes]").replace("amount > 100", "amount >")
    done = gravity("validate", written(tmp_path, bad))
    assert done.returncode == 2
    problems = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(problems) == 2
    assert any("gravity.yaml:9" in line and "did you mean lake?" in line for line in problems)
    assert any("gravity.yaml:13" in line for line in problems)


def test_problems_as_json_have_the_same_exit_code(tmp_path: Path) -> None:
    done = gravity("validate", "--json", written(tmp_path, GOOD + "surces: []\n"))
    assert done.returncode == 2
    answer = json.loads(done.stdout)
    assert answer["valid"] is False
    assert answer["problems"][0]["nearest"] == "sources"


def test_a_missing_file_is_a_problem_of_the_file(tmp_path: Path) -> None:
    done = gravity("run", tmp_path / "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_plan_says_what_flows_where_under_which_condition_and_order(tmp_path: Path) -> None:
    flows = printed("plan", "--json", written(tmp_path, GOOD))["flows"]
    short = {(tuple(f["tables"]), f["target"]): f for f in flows}
    assert (("users",), "lake") in short
    assert short[("orders",), "bus"]["conditions"] == ["amount > 100"]
    assert "group:sales" in short[("users",), "lake"]["order"]
    assert "east > west" in short[("users",), "lake"]["conflicts"]


def test_the_plan_names_no_table_twice_for_one_way(tmp_path: Path) -> None:
    flows = printed("plan", "--json", written(tmp_path, GOOD))["flows"]
    ways = [(tuple(f["tables"]), f["target"], tuple(f["conditions"] or ())) for f in flows]
    assert len(ways) == len(set(ways))


STRONG = """
sources: [{name: east, host: db1, username: u, semi-sync: {targets: lake}}, {name: west, host: db2, username: u%s}]
targets: [{name: lake, type: mysql, host: db3, username: u, consistency: strong}]
"""


def test_the_plan_refuses_strong_by_name_until_every_source_waits(tmp_path: Path) -> None:
    refused = gravity("plan", written(tmp_path, STRONG % ""))
    assert refused.returncode == 78
    assert "COMMITs at source west do not wait" in refused.stderr
    assert "semi-sync: {targets: [lake]}" in refused.stderr
    waits = written(tmp_path, STRONG % ", semi-sync: {targets: lake}")
    (flow,) = printed("plan", "--json", waits)["flows"]
    assert flow["order"] == "all tables in one order, for consistency strong"


def test_what_no_table_could_make_right_is_no_valid_file(tmp_path: Path) -> None:
    file = written(tmp_path, STRONG % "")
    told = gravity("validate", file)
    assert told.returncode == 2
    assert "valid" not in told.stdout
    assert f"{file}: target lake: consistency is strong" in told.stderr
    assert "semi-sync: {targets: [lake]}" in told.stderr
    as_json = gravity("validate", file, "--json")
    assert as_json.returncode == 2
    said = json.loads(as_json.stdout)
    assert not said["valid"]
    assert "west do not wait" in said["problems"][0]["message"]
    assert printed("validate", "--json", written(tmp_path, STRONG % ", semi-sync: {targets: lake}"))


@pytest.mark.parametrize(("sources", "doubted"), [("", True), ("sources: east, ", False)])
def test_what_only_tables_can_tell_is_said_before_a_run(
    tmp_path: Path, sources: str, *, doubted: bool
) -> None:
    rule = f"{{source-tables: users, {sources}strategy: round-robin, append-only: true, targets: [lake, bus]}}"
    file = written(tmp_path, GOOD.partition("routing:")[0] + f"routing: [{rule}]")
    done = gravity("validate", file)
    assert done.returncode == 0
    assert ("append-only (users) is refused where several of east, west" in done.stdout) is doubted
    assert bool(printed("validate", "--json", file)["doubts"]) is doubted


def test_contracts_are_listed_and_printed() -> None:
    listed = gravity("schema").stdout
    assert "change_batch" in listed
    assert printed("schema", "marker")["name"] == "Marker"
    assert "json-schema.org" in printed("schema", "config")["$schema"]
    wrong = gravity("schema", "markr")
    assert wrong.returncode == 2
    assert "did you mean marker?" in wrong.stderr


def test_names_that_are_not_declared_are_refused_before_anything_starts(tmp_path: Path) -> None:
    file = written(tmp_path, GOOD)
    for words in (("--source", "easy"), ("--target", "lak")):
        done = gravity("run", file, *words)
        assert done.returncode == 2
        assert "declared are" in done.stderr


def test_help_tells_every_exit_code() -> None:
    text = gravity("--help").stdout
    for code, meaning in EXIT_CODES.items():
        assert f"{code}  {meaning}" in text


def test_the_reference_page_is_what_the_commands_say() -> None:
    page = Path(__file__).parents[3] / reference.PAGE
    assert page.read_text() == reference.render(), "run `make docs`"


@pytest.mark.parametrize(
    "command", ["validate", "check", "plan", "run", "status", "topics", "reset"]
)
def test_every_command_explains_itself(command: str) -> None:
    done = gravity(command, "--help")
    assert done.returncode == 0
    assert "CONFIG" in done.stdout


CUT = GOOD.replace("routing:", "  - {name: ledger, type: mysql, host: db3, username: u}\nrouting:")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--target", "lake"), "ClickHouse has no transaction"),
        (("--target", "bus"), "a topic is a log"),
        (("--target", "leger"), "did you mean ledger?"),
        (("--target", "ledger", "--source", "est"), "no source is called 'est'"),
        (("--target", "ledger", "--", "no-such-command"), "there is no command no-such-command"),
        (("--target", "ledger", "--timeout", "11m"), "11m is not from 0.1 s to 600 s"),
        (("--target", "ledger", "--timeout", "soon"), "a span of time needs a number and a unit"),
    ],
)
def test_a_cut_that_can_never_be_is_refused_by_name(
    tmp_path: Path, words: tuple[str, ...], says: str
) -> None:
    done = gravity("cut", written(tmp_path, CUT), "--source", "east", *words)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())


def test_no_row_is_said_to_be_parked_at_a_target_that_could_not_be_asked(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # And never listens.
        away = f"{{name: ledger, type: mysql, host: 127.0.0.1, port: {taken.getsockname()[1]}, username: u}}"
        done = gravity("parked", "list", written(tmp_path, f"targets: [{away}]"))
    assert done.returncode == 1
    assert "parked" not in done.stdout + done.stderr
    assert done.stderr.startswith("error: not asked: ")
    assert "target ledger" in done.stderr


@pytest.mark.parametrize("group", ["parked", "conflicts", "dead-letters"])
def test_a_table_that_can_mean_none_is_refused(tmp_path: Path, group: str) -> None:
    done = gravity(group, "list", written(tmp_path, GOOD), "--table", "a.b.c")
    assert done.returncode == 2
    assert "more than one dot" in done.stderr
    assert "--table" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("filtered", "CONFIG", "--target", "lak"),
            "no target is called 'lak' (did you mean lake?)",
        ),
        (("tail", "x", "--brokers", ""), "--brokers: an address is missing"),
        (("tail", "x", "--config", "CONFIG", "--from", "1st"), "--from: takes beginning, end"),
        (("dead-letters", "discard", "CONFIG", "x", "--reason", " "), "--reason: it is all"),
        (("conflicts", "resolve", "CONFIG", "x", "--row", "{"), "--row: no JSON"),
        (("conflicts", "resolve", "CONFIG", "x", "--row", "[]"), "--row: neither a JSON object"),
    ],
)
def test_what_can_never_be_is_refused_by_the_option_s_name_and_asks_no_server(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    file = str(written(tmp_path, GOOD))
    done = gravity(*(file if word == "CONFIG" else word for word in words))
    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
