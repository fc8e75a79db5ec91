"""Which Debian mirror the machine uses."""

from pathlib import Path

import pytest
from gravity_devstack.apt import debian_mirror

HOST = "m.example"
"""No machine: RFC 2606 keeps such names for examples."""


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        ("sources.list", f"deb http://{HOST}/debian stable main\n", f"http://{HOST}/debian"),
        ("d/a.sources", f"Types: deb\nURIs: https://{HOST}/debian/\n", f"https://{HOST}/debian/"),
        ("sources.list", f"# deb http://{HOST}/debian stable main\n", None),
        ("sources.list", f"deb http://{HOST}/ubuntu noble main\n", None),
        ("sources.list", f"deb http://{HOST}/debian-security stable main\n", None),
    ],
)
def test_the_mirror_of_the_machine_is_found(
    tmp_path: Path, name: str, text: str, mirror: str | None
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    assert debian_mirror(tmp_path) == mirror
