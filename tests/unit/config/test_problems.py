"""Whatever is wrong is said at once: with its line, its key and the nearest known name."""

from pathlib import Path

import pytest

from gravity.config import ConfigError, load_config, parse_config

HEAD = """\
sources:
  - {name: shop, host: h, username: u}
targets:
  - {name: warehouse, type: mysql, host: h, username: u}
  - {name: lake, type: clickhouse, host: h}
"""
"""Five lines; what is under test begins on line 6."""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "g.yaml", env={"HOME": "/"})
    assert str(caught.value) == "\n".join(str(p) for p in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("tail", "said"),
    [
        ("routng: []", "g.yaml:6: routng: unknown key (did you mean routing?)"),
        (
            "batch:\n  row-max: 5",
            "g.yaml:7: batch.row-max: unknown key (did you mean rows-max?)",
        ),
        ("batch:\n  rows-max: many", "g.yaml:7: batch.rows-max: must be a whole number"),
        ("batch:\n  rows-max: 0", "g.yaml:7: batch.rows-max: must be greater than 0"),
        ("batch: 5", "g.yaml:6: batch: must be a mapping of keys"),
        (
            "merge: {strategy: time-ordered, max-wait: 2s}",
            "g.yaml:6: merge.max-wait: must be 3s or more: a source gives a sign of life every second",
        ),
        (
            "merge: {strategy: by-table, targets: [lakes]}",
            "g.yaml:6: merge.targets[0]: no target called lakes is declared (did you mean lake?)",
        ),
        (
            "routing:\n  - source-tables: [users]\n    targets: [warehose]",
            (
                "g.yaml:8: routing[0].targets[0]: no target called warehose is declared "
                "(did you mean warehouse?)"
            ),
        ),
        (
            "routing:\n  - source-tables: [users]\n    targets: warehose",
            (
                "g.yaml:8: routing[0].targets: no target called warehose is declared "
                "(did you mean warehouse?)"
            ),
        ),
        (
            "routing:\n  - {source-tables: [users], targets: [lake], sources: [shopp]}",
            (
                "g.yaml:7: routing[0].sources[0]: no source called shopp is declared "
                "(did you mean shop?)"
            ),
        ),
        (
            "distribution-rules:\n  - condition: a > 1\n    targets: [lakes]",
            (
                "g.yaml:8: distribution-rules[0].targets[0]: no target called lakes is declared "
                "(did you mean lake?)"
            ),
        ),
        (
            "routing-rules:\n  r: {strategy: hash, key: id, targets: [{target: lakes}]}",
            (
                "g.yaml:7: routing-rules.r.targets[0].target: no target called lakes is declared "
                "(did you mean lake?)"
            ),
        ),
        (
            "failover: {primary: [warehouse], backup: [laek]}",
            "g.yaml:6: failover.backup[0]: no target called laek is declared (did you mean lake?)",
        ),
        (
            "conflict-resolution:\n  source-priorities:\n    shopp: 1",
            (
                "g.yaml:8: conflict-resolution.source-priorities.shopp: no source called shopp is "
                "declared (did you mean shop?)"
            ),
        ),
        (
            "conflict-resolution:\n  rules:\n  - {strategy: merge, columns: {a: 'owner:shopp'}}",
            (
                "g.yaml:8: conflict-resolution.rules[0].columns.a: no source called shopp is declared "
                "(did you mean shop?)"
            ),
        ),
        (
            "conflict-resolution: {rules: [{table: a, strategy: error-stop, target: laek}]}",
            (
                "g.yaml:6: conflict-resolution.rules[0].target: no target called laek is declared "
                "(did you mean lake?)"
            ),
        ),
        (
            "routing:\n  - source-tables: ['user[s']\n    targets: [lake]",
            (
                "g.yaml:7: routing[0].source-tables[0]: bad pattern: 'user[s': the [ at character 5 is "
                "never closed"
            ),
        ),
        (
            "routing:\n  - source-tables: [a.b.c]\n    targets: [lake]",
            (
                "g.yaml:7: routing[0].source-tables[0]: bad pattern: 'a.b.c': more than one dot; write "
                "database.table, and [.] for a dot"
            ),
        ),
        (
            "routing:\n  - {source-tables: [a], targets: [lake], strategy: brodcast}",
            (
                "g.yaml:7: routing[0].strategy: must be one of broadcast, single, conditional, "
                "hash, range, round-robin, weighted-round-robin, least-connections, consistent-hash "
                "(did you mean broadcast?)"
            ),
        ),
        (
            "routing:\n  - {source-tables: [a], targets: [lake, warehouse], strategy: single}",
            (
                "g.yaml:7: routing[0].targets: single takes one target "
                "(did you mean strategy: broadcast?)"
            ),
        ),
        (
            "routing:\n  - {source-tables: [a], strategy: broadcast}",
            "g.yaml:7: routing[0]: targets: missing: name at least one",
        ),
        ("routing:\n  - {targets: [lake]}", "g.yaml:7: routing[0].source-tables: missing"),
        (
            "routing:\n  - {source-tables: [a], targets: [lake], strategy: conditional}",
            (
                "g.yaml:7: routing[0].strategy: conditional needs conditions: "
                "[{if: ..., targets: [...]}]"
            ),
        ),
        (
            (
                "routing:\n  - source-tables: [a]\n    targets: [lake]\n    strategy: conditional\n"
                "    conditions:\n    - {if: a = 1, targets: [warehouse]}"
            ),
            (
                "g.yaml:11: routing[0].conditions[0].targets: warehouse is not among the targets of this "
                "route"
            ),
        ),
        (
            "conflict-resolution: {default-strategy: time-latest}",
            (
                "g.yaml:6: conflict-resolution.default-strategy: must be one of source-priority, "
                "timestamp-latest, merge, error-stop (did you mean timestamp-latest?)"
            ),
        ),
        (
            "conflict-resolution: {strategy: merge, default-strategy: merge}",
            "g.yaml:6: conflict-resolution.strategy: says the same as default-strategy on line 6",
        ),
        (
            "conflict-resolution: {rules: [{match: {tabel: a}, strategy: merge}]}",
            "g.yaml:6: conflict-resolution.rules[0].match.tabel: unknown key (did you mean table?)",
        ),
        (
            "conflict-resolution: {rules: [{strategy: source-priority, columns: {a: sum}}]}",
            (
                "g.yaml:6: conflict-resolution.rules[0].columns: only used by strategy merge, not by "
                "source-priority"
            ),
        ),
        (
            "conflict-resolution: {rules: [{strategy: merge, columns: {a: plus}}]}",
            (
                "g.yaml:6: conflict-resolution.rules[0].columns.a: must be latest, priority, "
                "owner:<source>, max, min, union, sum or coalesce"
            ),
        ),
        (
            "conflict-resolution: {rules: [{strategy: merge, tombstone-retention: 7}]}",
            (
                "g.yaml:6: conflict-resolution.rules[0].tombstone-retention: a span of time needs a "
                "unit, such as 500ms, 30s, 10m, 2h or 7d"
            ),
        ),
        (
            "monitoring: {metrics: [{name: sync_latncy}]}",
            "g.yaml:6: monitoring.metrics[0].name: no such metric (did you mean sync_latency?)",
        ),
        (
            "monitoring: {metrics: [{name: sync_latency, unit: milisecond}]}",
            (
                "g.yaml:6: monitoring.metrics[0].unit: sync_latency is measured in milliseconds or "
                "seconds (did you mean milliseconds?)"
            ),
        ),
        (
            "alerts: [{condition: sync_latncy > 10s}]",
            "g.yaml:6: alerts[0].condition: no metric sync_latncy (did you mean sync_latency?)",
        ),
        (
            "alerts: [{condition: sync_throughput > 5%}]",
            "g.yaml:6: alerts[0].condition: 5% is not a value of sync_throughput",
        ),
        (
            "kafka: {security: {protocol: sasl_ssl}}",
            "g.yaml:6: kafka.security.protocol: sasl_ssl needs sasl: {username, password}",
        ),
        ("kafka:\n  brokers: []", "g.yaml:7: kafka.brokers: must not be empty"),
        ("batch: {}\nbatch: {}", "g.yaml:7: batch: key given twice, first on line 6"),
        (
            "batch: {rows-max: 1, rows_max: 2}",
            "g.yaml:6: batch.rows_max: says the same as rows-max on line 6",
        ),
        ("sink: ${NOPE}", "g.yaml:6: sink: environment variable NOPE is not set; set it or write "),
        ("sink: ${HOEM}", "(did you mean HOME?)"),
        ("sink: ${not a name}", "g.yaml:6: sink: write ${NAME} or ${NAME:-default}; $${ for text"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_remedy(tail: str, said: str) -> None:
    found = problems(HEAD + tail)
    assert any(said in line for line in found), found
    if "${" not in tail:
        assert len(found) == 1, found


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ("0 to 9|5 to 20", ":5: routing-rules.r.ranges[1].range: overlaps 0 to 9"),
        ("0 to 9|9 to 20", ":5: routing-rules.r.ranges[1].range: overlaps 0 to 9"),
        ("* to *|9 to 20", "overlaps * to *"),
        ("0 to 9|11 to 20", ":5: routing-rules.r.ranges[1].range: leaves a gap after 0 to 9"),
        ("20 to 30|0 to 9", ":4: routing-rules.r.ranges[0].range: leaves a gap after 0 to 9"),
        ("0.0 to 0.9|1.1 to 2", "leaves a gap after 0.0 to 0.9"),
        ("2023-01-01 to 2023-12-30|2024-01-01 to *", "leaves a gap after 2023-01-01 to 2023-12-30"),
        ("2023-01-01 to 2023-12-31|2023-12-31 to *", "overlaps 2023-01-01 to 2023-12-31"),
        ("9 to 0|10 to 20", "the range runs backwards: 9 comes after 0"),
        ("2023-02-30 to 2024-01-01|10 to 20", "2023-02-30 is neither a number nor a day"),
        ("1 to 2024-01-01|10 to 20", "one end is a number and the other a day"),
        ("1 to 5|2024-01-01 to *", "days and numbers are mixed in one rule"),
        ("1-5|6 to 10", "must be A to B"),
    ],
)
def test_ranges_leave_no_row_without_a_target_or_with_two(ranges: str, said: str) -> None:
    first, second = ranges.split("|")
    text = "routing-rules:\n  r:\n    {strategy: range, key: a, ranges: [\n"
    text += f"    {{range: {first!r}, target: a}},\n    {{range: {second!r}, target: b}}]}}"
    assert any(said in line for line in problems(text)), problems(text)


@pytest.mark.parametrize("ranges", ["* to 9|10 to *", "1.0 to 1.9|2.0 to 3", "10 to 20|0 to 9"])
def test_ranges_that_meet_are_accepted_in_any_order(ranges: str) -> None:
    first, second = ranges.split("|")
    text = f"[{{range: {first!r}, target: a}}, {{range: {second!r}, target: b}}]"
    parse_config(f"routing-rules: {{r: {{strategy: range, key: a, ranges: {text}}}}}", env={})


@pytest.mark.parametrize(
    ("targets", "said"),
    [
        ("[{target: a, residues: [0]}, {target: b, residues: [2]}]", "each of 0 to 1 once"),
        ("[{target: a, residues: [0, 1]}, {target: b, residues: [1]}]", "each of 0 to 2 once"),
        ("[{target: a, residues: [0]}, b]", "for every target or for none"),
    ],
)
def test_residues_leave_no_row_without_a_target(targets: str, said: str) -> None:
    text = f"routing-rules: {{r: {{strategy: hash, key: id, targets: {targets}}}}}"
    assert any(said in line for line in problems(text))


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ("strategy: hash, targets: [a]", "key: missing: hash needs the column"),
        ("strategy: range, key: k, targets: [a]", "range names a target per range"),
        ("strategy: range, key: k", "ranges: missing"),
        ("strategy: range, key: [k, l], ranges: [{range: 0 to 1, target: a}]", "by one column"),
        (
            "strategy: round-robin, targets: [a], ranges: [{range: 0 to 1, target: a}]",
            "ranges: not used",
        ),
        ("strategy: hash, key: k, targets: [a], default: a", "default: not used by strategy hash"),
        ("strategy: broadcast, key: k, targets: [a]", "key: not used by strategy broadcast"),
        (
            "strategy: range, key: k, default: [a, b], ranges: [{range: 0 to 1, target: a}]",
            "default: range takes one target",
        ),
    ],
)
def test_a_route_has_the_parts_of_its_strategy(route: str, said: str) -> None:
    found = problems(f"routing: [{{source-tables: t, {route}}}]")
    assert any(said in line for line in found), found


