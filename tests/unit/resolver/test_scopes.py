"""What stands still with a row on hold: nothing of it goes out meanwhile, and everything does afterwards."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from gravity_resolver.hold_book import HoldBook
from gravity_resolver.replica import META_KEY
from gravity_resolver.waiting_line import RELEASED_AT_ONCE

from gravity.codec import decode_record
from gravity.decision import Note, keep_source
from gravity.errors import FatalError
from gravity.header import RoutedKind
from gravity.plan import RoutingPlan
from gravity.plan_part import Resolution, RulePlan, Scope
from gravity.schema_change import TableAction
from gravity.testing.routed_log import RoutedLog, RoutedMessage, RowChange
from gravity.testing.target_log import table
from tests.resolver_replica import ALONE, RANKS, TARGET, USERS, Replica, plan_of

STOP = Resolution("error-stop", RANKS)
ORDERS = table("shop.orders", [("id", "int"), ("name", "varchar(20)")], ["id"])
SHARED, TABLES = ("shop.users", "shop.orders"), ("shop.users", "shop.orders", "shop.alone")
A, B = "a", "b"
NOTE = Note(plan=1, time_us=5)


def plan(scope: Scope, *, version: int = 1, group: bool = False) -> RoutingPlan:
    """Users stop what `scope` says, orders their own table if `scope` is no key, else only the row."""
    rule = replace(STOP, scope=scope)
    orders = replace(STOP, scope="key" if scope == "key" else "table")
    rules = (RulePlan(("users",), None, rule), RulePlan(("orders",), None, orders))
    lanes = dict.fromkeys(TABLES[:2], "group:g") if group else {}
    feeding = {"shop.users": (A, B), "shop.orders": (A, B), "shop.alone": (A,)}
    return replace(
        plan_of(rule, version), rules=rules, feeding={TARGET: feeding}, lanes={TARGET: lanes}
    )


class Scene:
    """Two sources and a resolver."""

    def __init__(self, scope: Scope, *, group: bool = False) -> None:
        self.replica = Replica(STOP)
        self.replica.plan = plan(scope, group=group)
        self.logs = {source: RoutedLog(source) for source in (A, B)}
        self.seconds = 10
        self.log: list[RoutedMessage] = []

    def take(self, message: RoutedMessage) -> None:
        self.log.append(message)
        self.replica.apply(*message)

    def say(self, source: str, name: str | None, key: int = 1, schema: Any = USERS) -> None:
        """The source writes the row, or deletes it."""
        self.seconds += 1
        op, row = ("D", (key, "")) if name is None else ("U", (key, name))
        self.take(self.logs[source].rows(schema, [RowChange(op, row, self.seconds)]))

    def decide(self, source: str, number: int = -1) -> None:
        """An operator keeps the source's row in the conflict record of that number."""
        self.take(
            keep_source(decode_record("conflict", self.replica.conflicts[number]), source, NOTE)
        )

    def sent(self, *tables: str) -> list[str]:
        """What went out: kind or table, in short."""
        return [
            header.routed.table.removeprefix("shop.") or header.routed.kind.value
            for header, _ in self.replica.outputs
            if not tables or header.routed.table in tables
        ]


def test_other_rows_of_the_table_wait_in_order_and_go_out_when_an_operator_decides() -> None:
    scene = Scene("table")
    scene.say(A, "x")
    scene.say(B, "y")
    scene.say(A, "one", key=2)
    scene.say(A, "two", key=2)
    scene.say(A, "free", schema=ALONE)
    assert scene.sent() == ["users", "alone"]
    assert scene.replica.state.line.rows == 2
    assert (scene.replica.counts(A)["applied"], scene.replica.counts(A)["held"]) == (2, 2)
    scene.decide(B, 0)
    assert scene.sent() == ["users", "alone", "users", "users", "users"]
    assert [header.out_seq for header, _ in scene.replica.outputs] == [1, 2, 3, 4, 5]
    assert scene.replica.target_rows()[2] == (2, "two")
    assert (scene.replica.counts(A)["applied"], scene.replica.counts(A)["held"]) == (4, 0)
    assert scene.replica.state.line.rows == 0


