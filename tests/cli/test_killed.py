"""Commands that are killed or asked to end: the same call ends whole, no process outlives its parent, no half file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.imaging import write_image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL and sessions are of POSIX systems")

COMMAND = [sys.executable, "-m", "marrowscope.cli.main"]
LIMIT_S = 600.0


def start(*words: str) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own."""
    return subprocess.Popen(  # noqa: S603 - our own
        [*COMMAND, *words],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=hear_signals,  # noqa: PLW1509 - nothing else runs in this process
    )


def hear_signals() -> None:
    """Undo what the tests may have inherited: in the background of a shell the interrupt is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def n_alive(session: int) -> int:
    """Count the processes of a session, but for those that ended and wait to be asked for their result."""
    listed = subprocess.run(["ps", "-eo", "sess=,stat="], capture_output=True, text=True, check=True)  # noqa: S607
    rows = (line.split() for line in listed.stdout.splitlines())
    return sum(int(row[0]) == session and not row[1].startswith("Z") for row in rows)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def simulation(out: Path) -> list[str]:
    return ["simulate", str(out), "--patients", "3", "--fields", "1", "--workers", "2"]


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulate once without any disturbance."""
    out = tmp_path_factory.mktemp("undisturbed") / "cohort"
    assert start(*simulation(out)).wait(LIMIT_S) == 0
    return out


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_their_parent_and_the_same_call_ends_whole(
    number: signal.Signals, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "cohort"
    process = start(*simulation(out))
    wait_until(lambda: any((tmp_path / "cohort.part" / "unfinished").glob("*.parquet")))
    assert n_alive(process.pid) > 2
    process.send_signal(number)
    assert process.wait(LIMIT_S) == (-9 if number == signal.SIGKILL else 143)
    wait_until(lambda: n_alive(process.pid) == 0)
    assert any((tmp_path / "cohort.part" / "unfinished").glob("*.parquet"))  # finished patients wait for the same call
    if number != signal.SIGKILL:
        assert [path.name for path in tmp_path.iterdir()] == ["cohort.part"]  # the lock is given back
    assert start(*simulation(out)).wait(LIMIT_S) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"cohort"}
    assert names(out) == names(whole)
    assert (out / "truth_cells.parquet").read_bytes() == (whole / "truth_cells.parquet").read_bytes()


def test_an_interrupt_from_the_keyboard_while_workers_start_is_silent(tmp_path: Path) -> None:
    said = tmp_path / "said.txt"
    with said.open("wb") as stream:
        process = subprocess.Popen(  # noqa: S603 - our own
            [*COMMAND, *simulation(tmp_path / "cohort")],
            start_new_session=True,
            stdout=stream,
            stderr=stream,
            preexec_fn=hear_signals,  # noqa: PLW1509
        )
    wait_until(lambda: n_alive(process.pid) > 3)  # the tracker of resources and both workers
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(LIMIT_S) == 130
    wait_until(lambda: n_alive(process.pid) == 0)
    assert "Traceback" not in said.read_text(encoding="utf-8")


def test_a_prediction_killed_at_its_report_ends_with_one(tmp_path: Path) -> None:
    folder, out = tmp_path / "patient", tmp_path / "run"
    folder.mkdir()
    write_image(folder / "a.png", np.full((64, 64, 3), 230, dtype=np.uint8))
    words = ["predict", str(folder), "--um-per-px", "0.3", "--out", str(out), "--threads", "1"]
    process = start(*words)
    wait_until((tmp_path / "run.part" / "run" / "manifest.json").is_file)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    assert start(*words).wait(LIMIT_S) == 0
    assert (out / "report" / "index.html").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"patient", "run"}
