"""Tables tied by a foreign key, and what waits and counts at their target."""

from __future__ import annotations

from typing import Any

from gravity.config.conflict import ConflictResolution, ConflictRule, Constraint
from gravity.sink import Lane
from gravity.testing.target_log import Message, table
from tests.target_server import MysqlServer


class Family:
    """Two tables tied by a foreign key, at the target and as the source declares them."""

    def __init__(self, server: MysqlServer) -> None:
        name = server.database
        server.query(f"CREATE TABLE {name}.parent (id INT PRIMARY KEY, n INT)")
        server.query(
            f"CREATE TABLE {name}.child (id INT PRIMARY KEY, p INT, n INT, "
            "FOREIGN KEY (p) REFERENCES parent(id))"
        )
        self.parent = table(f"{name}.parent", [("id", "int"), ("n", "int")], ["id"])
        self.child = table(f"{name}.child", [("id", "int"), ("p", "int"), ("n", "int")], ["id"])


def constraint(**parts: Any) -> ConflictResolution:
    rule = ConflictRule(strategy="source-priority", constraint=Constraint(**parts))
    return ConflictResolution(rules=(rule,))


def parked_rows(server: MysqlServer) -> list[tuple[int, int, str, str]]:
    return server.query(
        "SELECT part, message_offset, row_key, code FROM _gravity._gravity_parked "
        f"WHERE target='{server.name}' ORDER BY part, message_offset, row_no"
    )


def read(lane: Lane, topic: list[Message]) -> int:
    kinds = [dict(headers) for headers, _ in topic[: lane.stored.progress.next_offset]]
    return sum(int(fields["rows"]) for fields in kinds)


def require_conserved(server: MysqlServer, lane: Lane, topic: list[Message]) -> None:
    c = lane.stored.counts
    assert c.applied + c.superseded + c.parked + c.dead == read(lane, topic)
    waiting = [row for row in parked_rows(server) if row[0] == lane.partition]
    assert len(waiting) == c.parked
