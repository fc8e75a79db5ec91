"""A transform whose tables were misspelt is told of, wherever a plan is shown by the tables there are."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from gravity import activation
from gravity.batch import Column, TableSchema
from gravity.cli.plan import plan, transforms_without_table
from gravity.cli.reload import reload
from gravity.config import parse_config
from gravity.plan_compiler import SourceTable, compile_plan
from tests.unit.activation_broker import Broker

COLUMNS = (Column("id", "int", nullable=False), Column("v", "int"))
TABLES = [
    SourceTable("s", TableSchema("app", name, COLUMNS, (0,)))
    for name in ("orders", "users", "left_out")
]
HEAD = """
sources: [{name: s, type: mysql, host: h, username: u, password: p, exclude: [left_out]}]
targets:
  - {name: other, type: mysql, host: h, username: u, password: p, database: d}
  - name: lake
    type: mysql
    host: h
    username: u
    password: p
    database: d
    exclude: [users]
    transforms:
"""
MISSPELT = HEAD + "      - {table: 'ordres_{n}', columns: {drop: [v]}}"
SAID = "target lake, transforms[0]: ordres_{n} means no table that goes there"


def found(*entries: str) -> list[str]:
    text = HEAD + "\n".join(f"      - {entry}" for entry in entries)
    made = compile_plan(parse_config(text, env={}).config, TABLES)
    return transforms_without_table(made, TABLES)


def test_each_pattern_that_means_no_table_of_its_target_is_told() -> None:
    drop = "columns: {drop: [v]}"
    where = "target lake, transforms"
    assert found(f"{{table: orders, {drop}}}") == []
    assert found(f"{{table: 'ord*', {drop}}}", f"{{table: [orders, 'x.*'], {drop}}}") == [
        f"{where}[1]: x.* means no table that goes there",
        f"{where}[1]: an earlier entry means every table that this one does",
    ]
    nothing = [
        f"{{table: users, {drop}}}",  # The target leaves it out.
        f"{{table: left_out, {drop}}}",  # It is not read.
        f"{{table: '*', exclude: ['*'], {drop}}}",
    ]
    for entry in nothing:
        [told] = found(entry)
        assert told.startswith(f"{where}[0]: ")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    Broker().install(monkeypatch, TABLES)
    monkeypatch.setattr(activation, "source_tables", lambda *_: TABLES)
    written = tmp_path / "gravity.yaml"
    written.write_text(MISSPELT)
    return written


@pytest.mark.parametrize("diff", [False, True])
def test_a_plan_shows_it_to_people_and_to_programs(
    path: Path, capsys: pytest.CaptureFixture[str], *, diff: bool
) -> None:
    plan(path, connect=not diff, diff=diff)
    assert f"no table: {SAID}" in capsys.readouterr().out
    plan(path, connect=not diff, diff=diff, as_json=True)
    assert json.loads(capsys.readouterr().out)["transforms_without_table"] == [SAID]


def test_a_reload_shows_it_even_where_nothing_differs(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = SimpleNamespace(read=lambda: SimpleNamespace(sources=[]), close=lambda: None)
    monkeypatch.setattr("gravity.status_reader.StatusReader", lambda _: read)
    for _ in range(2):
        reload(path, as_json=False, wait_s=1.0)
        assert f"no table: {SAID}" in capsys.readouterr().out
    reload(path, as_json=True, wait_s=1.0)
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["transforms_without_table"] == [SAID]


def test_nothing_is_said_without_a_look_at_the_tables(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(path, as_json=True)
    assert json.loads(capsys.readouterr().out)["transforms_without_table"] == []
