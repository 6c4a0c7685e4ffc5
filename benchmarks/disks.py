"""Disturb the disk of every long or writing command, then call it again when the cause is gone.

    python benchmarks/kills.py --out /tmp/kills --kills 0     # makes the inputs
    sudo python benchmarks/disks.py --out /tmp/kills

The trials: a disk that is full after some of what the command writes, a temporary folder that is full, a read-only
disk, a folder of another user (the command runs as nobody, and again as the owner), names that are too long, and the
folder above the output removed while the command works. A disk is a tmpfs that this script mounts (Linux, as root).
Clean is one sentence ``Error: ...`` on standard error, no traceback, and an exit code that is not 0; whole is the same
call's end afterwards, with the files of an undisturbed call. A command that ends well in spite of the trial counts as
not met.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from kills import TRACEBACK, listing  # type: ignore[import-not-found]  # the script beside this one
from long_commands import Call, calls, start  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SHARES = (0.02, 0.5)
"""Sizes of the full disks, as parts of what an undisturbed call leaves."""
_FULL_TEMPORARY_KB = 64
_ROOM = "size=2g"
_NOBODY = 65534
_LONG_NAMES = (240, 300)
"""A name that is too long once something of ours is added to it, and one that is by itself."""
_OTHER_USER = ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]


class Trials:
    """The trials of one call, in folders below ``work``; ``rows`` has one result per trial."""

    def __init__(self, name: str, call: Call, work: Path) -> None:
        self._call, self._place, self._log = call, work / name / "disk", work / name / "disk.txt"
        self._place.mkdir(exist_ok=True)
        self._whole = work / name / "whole"
        self._has_out = "OUT" in call.words
        self.rows: list[dict[str, object]] = []

    def all(self) -> None:
        """Run every trial that has a meaning for the call."""
        files = [self._whole, *self._whole.rglob("*")]
        size_kb = sum(path.stat().st_size for path in files if path.is_file()) // 1024
        if self._has_out:
            for share in _SHARES:
                size = f"size={max(16, int(share * size_kb)) + self._filled_kb()}k"
                self._try(f"full, {share:.0%}", partial(self._remount, size), partial(self._remount, _ROOM))
            self._try("read-only", partial(self._remount, f"ro,{_ROOM}"), partial(self._remount, f"rw,{_ROOM}"))
            self._try("no rights", self._shut, self._shut, words=_OTHER_USER)  # called again by the owner
            for length in _LONG_NAMES:
                self._try_name("x" * length)
            self._try_removed()
        self._try_temporary()
        if not self._has_out:
            self._try_output()

    def _try(
        self,
        trial: str,
        disturb: Callable[[], None],
        mend: Callable[[], None],
        *,
        words: list[str] | None = None,
    ) -> None:
        with _disk(self._place):
            out = self._place / "out"
            self._call.fill(out)
            disturb()
            code, said = self._run(out, words)
            mend()
            again, _ = self._run(out) if code else (code, "")
            self._note(trial, code, said, again=again, whole=set(listing(out)) == set(listing(self._whole)))

    def _try_name(self, name: str) -> None:
        """Write to a name that is too long; afterwards a shorter one shall do."""
        if self._call.annotates is not None:
            return  # its folder is there already
        with _disk(self._place):
            code, said = self._run(self._place / name)
            left = sorted(path.name for path in self._place.iterdir())
            self._note(
                f"a name of {len(name)} bytes",
                code,
                said,
                again=code,
                whole=code in {0, self._call.exit_code} or not left,
            )

    def _try_removed(self) -> None:
        """Remove the folder above the output as soon as something is in it."""
        with _disk(self._place):
            above = self._place / "above"
            above.mkdir()
            self._call.fill(above / "out")
            self._log.write_bytes(b"")
            process = start(self._call.command(above / "out"), self._log)
            while process.poll() is None and not any(above.glob("*out*/*" if self._call.annotates is None else "*")):
                time.sleep(0.01)
            shutil.rmtree(above, ignore_errors=True)
            code, said = process.wait(), self._said()
            shutil.rmtree(above, ignore_errors=True)
            above.mkdir()
            self._call.fill(above / "out")
            again, _ = self._run(above / "out")
            whole = set(listing(above / "out")) == set(listing(self._whole))
            self._note("folder removed", code, said, again=again, whole=whole)

    def _try_temporary(self) -> None:
        """Give the call a temporary folder that is full."""
        with _disk(self._place):
            out = self._place.with_name("disk out")
            shutil.rmtree(out, ignore_errors=True)
            self._call.fill(out)
            self._remount(f"size={_FULL_TEMPORARY_KB}k")
            code, said = self._run(out, temporary=self._place)
            again, _ = self._run(out) if code else (code, "")
            whole = not self._has_out or set(listing(out)) == set(listing(self._whole))
            self._note("full temporary folder", code, said, again=again, whole=whole)
            shutil.rmtree(out, ignore_errors=True)
            out.unlink(missing_ok=True)

    def _try_output(self) -> None:
        """Send what the call prints to a device that is full."""
        out = self._place / "out"
        code, said = self._run(out, output=Path("/dev/full"))
        again, _ = self._run(out)
        self._note("full standard output", code, said, again=again, whole=True)

    def _note(self, trial: str, code: int, said: str, *, again: int, whole: bool) -> None:
        met = code not in {0, self._call.exit_code} or "Error: " in said
        clean = met and TRACEBACK not in said and said.count("Error: ") == 1
        is_whole = whole and (again == self._call.exit_code or "name" in trial)
        row = {"trial": trial, "met": met, "clean": clean, "whole_after": is_whole}
        bad = (met and not clean) or not row["whole_after"]
        self.rows.append(row | ({"code": code, "again": again, "said": said[-400:]} if bad else {}))

    def _run(
        self, out: Path, words: list[str] | None = None, temporary: Path | None = None, output: Path | None = None
    ) -> tuple[int, str]:
        self._log.write_bytes(b"")
        environment = os.environ | ({"TMPDIR": str(temporary)} if temporary else {})
        code = start([*(words or []), *self._call.command(out)], self._log, environment, output).wait()
        return code, self._said()

    def _said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def _filled_kb(self) -> int:
        """Return the size of what is in the folder before the call."""
        images = self._whole.rglob("*.jpg") if self._call.annotates is not None else iter(())
        return sum(path.stat().st_size // 1024 + 4 for path in images)

    def _remount(self, options: str) -> None:
        _mount(self._place, f"remount,{options}")

    def _shut(self) -> None:
        """Leave the folder, and what is in it, to root alone."""
        self._place.chmod(0o755)


@contextmanager
def _disk(place: Path) -> Iterator[None]:
    """Mount a tmpfs with room at ``place``."""
    _mount(place, _ROOM)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)  # noqa: S603, S607


def _mount(place: Path, options: str) -> None:
    """Mount a tmpfs at ``place``, or change the one that is there."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)  # noqa: S603, S607


def main() -> None:
    """Try every command whose inputs are there and print the results, one JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Folder that benchmarks/kills.py filled.")
    parser.add_argument("--only", action="append", help="A command to try.")
    arguments = parser.parse_args()
    work = arguments.out.resolve()
    for name, call in calls(work).items():
        if arguments.only and name not in arguments.only:
            continue
        trials = Trials(name, call, work)
        trials.all()
        rows = trials.rows
        counts = {
            "command": name,
            "trials": len(rows),
            "met": sum(bool(row["met"]) for row in rows),
            "clean": sum(bool(row["clean"]) for row in rows),
            "whole_after": sum(bool(row["whole_after"]) for row in rows),
            "bad": [row for row in rows if "said" in row],
        }
        sys.stdout.write(json.dumps(counts) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
