"""Secrets come from the environment or from files, and are never shown."""

import traceback
from pathlib import Path

import pytest

from gravity.config import Config, ConfigError, LoadedConfig, load_config, parse_config
from gravity.config.target import KafkaTarget

SECRET = "hunter2-s3cret"


def secret_of(config: Config) -> str:
    password = config.sources[0].password
    assert password is not None
    return password.get_secret_value()


def write(folder: Path, text: str) -> Path:
    path = folder / "g.yaml"
    path.write_text(text)
    return path


def test_the_environment_gives_values_and_defaults_stand_in() -> None:
    text = """
sources:
- {name: a, password: "${PW}", host: "${HOST:-db}-${N}", port: "${PORT:-3307}", username: "a$${b}"}
batch: {rows-max: "${ROWS:-7}"}
kafka: {brokers: "${BROKERS:-k1:1, k2:2}"}
"""
    config = parse_config(text, env={"PW": SECRET, "N": "1", "PORT": ""}).config
    source = config.sources[0]
    assert secret_of(config) == SECRET
    assert (source.host, source.port, source.username) == ("db-1", 3307, "a${b}")
    assert config.batch.rows_max == 7
    assert config.kafka.brokers == ("k1:1", "k2:2")


def test_a_value_from_outside_is_not_read_as_a_reference_again() -> None:
    config = parse_config('sources: [{name: a, host: "${A}"}]', env={"A": "${B}", "B": "x"}).config
    assert config.sources[0].host == "${B}"


@pytest.mark.parametrize(
    ("text", "env", "brokers"),
    [
        ("", {}, ("127.0.0.1:9092",)),
        ("", {"KAFKA_BROKERS": "k1:9092,k2:9092"}, ("k1:9092", "k2:9092")),
        ("kafka:", {"KAFKA_BROKERS": "k1:9092"}, ("k1:9092",)),
        ("gravity: {kafka: {partitions: 2}}", {"KAFKA_BROKERS": "k1:9092"}, ("k1:9092",)),
        ("kafka: {brokers: [a:1]}", {"KAFKA_BROKERS": "k1:9092"}, ("a:1",)),
    ],
)
def test_brokers_come_from_the_environment_where_the_file_is_silent(
    text: str, env: dict[str, str], brokers: tuple[str, ...]
) -> None:
    assert parse_config(text, env=env).config.kafka.brokers == brokers


@pytest.mark.parametrize("absolute", [False, True])
def test_a_password_file_stands_for_the_password(tmp_path: Path, *, absolute: bool) -> None:
    (tmp_path / "pw").write_text(SECRET + "\n")
    name = tmp_path / "pw" if absolute else "pw"
    text = f"""
sources: [{{name: a, password-file: {name}}}]
targets:
  k: {{type: kafka, brokers: b:1, security: {{protocol: sasl_ssl, sasl: {{username: u, password_file: {name}}}}}}}
"""
    config = load_config(write(tmp_path, text), {}).config
    assert secret_of(config) == SECRET
    target = config.targets[0]
    assert isinstance(target, KafkaTarget)
    assert target.security.sasl is not None
    assert target.security.sasl.password.get_secret_value() == SECRET


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("password-file: none", ":1: sources[0].password-file: can't read"),
        ("password-file: empty", "is empty"),
        ("password-file: binary", "is not text"),
        ("password-file: [a]", "must be the path of a file"),
        ("password-file: empty, password: x", "give either password or password-file"),
    ],
)
def test_a_password_file_that_gives_none_is_a_problem(tmp_path: Path, part: str, said: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r".") as caught:
        load_config(write(tmp_path, f"sources: [{{name: a, {part}}}]"), {})
    assert said in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_loaded_secret_is_in_no_representation() -> None:
    text = f"sources: [{{name: a, password: {SECRET}}}]\ntargets:\n"
    text += f"- {{name: m, type: mysql, password: {SECRET}}}\n"
    text += f"- {{name: c, type: clickhouse, password: {SECRET}}}\n"
    sasl = f"{{username: u, password: {SECRET}}}"
    text += f"- {{name: k, type: kafka, security: {{protocol: sasl_ssl, sasl: {sasl}}}}}\n"
    loaded: LoadedConfig = parse_config(text, env={})
    shown = [repr(loaded), str(loaded.config), loaded.config.model_dump_json()]
    assert not any(SECRET in text for text in shown)
    assert secret_of(loaded.config) == SECRET


@pytest.mark.parametrize(
    "text",
    [
        f"sources: [{{name: a, pasword: {SECRET}}}]",
        f"sources: [{{name: a, password: [{SECRET}]}}]",
        f"sources: [{{name: a, password: {{x: {SECRET}}}}}]",
        f"sources: [{{name: a, port: {SECRET}}}]",
        f"sources: {SECRET}",
        f"sources: [{{name: a, password: '{SECRET}]",
        f"sources: [{{name: a, password: {SECRET}}}}}]",
        f"password: *{SECRET}",
        f"sources: [{{name: a, password: {SECRET}, password-file: x}}]",
        "sources: [{name: a, port: '${PW}'}]",
        "sources: [{name: a, type: '${PW}'}]",
        "targets: [{name: a, type: '${PW}'}]",
        "routing: [{source-tables: '${PW}[', targets: t}]",
        "targets: [{name: t}]\nrouting: [{source-tables: a, targets: '${PW}'}]",
        "distribution-rules: [{condition: 'a = (${PW}', targets: t}]",
        "alerts: [{condition: '${PW} > 1'}]",
        "routing-rules: {r: {strategy: range, key: a, ranges: [{range: '${PW}', target: t}]}}",
    ],
)
def test_no_problem_shows_a_secret(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, env={"PW": SECRET})
    told = "".join(traceback.format_exception(caught.value))
    assert SECRET not in told
    assert caught.value.problems


def test_a_password_that_yaml_takes_for_a_number_is_asked_for_in_quotes() -> None:
    with pytest.raises(ConfigError, match="put the value in quotes") as caught:
        parse_config("sources: [{name: a, password: 0123456}]", env={})
    assert "123456" not in str(caught.value)
