"""Nothing calls home: no socket is opened and no file is written but where the user asked for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

WATCH = """
import json, os, sys
seen = []

def watch(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
        place = arguments[1] if event in {"socket.connect", "socket.sendto"} else arguments[0]
        host = place[0] if isinstance(place, tuple) else place
        if str(host) not in {"127.0.0.1", "::1", "localhost"} and not str(host).startswith(("/", "\\0")):
            seen.append([event, str(host)])
    elif event == "open" and isinstance(arguments[0], str | os.PathLike) and isinstance(arguments[2], int):
        if arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            seen.append(["open", os.path.abspath(os.fspath(arguments[0]))])

sys.addaudithook(watch)
from marrowscope.cli.main import main
try:
    main(sys.argv[2:])
except SystemExit as stopped:
    code = stopped.code
with open(sys.argv[1], "w", encoding="utf-8") as file:
    json.dump({"code": code, "seen": seen}, file)
"""


def watched(arguments: list[str], home: Path, work: Path) -> list[list[str]]:
    """Run a command as a user does, with an empty home and no CI; gives its sockets and the files opened to write."""
    record = work / "watched.json"
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "PYTHONPATH", "LD_LIBRARY_PATH"}}
    environment = kept | {"HOME": str(home), "TMPDIR": str(work / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    (work / "tmp").mkdir(exist_ok=True)
    subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", WATCH, str(record), *arguments],
        env=environment, cwd=work, check=False, capture_output=True, timeout=300,
    )  # fmt: skip
    found = json.loads(record.read_text(encoding="utf-8"))
    assert found["code"] == 0, arguments
    seen: list[list[str]] = found["seen"]
    return seen


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_whole_session_opens_no_socket_and_writes_only_where_asked(tmp_path: Path, backend: str) -> None:
    """simulate, predict, report, doctor, prepare and train, one after the other."""
    pytest.importorskip(backend)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (work / "training.toml").write_text(
        """
init = "scratch"
architecture = "efficientnet_lite0"
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
    calls = [
        ["simulate", "cohort", "--patients", "4", "--centers", "1", "--fields", "1"],
        ["predict", "cohort", "--out", "run", "--backend", backend, "--threads", "1"],
        ["report", "run", "--format", "html", "--format", "json"],
        ["doctor"],
    ]
    if backend == "onnxruntime":
        pytest.importorskip("torch")
        calls += [
            ["prepare", "cohort", "--segmenter", "demo", "--out", "crops"],
            ["train", "classifier", "crops", "--out", "training", "--config", "training.toml"],
        ]
    for arguments in calls:
        for event, place in watched(arguments, home, work):
            assert event == "open", (arguments, event, place)
            allowed = (str(work), os.devnull, "/dev/shm", "/proc/", "/sys/")  # noqa: S108 - shared memory of pools
            assert place.startswith(allowed), (arguments, place)
    assert list(home.rglob("*")) == []
