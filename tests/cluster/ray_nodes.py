"""A Ray cluster of nodes on this machine, each a process group of its own, that a test starts and stops."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_TRIES = 5


class RayNodes:
    """The nodes by name; the first is the head. All of them listen on loopback only."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mr", dir="/tmp"))  # sockets need a short path
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self._nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, environment: dict[str, str] | None = None) -> None:
        """Start a node with one core and wait until it is there; Ray gives up after 30 s, which is short when busy."""
        log = self.folder / f"{name}.log"
        where = ["--address", self.address]
        if not self._nodes:
            port = self.address.rpartition(":")[2]
            where = ["--head", "--port", port, "--include-dashboard=false", "--temp-dir", str(self.folder / "r")]
        for _ in range(_TRIES):
            with log.open("wb") as stream:
                self._nodes[name] = subprocess.Popen(  # noqa: S603 - our own command
                    [sys.executable, "-m", "ray.scripts.scripts", "start", *where, "--node-ip-address=127.0.0.1",
                     "--num-cpus=1", "--object-store-memory=80000000", "--include-log-monitor=false",
                     "--disable-usage-stats", "--block"],
                    stdout=stream, stderr=stream, start_new_session=True,
                    env=os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"} | (environment or {}),
                )  # fmt: skip
            while self._nodes[name].poll() is None:
                if b"Ray runtime started" in log.read_bytes():
                    return
                time.sleep(0.2)
            self.kill(name)
        message = f"node {name} did not start:\n{log.read_text(encoding='utf-8')[-2000:]}"
        raise RuntimeError(message)

    def kill(self, name: str) -> None:
        """Kill a node with everything on it, as a loss of power does."""
        process = self._nodes.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """Kill all nodes, the head last, and remove what they wrote."""
        for name in reversed(list(self._nodes)):
            self.kill(name)
        shutil.rmtree(self.folder, ignore_errors=True)
