"""A PostgreSQL server of the test run's own: started in a temporary folder, stopped at its end."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_FASTER = "-c fsync=on -c shared_buffers=16MB -c max_connections=60 -c wal_level=minimal -c max_wal_senders=0"


def binaries() -> Path | None:
    """Return the folder of initdb and pg_ctl: Debian's newest, else where the PATH finds them."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if debian and (debian[-1] / "initdb").is_file():
        return debian[-1]
    found = shutil.which("initdb")
    return Path(found).parent if found else None


def reason_absent() -> str | None:
    """Say why no server can be started here; None where it can."""
    if binaries() is None:
        return "no PostgreSQL on this machine (initdb was not found); install the package postgresql"
    if os.name != "posix":
        return "the test's server is started over POSIX commands only"
    if os.geteuid() == 0 and shutil.which("runuser") is None:
        return "PostgreSQL refuses root, and there is no runuser to become another user"
    return None


class Cluster:
    """A running server; ``new_database`` gives the address of an empty database."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.port = port
        self._n = 0

    def command(self, name: str, *words: str) -> None:
        """Run one of PostgreSQL's commands as a user that it accepts."""
        folder = binaries()
        assert folder is not None
        _run([str(folder / name), *words], self.folder)

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} {_FASTER}"
        self.command(
            "pg_ctl",
            "-D",
            str(self.folder / "data"),
            "-w",
            "-t",
            "120",
            "-l",
            str(self.folder / "log"),
            "-o",
            options,
            "start",
        )

    def stop(self, mode: str = "fast") -> None:
        self.command("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", mode, "stop")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        self._n += 1
        name = f"review_{self._n}"
        engine = sa.create_engine(self.url("postgres"), isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8'")
        engine.dispose()
        return self.url(name)


@contextmanager
def running_cluster() -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="marrowscope-pg-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
        cluster = Cluster(folder, _free_port())
        cluster.command(
            "initdb",
            "-D",
            str(folder / "data"),
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-N",
        )
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")


def _run(words: Sequence[str], folder: Path) -> None:
    own = ["runuser", "-u", "postgres", "--", *words] if os.geteuid() == 0 else [*words]
    with (folder.parent / f"{folder.name}.out").open("w+b") as output:  # a pipe would wait for the server itself
        done = subprocess.run(own, check=False, stdout=output, stderr=subprocess.STDOUT, cwd="/")  # noqa: S603
        output.seek(0)
        assert done.returncode == 0, f"{' '.join(own)}: {output.read().decode(errors='replace')}"
    (folder.parent / f"{folder.name}.out").unlink()


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
