"""The stack's own rules, without any server."""

import os
from pathlib import Path

import pytest
from gravity_devstack import Stack, StartError, Unavailable
from gravity_devstack.database import server_id


@pytest.mark.parametrize("specification", ["", "mariadb", "mysql:", "kafka:one", "postgres:a"])
def test_a_specification_that_names_no_server_is_refused(specification: str) -> None:
    with Stack() as stack, pytest.raises(ValueError, match="names no server"):
        stack.start_all([specification])


def test_unknown_versions_are_unavailable() -> None:
    with Stack() as stack:
        with pytest.raises(Unavailable, match=r"no MySQL 5\.0"):
            stack.mysql("old", version="5.0")
        with pytest.raises(Unavailable, match=r"no MariaDB 5\.5"):
            stack.mariadb("old", version="5.5")


def test_a_stack_must_be_entered() -> None:
    with pytest.raises(StartError, match="not open"):
        _ = Stack().folder


def test_two_stacks_cannot_share_a_folder(tmp_path: Path) -> None:
    with Stack(tmp_path), pytest.raises(StartError, match="another running stack"), Stack(tmp_path):
        pass


def test_a_temporary_folder_goes_and_a_named_one_stays(tmp_path: Path) -> None:
    with Stack() as stack:
        temporary = stack.folder
        assert temporary.is_dir()
    assert not temporary.exists()
    with Stack(tmp_path / "kept") as stack:
        kept = stack.folder
    assert kept.is_dir()


def test_an_abandoned_temporary_folder_is_removed_by_the_next_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    abandoned = tmp_path / "gravity-devstack-abandoned"
    abandoned.mkdir()
    (abandoned / ".lock").touch()
    with Stack() as living, Stack() as second:
        assert not abandoned.exists()
        assert living.folder.is_dir()
        assert second.folder.is_dir()
    assert os.listdir(tmp_path) == []  # noqa: PTH208  Shorter here.


def test_server_ids_are_stable_and_apart() -> None:
    assert server_id("user-master") == server_id("user-master")
    assert server_id("user-master") != server_id("order-db")
    assert 0 < server_id("") < 2**32