def test_the_table_goes_on_when_the_sources_agree() -> None:
    scene = Scene("table")
    scene.say(A, "x")
    scene.say(B, "y")
    scene.say(A, "two", key=2)
    scene.say(A, "y")
    assert scene.replica.target_rows() == {1: (1, "y"), 2: (2, "two")}
    assert scene.replica.state.held.tables == {}


def test_a_table_goes_on_only_when_none_of_its_rows_is_on_hold() -> None:
    scene = Scene("table")
    for key in (1, 2):
        scene.say(A, "x", key)
        scene.say(B, "y", key)
    scene.say(A, "z", key=3)
    scene.say(A, "y", key=1)
    assert scene.sent() == ["users"]
    assert scene.replica.state.held.tables == {"shop.users": 1}
    scene.say(A, "y", key=2)
    # Key 2 was first sent behind the hold of key 1, then held itself.
    assert scene.replica.target_rows() == {1: (1, "y"), 2: (2, "y"), 3: (3, "z")}


def test_the_whole_target_waits_with_its_schema_changes_and_markers_under_scope_job() -> None:
    scene = Scene("job")
    scene.say(A, "x")
    scene.say(B, "y")
    scene.take(scene.logs[A].marker())
    scene.say(A, "alone", schema=ALONE)
    scene.take(scene.logs[A].schema_change("shop.alone", TableAction.ALTER))
    scene.say(A, "order", schema=ORDERS)
    scene.say(A, "again", schema=ALONE)
    scene.take(scene.logs[A].marker())
    scene.take(scene.logs[A].marker())
    # The first marker says what is true: nothing waited yet.
    assert scene.sent() == ["users", "marker"]
    scene.say(B, "x")
    assert scene.sent() == [
        "users", "marker", "alone", "alone", "orders", "alone", "marker", "users",
    ]  # fmt: skip
    last = [h for h, _ in scene.replica.outputs if h.routed.kind is RoutedKind.MARKER][-1]
    assert last.routed == scene.logs[A].made[-1][0]


def test_a_marker_passes_when_nothing_waits_any_more_in_any_table() -> None:
    scene = Scene("table")
    for schema in (USERS, ORDERS):
        scene.say(A, "x", schema=schema)
        scene.say(B, "y", schema=schema)
        scene.say(A, "waits", key=2, schema=schema)
    scene.take(scene.logs[A].marker())
    scene.decide(B, 0)
    assert scene.sent("shop.users") == ["users"] * 3
    assert "marker" not in scene.sent()
    scene.decide(B, 1)
    # What had waited, the marker behind it, and what the decision is about.
    assert scene.sent()[-3:] == ["orders", "marker", "orders"]


def test_a_hold_of_another_table_stops_that_table_only() -> None:
    scene = Scene("job")
    scene.say(A, "x", schema=ORDERS)
    scene.say(B, "y", schema=ORDERS)
    scene.say(A, "z", key=2, schema=ORDERS)
    scene.say(A, "x")
    assert scene.sent() == ["orders", "users"]


def test_a_declared_group_of_tables_stops_as_a_whole() -> None:
    scene = Scene("table", group=True)
    scene.say(A, "x")
    scene.say(B, "y")
    scene.say(A, "order", schema=ORDERS)
    scene.say(A, "alone", schema=ALONE)
    assert scene.sent() == ["users", "alone"]
    scene.say(A, "y")
    assert scene.sent() == ["users", "alone", "orders", "users"]


def test_a_narrower_scope_in_a_new_plan_lets_go() -> None:
    scene = Scene("table")
    scene.say(A, "x")
    scene.say(B, "y")
    scene.say(A, "z", key=2)
    assert scene.sent() == ["users"]
    scene.replica.plan = plan("key", version=2)
    scene.take(scene.logs[B].marker())
    assert scene.sent() == ["users", "users", "marker"]
    assert scene.replica.state.holds == 1