def test_a_target_has_one_entry_in_a_rule() -> None:
    text = "routing-rules: {r: {strategy: round-robin, targets: [a, b, a]}}"
    assert any("a is named twice; give it weight or residues" in line for line in problems(text))


def test_a_target_of_unknown_type_is_answered_with_the_types() -> None:
    assert problems("targets:\n  - name: a\n    type: mysq") == [
        "g.yaml:3: targets[0].type: must be one of mysql, clickhouse, kafka (did you mean mysql?)"
    ]


def test_a_target_without_type_may_only_have_tables() -> None:
    assert problems("targets:\n  - name: a\n    host: h") == [
        "g.yaml:3: targets[0].host: unknown key as long as type is not given: mysql, clickhouse, kafka"
    ]


def test_names_are_used_once() -> None:
    text = "sources:\n- {name: a}\n- {name: b}\n- {name: a}\n"
    text += "targets:\n- {name: t}\n- {name: t}\n"
    assert problems(text) == [
        "g.yaml:4: sources[2].name: source name used twice, first on line 2",
        "g.yaml:7: targets[1].name: target name used twice, first on line 6",
    ]


def test_a_name_fits_into_a_topic() -> None:
    assert "may only hold letters, digits" in problems("sources: [{name: 'a b'}]")[0]


