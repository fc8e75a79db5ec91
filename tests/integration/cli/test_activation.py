"""Plans on a real broker: one content per number, whoever writes when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gravity.activation import activate
from gravity.config import Config, load_config
from gravity.errors import FatalError, TransientError
from gravity.kafka.control import ControlTopic
from gravity.kafka.plan_store import PlanStore
from gravity.kafka.reader import LogReader
from gravity.plan import RoutingPlan
from gravity.topic import plan_key
from tests.integration.cli.conftest import Installation


@pytest.fixture
def control(made: Installation) -> Iterator[ControlTopic]:
    topic = ControlTopic(config_of(made).kafka, f"{made.prefix}gravity.control", "test")
    yield topic
    topic.close()


def config_of(made: Installation) -> Config:
    return load_config(made.path).config


def last_record(made: Installation, key: str) -> Any:
    reader, topic = LogReader(config_of(made).kafka, "test"), f"{made.prefix}gravity.control"
    try:
        messages = list(reader.read(topic, 0, *reader.bounds(topic, 0)))
    finally:
        reader.close()
    return json.loads([m.value for m in messages if m.key == key.encode()][-1] or b"null")


def newest(control: ControlTopic) -> RoutingPlan:
    return PlanStore(control).require_newest()


def test_the_same_configuration_again_writes_nothing(
    made: Installation, control: ControlTopic
) -> None:
    made.sql(f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)")
    first = activate(config_of(made))
    again = activate(config_of(made))
    assert (first.version, again.version) == (1, 1)
    assert [key for key in control.refresh() if key.startswith("plan/")] == ["plan/1"]


def test_a_table_that_appears_is_a_new_plan_that_keeps_the_old_lanes(
    made: Installation, control: ControlTopic
) -> None:
    made.sql(f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)")
    activate(config_of(made))
    made.sql(f"CREATE TABLE {made.database}.orders (id INT PRIMARY KEY)")
    plan = activate(config_of(made))
    assert plan.version == 2
    assert plan.same_content(newest(control))
    lanes = plan.lanes[made.target]
    assert lanes[f"{made.copy}.users"] == "key"
    # Rows of a later table may have flowed under the safe lane before anybody looked.
    assert lanes[f"{made.copy}.orders"] == "table"


def test_lanes_are_as_wide_as_the_keys_need(made: Installation) -> None:
    made.sql(
        f"CREATE TABLE {made.database}.plain (id INT PRIMARY KEY)",
        f"CREATE TABLE {made.database}.mail (id INT PRIMARY KEY, mail VARCHAR(9) UNIQUE)",
        f"CREATE TABLE {made.database}.word (word VARCHAR(9) COLLATE utf8mb4_general_ci PRIMARY KEY)",
        f"CREATE TABLE {made.database}.code (code VARCHAR(9) COLLATE utf8mb4_bin PRIMARY KEY)",
        f"CREATE TABLE {made.database}.asked (id INT PRIMARY KEY)",
    )
    made.configure(target=", order-by: {asked: 'group:all'}")
    lanes = activate(config_of(made)).lanes[made.target]
    assert {name.rpartition(".")[2]: lane for name, lane in lanes.items()} == {
        "plain": "key",
        "mail": "table",
        "word": "table",
        "code": "key",
        "asked": "group:all",
    }


def test_a_lane_that_was_fixed_is_never_changed_in_silence(made: Installation) -> None:
    made.sql(f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)")
    activate(config_of(made))
    # The table's keys would now want a wider lane.
    made.sql(f"ALTER TABLE {made.database}.users ADD mail VARCHAR(9) UNIQUE")
    assert activate(config_of(made)).lanes[made.target] == {f"{made.copy}.users": "key"}
    made.configure(target=", order-by: table")
    with pytest.raises(FatalError, match="begin anew") as refused:
        activate(config_of(made))
    assert f"{made.copy}.users" in str(refused.value)


def test_many_activations_at_once_agree_on_one_content_per_number(
    made: Installation, control: ControlTopic
) -> None:
    made.sql(f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)")
    config = config_of(made)
    activate(config, offline=True)
    configs = [
        config.model_copy(
            update={"targets": (config.targets[0].model_copy(update={"exclude": (f"x{number}",)}),)}
        )
        for number in range(6)
    ]
    with ThreadPoolExecutor(6) as pool:
        plans = list(pool.map(lambda one: activate(one, offline=True), configs))
    records = control.refresh()
    for wanted, plan in zip(configs, plans, strict=True):
        assert plan.targets[0].exclude == wanted.targets[0].exclude
        assert RoutingPlan.from_json(records[plan_key(plan.version)]).same_content(plan)
    assert len({plan.version for plan in plans}) == len(plans)


def test_the_first_record_of_a_number_counts_and_the_loser_repairs_it(
    made: Installation, control: ControlTopic
) -> None:
    made.sql(f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)")
    winner = activate(config_of(made)).to_json()
    # A rival that read control before the winner wrote, wrote behind it, and was killed.
    loser = {**json.loads(json.dumps(winner)), "partitions": 99}
    control.write(plan_key(1), loser)
    assert last_record(made, plan_key(1))["partitions"] == 99
    assert control.refresh()[plan_key(1)] == json.loads(json.dumps(winner))
    assert activate(config_of(made)).version == 1
    # Compaction keeps the last.
    assert last_record(made, plan_key(1)) == json.loads(json.dumps(winner))


def test_offline_keeps_what_was_known_of_the_tables(made: Installation) -> None:
    made.sql(f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)")
    known = activate(config_of(made)).feeding
    made.configure(port="9")
    plan = activate(config_of(made), offline=True)
    assert plan.version == 1
    assert plan.feeding == known
    with pytest.raises(TransientError, match="source shop"):
        activate(config_of(made), timeout_s=0.5)


def test_other_partitions_than_the_topics_have_are_refused(made: Installation) -> None:
    activate(config_of(made), offline=True)
    config = config_of(made)
    other = config.model_copy(update={"kafka": config.kafka.model_copy(update={"partitions": 3})})
    with pytest.raises(FatalError, match="has 2 partitions, the configuration says 3"):
        activate(other, offline=True)


def test_a_difference_is_shown_and_not_put_in_force(
    made: Installation, control: ControlTopic
) -> None:
    made.sql(f"CREATE TABLE {made.database}.users (id INT PRIMARY KEY)")

    def shown() -> dict[str, Any]:
        answer: dict[str, Any] = made.json("plan", "CONFIG", "--diff", "--json")
        return answer

    first = shown()
    assert (first["in_force"], first["next"]) == (None, 1)
    assert [change["kind"] for change in first["changes"]] == ["new"]
    activate(config_of(made))
    assert shown() == {
        "in_force": 1,
        "next": 1,
        "gone": [],
        "changes": [],
        "read_again": [],
        "transforms_without_table": [],
    }
    made.sql(f"CREATE TABLE {made.database}.orders (id INT PRIMARY KEY)")
    # It flows by the patterns already; what is new of the next plan is that the table is known.
    assert shown() == {
        "in_force": 1,
        "next": 2,
        "gone": [],
        "changes": [],
        "read_again": [],
        "transforms_without_table": [],
    }
    made.configure(tables='["users"]')
    [change] = shown()["changes"]
    assert (change["kind"], change["before"]["tables"]) == ("gone", [f"{made.database}.orders"])
    assert newest(control).version == 1