def test_more_rows_than_may_wait_halt_by_name() -> None:
    scene = Scene("table")
    scene.replica.state.waiting_rows_max = 2
    scene.say(A, "x")
    scene.say(B, "y")
    scene.say(A, "z", key=2)
    scene.say(A, "z", key=3)
    with pytest.raises(FatalError, match="more than 2 rows wait") as found:
        scene.say(A, "z", key=4)
    assert "state.waiting-rows-max" in found.value.remedy


def test_what_waits_survives_a_crash_and_goes_out_in_many_steps() -> None:
    scene = Scene("table")
    scene.say(A, "x")
    scene.say(B, "y")
    keys = range(2, 2 * RELEASED_AT_ONCE + 10)
    for key in keys:
        scene.say(A, "z", key)
        if key % 50 == 0:
            scene.replica.save()
    scene.replica.crash_and_restore()
    for message in scene.log[scene.replica.state.next_input :]:
        scene.replica.apply(*message)
    assert scene.replica.state.line.rows == len(keys)
    scene.say(A, "y")
    assert len(scene.replica.target_rows()) == len(keys) + 1
    scene.replica.save()
    waiting = [k for k, v in scene.replica.store.data.items() if k[:2] == b"q\0" and v is not None]
    assert waiting == []


def test_the_oldest_hold_of_a_table_is_told_and_a_state_of_before_is_read() -> None:
    scene = Scene("key")
    for key in (1, 2):
        scene.say(A, "x", key)
        scene.say(B, "y", key)
    (told,) = scene.replica.state.held_tables().values()
    first = decode_record("conflict", scene.replica.conflicts[0])["opinions"][1]["ets"]
    assert told == {"rows": 2, "oldest_us": first}
    scene.replica.save()
    store = scene.replica.store.data
    for key in [key for key in store if key[:2] == b"h\0"]:
        del store[key]
    store[META_KEY] = (store[META_KEY] or b"").replace(b'"held":{"shop.users":2},', b"")
    scene.replica.crash_and_restore()
    assert scene.replica.state.held_tables() == {"shop.users": told}
    scene.say(A, "y", 1)
    second = decode_record("conflict", scene.replica.conflicts[1])["opinions"][1]["ets"]
    assert scene.replica.state.held_tables() == {"shop.users": {"rows": 1, "oldest_us": second}}
    scene.say(A, "y", 2)
    assert scene.replica.state.held == HoldBook()


def test_holds_that_one_schema_change_began_under_one_name_are_two() -> None:
    book, state = HoldBook(), dict[bytes, bytes | None]()
    for slot in (b"r\x00x\x00one", b"r\x00x\x00two"):
        book.note("x", slot, "", "t.0.7.0", ets=5, put=state)
    book.note("x", b"r\x00x\x00one", "t.0.7.0", "", ets=6, put=state)
    assert book.tables == {"x": 1}
    assert [value for value in state.values() if value is not None] == [b"5"]


# ---------------------------------------------------------------------- laws over random histories


def history(rng: random.Random) -> list[RoutedMessage]:
    """A log in which rows of two tables are held and let go, and which ends with no row on hold."""
    scene = Scene("key")
    opens: dict[str, int] = {}
    for step in range(rng.randrange(30, 90)):
        source, key = rng.choice((A, B)), rng.randrange(1, 5)
        kind = rng.random()
        if kind < 0.6:
            schema = rng.choice((USERS, USERS, ORDERS))
            changes = [
                RowChange(rng.choice("UUUUD"), (k, rng.choice("xy")), 100 + step)
                for k in rng.sample(range(1, 5), rng.randrange(1, 3))
            ]
            scene.take(scene.logs[source].rows(schema, changes))
        elif kind < 0.75:
            scene.say(A, f"v{step}", key, ALONE)
        elif kind < 0.85:
            scene.take(scene.logs[source].marker())
        elif kind < 0.88:
            scene.take(
                scene.logs[source].schema_change("shop.users", TableAction.TRUNCATE, ets=100 + step)
            )
        elif opens:
            scene.decide(rng.choice((A, B)), rng.choice(list(opens.values())))
        opens = _open(scene)
    for number in list(opens.values()):
        scene.decide(rng.choice((A, B)), number)
    assert not _open(scene), "a decision about what an operator saw last ends the hold"
    return scene.log