def test_a_bad_condition_says_what_is_wrong_and_what_is_supported() -> None:
    text = "distribution-rules:\n- condition: sleep(a) = 'x'\n  targets: [t]\n"
    text += "- condition: 'a >'\n  targets: [t]\n- condition: (select 1)\n  targets: [t]"
    first, second, third = problems(text)
    assert first.startswith("g.yaml:2: distribution-rules[0].condition: ")
    assert "not supported in a condition [SLEEP(a)]" in first
    assert "supported are columns" in first
    assert second.startswith("g.yaml:4: distribution-rules[1].condition: not an SQL expression")
    assert third.startswith("g.yaml:6: distribution-rules[2].condition: ")


def test_all_problems_are_told_at_once_in_file_order() -> None:
    text = """\
gravity:
  sources:
    - name: a
      prot: 3306
      tables: ["x["]
    - name: a
      port: 99999
  targets:
    - {name: t, type: mysql, hots: h}
  routing:
    - source-tables: [users]
      targets: [tt]
      strategy: conditional
      conditions: [{if: "a ==", targets: [t]}]
  bacth: {}
other: 1
"""
    found = problems(text)
    assert [line.partition(": ")[0] for line in found] == [
        f"g.yaml:{line}" for line in (4, 5, 6, 7, 9, 12, 14, 15, 16)
    ]
    assert found[0] == "g.yaml:4: gravity.sources[0].prot: unknown key (did you mean port?)"
    assert found[4] == "g.yaml:9: gravity.targets[0].hots: unknown key (did you mean host?)"
    assert found[8] == "g.yaml:16: other: must stand under gravity:"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "g.yaml:1: not valid YAML: expected"),
        ("a: *b", "g.yaml:1: not valid YAML: found undefined alias"),
        ("a: [1", "g.yaml:1: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        (
            "a:\n\tb: 1",
            "g.yaml:2: not valid YAML: found character '\\t' that cannot start any token; indent with spaces",
        ),
        ("a: b: c", "g.yaml:1: not valid YAML: mapping values are not allowed here"),
        ("a: @b", "g.yaml:1: not valid YAML: found character '@' that cannot start any token"),
        ("a: *b", "g.yaml:1: not valid YAML: found undefined alias …"),
        ("- 1", "g.yaml:1: the document must be a mapping of keys"),
        ("gravity: 5", "g.yaml:1: gravity: must be a mapping of keys"),
        ("a: &a {b: *a}", "g.yaml:1: a.b: an alias may not contain itself"),
        ("? [a]\n: 1", "g.yaml:1: a key must be plain text"),
    ],
)
def test_a_document_that_is_no_configuration(text: str, said: str) -> None:
    assert any(line.startswith(said) for line in problems(text)), problems(text)


def test_aliases_that_unfold_without_end_are_refused() -> None:
    text = "x-a: &a [1,1,1,1,1,1,1,1,1,1]\n"
    for before, here in zip("abcdefg", "bcdefgh", strict=True):
        text += f"x-{here}: &{here} [{','.join([f'*{before}'] * 10)}]\n"
    assert "more than 100000 values" in "\n".join(problems(text))


def test_an_empty_document_loads_and_says_what_it_lacks() -> None:
    loaded = parse_config("", env={})
    with pytest.raises(ConfigError, match="sources: missing: name at least one"):
        loaded.config.require_runnable()


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: can't be read: No such file"):
        load_config(tmp_path / "none.yaml", {})
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"binary\.yaml: is not UTF-8 at byte 3"):
        load_config(binary, {})


def test_a_fragment_may_name_a_target_as_often_as_it_likes() -> None:
    text = "distribution-rules:\n- {condition: a, targets: [t, u]}\n- {condition: b, targets: t}"
    assert [t.name for t in parse_config(text, env={}).config.targets] == ["t", "u"]
