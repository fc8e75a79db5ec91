"""The tree tests itself: what taste can't check and a reader relies on."""

from __future__ import annotations

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.parent for path in ROOT.glob("services/*/pyproject.toml"))
README_HEADINGS = ["Reads", "Writes", "State", "Guarantees", "Knobs"]
NAMES_THAT_SAY_NOTHING = {"util", "utils", "helper", "helpers", "common", "manager", "base", "misc"}
MAIN_LINES_MAX = 40
MODULE_LINES_MAX = 500
PROSE_LENGTH_MAX = 120
GENERATED_PAGES = {"docs/cli.md", "docs/config.md"}

DOORS = {
    "confluent_kafka": ("gravity/kafka/", "deploy/devstack/"),
    "faust": (
        "gravity/faust_app.py",
        "services/router/gravity_router/app.py",
        "services/resolver/gravity_resolver/app.py",
    ),
    "pymysqlreplication": ("services/collector/gravity_collector/binlog.py",),
    "clickhouse_connect": ("services/sink-clickhouse/gravity_sink_clickhouse/",),
    "rocksdict": ("services/resolver/gravity_resolver/store.py",),
    "sqlglot": ("gravity/condition/", "services/collector/gravity_collector/ddl.py"),
    # Between the stages the codec; what readers outside get is the sink's own.
    "fastavro": ("gravity/codec.py", "services/sink-kafka/gravity_sink_kafka/avro_row.py"),
    "ruamel": ("gravity/config/",),
    "aiohttp": ("gravity/recency_server.py",),
}
"""Foreign library → the only places of the product that may import it."""


def tracked(*patterns: str) -> list[Path]:
    out = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    names = [name for name in out.stdout.decode().split("\0") if name]
    return [ROOT / name for name in names if (ROOT / name).is_file()]


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_the_oracle_knows_nothing_of_the_product() -> None:
    wrong = [
        (path.name, name)
        for path in (ROOT / "tests/oracle").glob("*.py")
        for name in imports_of(path)
        if name.split(".")[0].startswith("gravity")
    ]
    assert not wrong


@pytest.mark.parametrize("library", DOORS)
def test_each_foreign_library_enters_through_its_door(library: str) -> None:
    product = [*tracked("gravity/**.py"), *tracked("services/**.py"), *tracked("deploy/**.py")]
    wrong = [
        str(path.relative_to(ROOT))
        for path in product
        if any(name.split(".")[0] == library for name in imports_of(path))
        and not str(path.relative_to(ROOT)).startswith(DOORS[library])
    ]
    assert not wrong


@pytest.mark.parametrize("service", SERVICES, ids=lambda path: path.name)
def test_each_service_has_one_shape(service: Path) -> None:
    headings = re.findall(r"^## (.+)$", (service / "README.md").read_text(), re.MULTILINE)
    assert [h for h in headings if h in README_HEADINGS] == README_HEADINGS
    package = service / f"gravity_{service.name.replace('-', '_')}"
    main = (package / "__main__.py").read_text()
    assert len(main.splitlines()) <= MAIN_LINES_MAX
    assert (package / "py.typed").exists()


def test_every_module_can_be_read_at_a_sitting() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in tracked("**.py")}
    assert not {path: count for path, count in lines.items() if count > MODULE_LINES_MAX}


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [p for p in tracked("**.py") if p.stem in NAMES_THAT_SAY_NOTHING]


@pytest.mark.parametrize("schema", sorted(ROOT.glob("schemas/*.avsc")), ids=lambda p: p.stem)
def test_every_field_of_a_contract_is_documented(schema: Path) -> None:
    def undocumented(node: object, where: str) -> Iterator[str]:
        if isinstance(node, dict):
            if node.get("type") == "record" and not node.get("doc"):
                yield where
            for field in node.get("fields", []):
                if not field.get("doc"):
                    yield f"{where}.{field['name']}"
                yield from undocumented(field["type"], f"{where}.{field['name']}")
            for key in ("type", "items", "values"):
                if isinstance(node.get(key), dict | list):
                    yield from undocumented(node[key], where)
        elif isinstance(node, list):
            for item in node:
                yield from undocumented(item, where)

    assert not list(undocumented(json.loads(schema.read_text()), schema.stem))


def test_each_topic_is_described() -> None:
    wanted = {"topic", "purpose", "schema", "producers", "consumers", "cleanup", "partitions"}
    for path in ROOT.glob("schemas/topics/*.yaml"):
        keys = {line.split(":")[0] for line in path.read_text().splitlines() if line}
        assert keys == wanted, path.name


def test_the_lock_names_no_registry() -> None:
    assert "://" not in (ROOT / "requirements.lock").read_text()


def test_no_file_names_a_place_of_some_machine() -> None:
    place = re.compile(r"(?<![\w.])/(?:work|root|home|farm)/\w")
    wrong = []
    for path in tracked("**.py", "**.md", "**.toml", "**.yaml", "**.yml", "Makefile", ".ci/*"):
        if path == Path(__file__):
            continue
        if place.search(path.read_text(encoding="utf-8")):
            wrong.append(str(path.relative_to(ROOT)))
    assert not wrong


def test_no_work_is_left_open_in_code() -> None:
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|NotImplemented(Error)?)\b")
    assert not [
        str(path.relative_to(ROOT))
        for path in tracked("**.py")
        if path != Path(__file__) and marks.search(path.read_text(encoding="utf-8"))
    ]


def prose_of(text: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a page that are neither of a table nor of a block of code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.lstrip().startswith("|"):
            yield number, line


def test_prose_is_wrapped() -> None:
    pages = {str(path.relative_to(ROOT)): path for path in tracked("**.md")}
    assert not [
        f"{name}:{number}"
        for name, path in pages.items()
        # A record of a decision has a line for each paragraph.
        if name not in GENERATED_PAGES and "docs/adr/" not in name
        for number, line in prose_of(path.read_text(encoding="utf-8"))
        if len(line) > PROSE_LENGTH_MAX
    ]
