"""Nothing calls home: no socket is opened, no library of a store imported, no file written but where asked for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from marrowscope.networks import available_backends

if TYPE_CHECKING:
    from pathlib import Path

WATCH = """
import json, os, sys
record = os.open(os.environ["WATCHED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)

def note(event, place):
    os.write(record, json.dumps([event, place]).encode() + b"\\n")

def watch(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
        place = arguments[1] if event in {"socket.connect", "socket.sendto"} else arguments[0]
        host = place[0] if isinstance(place, tuple) else place
        if str(host) not in {"127.0.0.1", "::1", "localhost"} and not str(host).startswith(("/", "\\0")):
            note(event, str(host))
            raise PermissionError(f"{host}: no socket is allowed")
    elif event == "import" and arguments[0] in {"aiobotocore", "botocore", "fsspec", "s3fs"}:
        note("import", arguments[0])
    elif event == "open" and isinstance(arguments[0], str | os.PathLike) and isinstance(arguments[2], int):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            note("open", os.path.abspath(os.fspath(arguments[0])))

sys.addaudithook(watch)
"""
"""Runs when any Python process starts, workers too: notes files, refuses sockets that are not loopback."""


def watched(arguments: list[str], home: Path, work: Path) -> list[list[str]]:
    """Run a command as a user does, with an empty home and no CI; gives its sockets and the files opened to write."""
    record, hook = work / "watched.jsonl", work / "hook"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    record.write_bytes(b"")
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "LD_LIBRARY_PATH"}}
    environment = kept | {
        "HOME": str(home),
        "TMPDIR": str(work / "tmp"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(hook), os.environ.get("PYTHONPATH")])),
        "WATCHED": str(record),
    }
    (work / "tmp").mkdir(exist_ok=True)
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "marrowscope.cli.main", *arguments],
        env=environment, cwd=work, check=False, capture_output=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, (arguments, done.stderr[-500:])
    return [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]


def test_the_watch_sees_workers_and_refuses_sockets(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCH, encoding="utf-8")
    code = (
        "import socket, subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'open(\"made\", \"w\")'])\n"
        "socket.create_connection(('192.0.2.1', 9), 1)"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "WATCHED": str(tmp_path / "record")}
    done = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", code], env=environment, cwd=tmp_path, check=False, capture_output=True
    )
    assert b"no socket is allowed" in done.stderr
    events = [json.loads(line) for line in (tmp_path / "record").read_text(encoding="utf-8").splitlines()]
    assert ["open", str(tmp_path / "made")] in events
    assert any(event.startswith("socket") and place == "192.0.2.1" for event, place in events)


def test_a_whole_session_opens_no_socket_and_writes_only_where_asked(tmp_path: Path) -> None:
    """simulate, predict with every runtime, report, doctor, prepare and train, one after the other, with workers."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (work / "training.toml").write_text(
        """
init = "scratch"
architecture = "test_efficientnet"
crop_px = 32
epoch_crops = 8
batch_size = 4
threads = 1
[[stages]]
name = "one"
train_on = "expert"
select_on = "predicted"
epochs = 1
learning_rate = 1e-3
""",
        encoding="utf-8",
    )
    backends = available_backends()
    calls = [
        ["simulate", "cohort", "--patients", "2", "--centers", "1", "--fields", "1", "--workers", "2"],
        *(
            ["predict", "cohort", "--out", backend, "--backend", backend, "--threads", "1", "--no-report"]
            for backend in backends
        ),
        ["report", backends[0], "--format", "html", "--format", "json", "--format", "pdf"],
        ["doctor"],
    ]
    if find_spec("torch"):
        calls += [
            ["prepare", "cohort", "--segmenter", "demo", "--out", "crops"],
            ["train", "classifier", "crops", "--out", "training", "--config", "training.toml"],
        ]
    for arguments in calls:
        for event, place in watched(arguments, home, work):
            if event == "import" and arguments[0] == "train":
                continue  # TensorBoard looks for them
            assert event == "open", (arguments, event, place)
            allowed = (str(work), os.devnull, "/dev/shm", "/proc/", "/sys/")  # noqa: S108 - shared memory of pools
            assert place.startswith(allowed), (arguments, place)
    assert list(home.rglob("*")) == []
