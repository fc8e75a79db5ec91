"""Which Debian mirror the machine uses."""

from pathlib import Path

import pytest
from gravity_devstack.apt import debian_mirror

HOST = "m.example"
"""No machine: RFC 2606 keeps such names for examples."""
DISTRIBUTION = "debian"
ARCHIVE = f"http://{HOST}/{DISTRIBUTION}"
SAFE_ARCHIVE = f"https://{HOST}/{DISTRIBUTION}"
SECURITY_ARCHIVE = f"{ARCHIVE}-security"
OTHER_ARCHIVE = f"http://{HOST}/ubuntu"


@pytest.mark.parametrize(
    ("name", "text", "mirror"),
    [
        ("sources.list", f"deb {ARCHIVE} stable main\n", ARCHIVE),
        ("d/a.sources", f"Types: deb\nURIs: {SAFE_ARCHIVE}/\n", f"{SAFE_ARCHIVE}/"),
        ("sources.list", f"# deb {ARCHIVE} stable main\n", None),
        ("sources.list", f"deb {OTHER_ARCHIVE} noble main\n", None),
        ("sources.list", f"deb {SECURITY_ARCHIVE} stable main\n", None),
    ],
)
def test_the_mirror_of_the_machine_is_found(
    tmp_path: Path, name: str, text: str, mirror: str | None
) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    assert debian_mirror(tmp_path) == mirror
