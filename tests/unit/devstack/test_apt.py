"""Which Debian mirror the machine uses."""

from pathlib import Path

import pytest
from gravity_devstack.apt import debian_mirror


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        ("sources.list", "deb http://m.example/debian stable main\n", "http://m.example/debian"),
        (
            "d/a.sources",
            "Types: deb\nURIs: https://m.example/debian/\n",
            "https://m.example/debian/",
        ),
        ("sources.list", "# deb http://m.example/debian stable main\n", None),
        ("sources.list", "deb http://m.example/ubuntu noble main\n", None),
        ("sources.list", "deb http://m.example/debian-security stable main\n", None),
    ],
)
def test_the_mirror_of_the_machine_is_found(
    tmp_path: Path, name: str, text: str, mirror: str | None
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    assert debian_mirror(tmp_path) == mirror
