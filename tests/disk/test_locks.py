"""One call at a time writes to a place: it is refused by name while the first lives, and takes over what is stale."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from marrowscope.disk import locked, locks
from marrowscope.errors import RunError

if TYPE_CHECKING:
    from pathlib import Path


def lock_of(out: Path) -> Path:
    return out.with_name(f".{out.name}{locks.LOCK_SUFFIX}")


def hold(out: Path) -> None:
    """Take the lock of ``out`` and give it back at once."""
    with locked(out):
        pass


def write_holder(out: Path, **changed: object) -> None:
    """Write the lock of a call on another machine, but for ``changed``."""
    with locked(out):
        holder = json.loads(lock_of(out).read_text(encoding="utf-8"))
    other = {"host": "scanner-2", "machine": "scanner-2 abc", "process": 77, "token": "theirs"}
    lock_of(out).write_text(json.dumps(holder | other | changed), encoding="utf-8")


def test_a_second_call_is_refused_by_who_holds_the_lock(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with (
        locked(out),
        pytest.raises(RunError, match=rf"run: found it in use by process {os.getpid()} on .* since 20\d\d-"),
        locked(out),
    ):
        pass
    hold(out)
    assert list(tmp_path.iterdir()) == []


def test_folders_made_for_a_lock_go_when_nothing_was_written(tmp_path: Path) -> None:
    hold(tmp_path / "a" / "b" / "run")
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "a" / "run"):
        (tmp_path / "a" / "run").mkdir()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["run"]


def test_a_lock_of_another_machine_is_stale_after_a_minute_without_a_sign(tmp_path: Path) -> None:
    out, said = tmp_path / "run", list[str]()
    write_holder(out)
    with pytest.raises(RunError, match="in use by process 77 on scanner-2"):
        hold(out)
    past = time.time() - 61
    os.utime(lock_of(out), (past, past))
    with locked(out, said.append):
        pass
    assert said == [said[0]]
    assert "took over the lock of process 77 on scanner-2" in said[0]
    assert "not renewed for 6" in said[0]
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_names_nobody_is_stale_after_a_minute(tmp_path: Path) -> None:
    out = tmp_path / "run"
    lock_of(out).touch()  # of a call that was killed before it wrote its name
    with pytest.raises(RunError, match="in use by another call"):
        hold(out)
    os.utime(lock_of(out), (0, 0))
    hold(out)


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX systems")
def test_the_lock_of_a_killed_process_is_taken_over_at_once(tmp_path: Path) -> None:
    out, said = tmp_path / "run", list[str]()
    code = f"import time\nfrom pathlib import Path\nfrom marrowscope.disk import locked\nwith locked(Path({str(out)!r})):\n    print('held', flush=True)\n    time.sleep(60)"  # noqa: E501
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)  # noqa: S603 - our own
    assert process.stdout is not None
    assert process.stdout.readline() == b"held\n"
    with pytest.raises(RunError, match=f"process {process.pid} on"):
        hold(out)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with locked(out, said.append):
        pass
    assert len(said) == 1
    assert said[0].endswith("whose process is gone.")


def test_a_lock_is_renewed_and_its_loss_ends_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_RENEWED_EVERY_S", 0.05)
    out = tmp_path / "run"

    def lose() -> None:
        with locked(out):
            os.utime(lock_of(out), (0, 0))
            deadline = time.monotonic() + 20
            while lock_of(out).stat().st_mtime == 0 and time.monotonic() < deadline:
                time.sleep(0.01)
            assert lock_of(out).stat().st_mtime > 0
            stolen = json.loads(lock_of(out).read_text(encoding="utf-8")) | {"token": "theirs"}
            lock_of(out).write_text(json.dumps(stolen), encoding="utf-8")
            while time.monotonic() < deadline:
                time.sleep(0.01)  # many short ones: the interrupt of the lock's thread ends none that has begun

    with pytest.raises(RunError, match="another call took this lock over"):
        lose()
    assert lock_of(out).is_file()  # it is theirs


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.txt").touch()
    with pytest.raises(RunError, match=r"note\.txt: found a file, expected a folder"):
        hold(tmp_path / "note.txt" / "deep" / "run")