def _open(scene: Scene) -> dict[str, int]:
    """Open holds and their newest records' numbers, of which both sources have spoken."""
    found: dict[str, int] = {}
    for number, data in enumerate(scene.replica.conflicts):
        record = decode_record("conflict", data)
        row = f"{record['table']} {record['key']}"
        if record["state"] == "open":
            found[row] = number
        elif record["hold"]:
            found.pop(row, None)
    return found


Sent = list[tuple[Any, bytes]]


def content(sent: Sequence[tuple[Any, bytes]], *tables: str) -> Sent:
    """What went out without its numbers and without markers, of some tables."""
    return [
        (header.routed, value)
        for header, value in sent
        if header.routed.kind is not RoutedKind.MARKER
        and (not tables or header.routed.table in tables)
    ]


@pytest.mark.parametrize("scope", ["table", "job"])
@pytest.mark.parametrize("seed", range(40))
def test_what_stood_still_goes_out_as_if_nothing_had_waited(scope: Scope, seed: int) -> None:
    log = history(random.Random(f"scope {seed}"))
    free, stopping = Replica(STOP), Replica(STOP)
    free.plan, stopping.plan = plan("key"), plan(scope)
    for message in log:
        before, held = len(stopping.outputs), dict(stopping.state.held.tables)
        free.apply(*message)
        stopping.apply(*message)
        held = {name: count for name, count in stopping.state.held.tables.items() if name in held}
        job = scope == "job" and "shop.users" in held
        went = {header.routed.table for header, _ in stopping.outputs[before:]}
        assert went.isdisjoint(TABLES if job else held), "something went out of what stands still"
        for name in TABLES:
            mine = content(stopping.outputs, name)
            assert mine == content(free.outputs, name)[: len(mine)]
    assert not stopping.state.holds
    for name in TABLES:
        assert content(stopping.outputs, name) == content(free.outputs, name)
    assert stopping.state.counters == free.state.counters
    assert stopping.state.line.rows == 0
    ends = [
        {h.routed.source: h.routed for h, _ in r.outputs if h.routed.kind is RoutedKind.MARKER}
        for r in (free, stopping)
    ]
    assert ends[0] == ends[1]


@pytest.mark.parametrize("scope", ["table", "job"])
@pytest.mark.parametrize("seed", range(20))
def test_a_resolver_killed_at_random_sends_the_same_under_the_same_numbers(
    scope: Scope, seed: int
) -> None:
    rng = random.Random(f"scope crash {seed}")
    log = history(rng)
    whole, killed = Replica(STOP), Replica(STOP)
    whole.plan = killed.plan = plan(scope)
    whole.take(log)
    killed.save()
    crashes = 5
    while killed.state.next_input < len(log):
        killed.apply(*log[killed.state.next_input])
        if rng.random() < 0.2:
            killed.save()
        if crashes and rng.random() < 0.1:
            crashes -= 1
            killed.crash_and_restore()
    by_number: dict[int, bytes] = {}
    for header, value in killed.outputs:
        assert by_number.setdefault(header.out_seq, value) == value, "a number with two contents"
    assert by_number == {header.out_seq: value for header, value in whole.outputs}
    whole.save()
    killed.save()
    alive = [{k: v for k, v in r.store.data.items() if v is not None} for r in (whole, killed)]
    assert alive[0] == alive[1]
