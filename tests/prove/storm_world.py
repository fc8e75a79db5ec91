"""A source in the storm, a MySQL and a ClickHouse target behind it, and the comparison of the three."""

from __future__ import annotations

import os
import signal
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import clickhouse_connect
import pymysql
from clickhouse_connect.driver.exceptions import ClickHouseError
from gravity_devstack import Stack
from gravity_devstack.database import DatabaseServer

from deploy.demo.pipeline import Pipeline, wait_for
from deploy.demo.progress import ProgressReader
from gravity.config import load_config
from tests.oracle.cell import canonical
from tests.oracle.type_text import Shape, at_clickhouse
from tests.prove.schema_storm import Row, Storm

TARGET = "mysql:storm-target"
START_S = 120.0
EQUAL_S = 3600.0
"""For which targets may get nearer to the source, and not be equal to it."""


@dataclass
class Outcome:
    """What the storm came to."""

    pairs: int = 0
    differences: list[str] = field(default_factory=list)
    note: str = ""


class StormWorld:
    """One `gravity run` between a source and two targets that follow its schema."""

    def __init__(self, stack: Stack, server: DatabaseServer, folder: Path, seed: int) -> None:
        self._database = f"storm_{uuid.uuid4().hex[:8]}"
        with server.connect() as client, client.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {self._database} CHARACTER SET utf8mb4")
        started = stack.start_all([TARGET, "clickhouse", "kafka"])
        target = started[TARGET]
        assert isinstance(target, DatabaseServer)
        self._target = Storm(target, "", seed)
        house = stack.clickhouse()
        self._house = clickhouse_connect.get_client(
            host=house.host, port=house.port, username=house.user, password=house.password
        )
        self.storm = Storm(server, self._database, seed)
        self._path = folder / "gravity.yaml"
        self._path.write_text(
            f"""
sources:
  - {{name: s, type: {server.flavor}, databases: [{self._database}], {_place(server)}}}
targets:
  - {{name: m-{self._database}, type: mysql, {_place(target)}}}
  - {{name: c-{self._database}, type: clickhouse, {_place(house)}}}
kafka: {{brokers: ["{stack.kafka().brokers}"], topic-prefix: {self._database}.}}
snapshot: {{chunk-rows: 25}}
state: {{folder: {folder / "state"}}}
""",
            encoding="utf-8",
        )
        self._reader = ProgressReader(load_config(self._path).config)
        self.pipeline = Pipeline(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.storm.close()
        self._target.close()
        self._house.close()

    def until_begun(self) -> None:
        """Returns once the source is read."""
        wait_for(
            lambda: self._reader.refresh().has_begun("s"),
            self.pipeline,
            timeout_s=START_S,
            what="the source is read",
        )

    def kill_collector(self) -> None:
        """Kills the collector, whose supervisor starts it again."""
        pid = self.pipeline.pid("gravity_collector")
        if pid is not None:
            os.kill(pid, signal.SIGKILL)

    def halts(self) -> list[str]:
        """What stages said when they halted."""
        return [
            line
            for line in self._path.with_suffix(".log").read_text().splitlines()
            if '"halted"' in line
        ]

    def until_equal(self, stalled_s: float) -> Outcome:
        """The comparison, once it shows no difference, or has shown the same ones for `stalled_s`."""
        outcome, deadline = Outcome(), time.monotonic() + stalled_s

        def is_last() -> bool:
            nonlocal outcome, deadline
            before, outcome = outcome, self._compare()
            if outcome.differences != before.differences:
                deadline = time.monotonic() + stalled_s
            return not outcome.differences or time.monotonic() > deadline or bool(self.halts())

        wait_for(is_last, self.pipeline, timeout_s=EQUAL_S, what="the last comparison", every_s=1.0)
        return outcome

    def _compare(self) -> Outcome:
        outcome = Outcome()
        for table in self.storm.tables():
            shapes = self.storm.shapes(table)
            source = self.storm.rows(table)
            at_mysql = self._at_mysql(table)
            self._differ(outcome, f"mysql {table}", _said(source, shapes), _said(at_mysql, shapes))
            wanted = {
                key: {shape.name: at_clickhouse(row[shape.name], shape) for shape in shapes}
                for key, row in source.items()
            }
            at_house = self._at_clickhouse(table)
            self._differ(
                outcome, f"clickhouse {table}", _said(wanted, shapes), _said(at_house, shapes)
            )
        return outcome

    def _differ(
        self, outcome: Outcome, what: str, source: dict[str, Row], target: dict[str, Row]
    ) -> None:
        for key in sorted({*source, *target}):
            outcome.pairs += 1
            if source.get(key) != target.get(key):
                outcome.differences.append(
                    f"{what} {key}: source {source.get(key)}, target {target.get(key)}"
                )

    def _at_mysql(self, table: str) -> dict[str, Row]:
        try:
            return self._target.rows(table, self._database)
        except pymysql.err.MySQLError:
            # It is just being altered.
            return {}

    def _at_clickhouse(self, table: str) -> dict[str, Row]:
        try:
            described: Any = self._house.query(f"DESCRIBE `{self._database}`.`{table}_current`")
            names = [str(row[0]) for row in described.result_rows]
            listed = ", ".join(f"toString(`{name}`)" for name in names)
            found = self._house.query(f"SELECT {listed} FROM `{self._database}`.`{table}_current`")
        except ClickHouseError:
            return {}
        rows = [dict(zip(names, row, strict=True)) for row in found.result_rows]
        return {str(row["id"]): row for row in rows}


def _place(server: Any) -> str:
    return f"host: {server.host}, port: {server.port}, username: {server.user}, password: {server.password}"


def _said(rows: dict[str, Row], shapes: list[Shape]) -> dict[str, Row]:
    """The rows with each cell in the one spelling of its type; columns that the source lacks as they are."""
    kinds = {shape.name: shape.data_type for shape in shapes}
    return {
        key: {name: _in_one_spelling(cell, kinds.get(name, "text")) for name, cell in row.items()}
        for key, row in rows.items()
    }


def _in_one_spelling(cell: Any, data_type: str) -> Any:
    try:
        return canonical(cell, data_type)
    except (ValueError, ArithmeticError):
        # A target that is still behind a change of type: a difference, as it stands.
        return repr(cell)
