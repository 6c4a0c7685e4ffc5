"""A run killed from outside continues where it stopped, and ends with the tables of an uninterrupted run."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from marrowscope.cli.main import main
from marrowscope.imaging import write_image
from marrowscope.runs.parts import IMAGES_A_PART

if TYPE_CHECKING:
    from pathlib import Path

TABLES = ("fields.parquet", "cells.parquet", "patients.parquet")


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX systems")
def test_a_killed_command_goes_on_and_ends_with_the_same_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "patient"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(2 * IMAGES_A_PART + 5):
        write_image(folder / f"{index:03}.png", rng.integers(200, 255, (64, 64, 3), dtype=np.uint8))
    words = ["predict", str(folder), "--um-per-px", "0.3", "--no-report", "--backend", "onnxruntime", "--threads", "1"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "marrowscope.cli.main", *words, "--out", str(killed)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603 - our own
    first_part = tmp_path / "killed.part" / "parts" / "00000.fields"
    deadline = time.monotonic() + 120
    while not first_part.is_file() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first_part.is_file()
    assert not killed.exists()
    for out in (killed, whole):  # here: only what is killed needs a process of its own
        with pytest.raises(SystemExit) as ended:
            main([*words, "--out", str(out)])
        assert not ended.value.code
        assert ("Continued an interrupted prediction" in capsys.readouterr().err) == (out == killed)
    for name in TABLES:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
