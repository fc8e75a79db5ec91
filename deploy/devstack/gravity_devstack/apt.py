"""Debian packages unpacked into a folder: nothing is installed and no root is needed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from gravity_devstack.errors import StartError, Unavailable
from gravity_devstack.process import Guardian

SOURCES = Path("/etc/apt")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def apt_present() -> bool:
    """Whether this machine has apt and dpkg."""
    return bool(shutil.which("apt-get") and shutil.which("dpkg-deb"))


def debian_mirror(sources: Path = SOURCES) -> str | None:
    """The Debian mirror this machine already uses, or None (Ubuntu, or no apt sources)."""
    for file in sorted([*sources.glob("**/*.list"), *sources.glob("**/*.sources")]):
        for line in file.read_text(errors="replace").splitlines():
            found = re.search(r"https?://\S+/debian/?(?=\s|$)", line)
            if found and not line.lstrip().startswith("#"):
                return found[0]
    return None


class Apt:
    """apt with state and cache in a folder of its own."""

    def __init__(self, folder: Path, guardian: Guardian, *, suite: str | None = None) -> None:
        """Uses the machine's own sources, or one other Debian `suite` from the same mirror.

        With a suite, apt believes that nothing is installed, so that it resolves dependencies
        down to the C library.

        Raises:
            Unavailable: no apt here, or the suite cannot be reached from its sources.
        """
        if not apt_present():
            raise Unavailable(
                "apt-get and dpkg-deb are not on this machine",
                where="PATH",
                remedy="use a machine of the Debian family",
            )
        self.folder = folder
        self.log = folder / "apt.log"
        self._guardian = guardian
        for name in ("state/lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._options = [
            f"-oDir::State={folder / 'state'}",
            f"-oDir::Cache={folder / 'cache'}",
            "-oAcquire::Languages=none",
            "-oAcquire::IndexTargets::deb::DEP-11::DefaultEnabled=false",
            "-oAPT::Sandbox::User=root",
            "-oAPT::Install-Recommends=0",
            "-oDebug::NoLocking=1",
        ]
        if suite:
            self._options += self._suite_options(suite)

    def update(self) -> None:
        """Fetches the package lists."""
        self._apt("update")

    def closure(self, names: Sequence[str]) -> list[str]:
        """Every package that installing `names` on an empty system would bring."""
        listing = self.folder / "closure.log"
        self._guardian.run(
            ["apt-get", *self._options, "-qq", "-y", "--print-uris", "install", *names],
            log=listing,
            cwd=self.folder,
        )
        # Each line: 'address' package_version_architecture.deb size hash
        lines = (line.split() for line in listing.read_text().splitlines())
        return [fields[1].partition("_")[0] for fields in lines if fields[0].startswith("'")]

    def unpack(self, names: Sequence[str], target: Path) -> None:
        """Downloads exactly these packages, checked by apt's signatures, and unpacks them."""
        packages = self.folder / "packages"
        packages.mkdir(exist_ok=True)
        self._apt("download", *names, cwd=packages)
        target.mkdir(exist_ok=True)
        for package in sorted(packages.glob("*.deb")):
            self._guardian.run(
                ["dpkg-deb", "-x", str(package), str(target)], log=self.log, cwd=self.folder
            )
        shutil.rmtree(packages)

    def _apt(self, *arguments: str, cwd: Path | None = None) -> None:
        self._guardian.run(
            ["apt-get", *self._options, "-qq", *arguments], log=self.log, cwd=cwd or self.folder
        )

    def _suite_options(self, suite: str) -> list[str]:
        mirror = debian_mirror()
        if mirror is None or not KEYRING.exists():
            raise Unavailable(
                f"Debian {suite} cannot be reached",
                where=f"no Debian mirror in {SOURCES}, or no {KEYRING}",
                remedy="use a Debian machine",
            )
        sources = self.folder / f"{suite}.sources"
        sources.write_text(
            f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n"
        )
        status = self.folder / "status"
        status.touch()
        return [
            f"-oDir::Etc::sourcelist={sources}",
            "-oDir::Etc::sourceparts=-",
            f"-oDir::State::status={status}",
        ]


def fetch_packages(
    program: str,
    packages: Sequence[str],
    folder: Path,
    *,
    suite: str,
    needless: Sequence[str],
    guardian: Guardian,
) -> None:
    """Unpacks `packages` of a Debian suite, with all they need but what is `needless`, under `root`.

    Documents go at once. `needless` are parts of package names.

    Raises:
        Unavailable: `program`, so the message says, can't be had here.
    """
    try:
        apt = Apt(folder / "apt", guardian, suite=suite)
        apt.update()
        names = apt.closure(packages)
        apt.unpack(
            [name for name in names if not any(x in name for x in needless)], folder / "root"
        )
    except StartError as error:
        raise Unavailable(
            f"{program} cannot be had: {error.what}",
            where=error.where,
            remedy="check the network and apt's mirror",
        ) from error
    shutil.rmtree(folder / "apt")
    for name in ("doc", "man", "locale", "lintian", "apport"):
        shutil.rmtree(folder / "root/usr/share" / name, ignore_errors=True)


def unpack_first(apt: Apt, alternatives: Sequence[str], target: Path) -> None:
    """Unpacks the first of `alternatives` that apt knows.

    Raises:
        StartError: apt has none of them.
    """
    for name in alternatives:
        try:
            apt.unpack([name], target)
        except StartError:
            if name == alternatives[-1]:
                raise
        else:
            return
