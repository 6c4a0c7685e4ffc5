"""Call long commands under a quota, a limit of file size or too little memory, then again without it.

    python benchmarks/kills.py --out /tmp/kills --kills 0     # makes the inputs
    sudo python benchmarks/limits.py --out /tmp/kills

The limits: a quota of part of what the command writes (EDQUOT, by a quota group of a Btrfs in a file: Linux, as root,
with ``mkfs.btrfs`` and ``btrfs``), a limit of file size (EFBIG, by RLIMIT_FSIZE), an address space of part of what the
undisturbed command takes (ENOMEM, by RLIMIT_AS), a control group of less memory than it takes (the kernel kills a
process of it), and disks of many sizes that fill under a memory map (tmpfs). Met means that the command could not end
well under the limit. Clean is one sentence ``Error: ...``, or images named as not read for want of memory, no
traceback, no signal but the kernel's kill, and no image called damaged; whole is the same call's end without the limit,
with the files of an undisturbed call.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from kills import TRACEBACK, listing, remove  # type: ignore[import-not-found]  # the script beside this one
from long_commands import Call, calls, start  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMANDS = ("predict", "report", "evaluate", "prepare", "train classifier", "cohort import", "cohort import cells")
LIMITS = ("quota", "file size", "address space", "control group", "memory map")
_SHARES = {
    "quota": (0.02, 0.3, 0.7),
    "file size": (0.001, 0.5),
    "address space": (0.1, 0.3, 0.5, 0.7, 0.9),
    "control group": (0.3, 0.5, 0.7),
    "memory map": (0.05, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95),
}
"""Parts of what an undisturbed call writes, of its largest file, of its address space, and of its memory."""
_LEAST_BYTES = 64 * 1024
_GROUP = Path("/sys/fs/cgroup/memory/marrowscope-limits")
_DAMAGE = re.compile(r"damage|cannot be decoded|no image|truncated|corrupt|export it again|do not use", re.IGNORECASE)
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
_HANGS_AFTER_S, _HUNG = 300.0, 255
_MEMORY = "too little memory"


class Trials:
    """The trials of one call, in folders below ``work``; ``rows`` has one result per trial."""

    def __init__(self, name: str, call: Call, work: Path) -> None:
        self._call, self._whole, self._log = call, work / name / "whole", work / name / "limits.txt"
        self._place = work / name / "limits"
        self._place.mkdir(exist_ok=True)
        self.rows: list[dict[str, object]] = []

    def all(self, limit: str) -> None:
        """Try every share of a limit."""
        files = [path for path in (self._whole, *self._whole.rglob("*")) if path.is_file()]
        filled = [path for path in files if self._call.annotates is not None and path.suffix == ".jpg"]
        sizes = [path.stat().st_size for path in files if path not in filled]
        room = sum(path.stat().st_size // 4096 * 4096 + 8192 for path in filled)  # of what is there before the call
        of = {"quota": sum(sizes), "memory map": sum(sizes), "file size": max(sizes)}.get(limit) or self._taken(limit)
        for share in _SHARES[limit]:
            amount = max(_LEAST_BYTES if limit in {"quota", "memory map"} else 1024, int(share * of))
            amount += room if limit in {"quota", "memory map"} else 0
            with _limited(limit, self._place, amount) as (words, lift):
                out = self._place / "out"
                remove(out)
                self._call.fill(out)
                code, said = self._run(words, out)
                lift()
                again, _ = self._run([], out)
                whole = set(listing(out)) == set(listing(self._whole))
                self._note(f"{limit}, {share:.1%}: {amount // 1024} kB", code, said, again=again, whole=whole)
                remove(out)

    def _note(self, trial: str, code: int, said: str, *, again: int, whole: bool) -> None:
        met = code not in {0, self._call.exit_code} or "Error: " in said or _MEMORY in said
        is_killed = "control group" in trial and code in _KILLED
        n_sentences = said.count("Error: ")
        is_said = n_sentences == 1 or is_killed or (n_sentences == 0 and _MEMORY in said)
        clean = (
            met and TRACEBACK not in said and is_said and not _DAMAGE.search(said) and (0 <= code != _HUNG or is_killed)
        )
        is_whole = whole and again == self._call.exit_code
        row = {"trial": trial, "met": met, "clean": clean, "traceback": TRACEBACK in said, "whole_after": is_whole}
        bad = (met and not clean) or not is_whole
        self.rows.append(row | {"code": code, "again": again} | ({"said": said[-1500:]} if bad else {}))

    def _taken(self, limit: str) -> int:
        """Return the bytes of address space, or of memory, that the largest process of an undisturbed call takes."""
        out = self._place / "out"
        remove(out)
        self._call.fill(out)
        log = self._log
        log.write_bytes(b"")
        process = start(self._call.command(out), log)
        most = 0
        key = "VmPeak" if limit == "address space" else "VmHWM"
        while process.poll() is None:
            most = max(most, _largest(process.pid, key))
            try:
                process.wait(0.05)
            except subprocess.TimeoutExpired:
                continue
        remove(out)
        return most

    def _run(self, words: list[str], out: Path) -> tuple[int, str]:
        self._log.write_bytes(b"")
        process = start([*words, *self._call.command(out)], self._log)
        try:
            code = process.wait(_HANGS_AFTER_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = _HUNG
        return code, self._log.read_text(encoding="utf-8", errors="replace")


def _largest(session: int, key: str) -> int:
    """Return the largest value of ``key`` in the status of a session's processes, in bytes."""
    most = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if int(status.with_name("stat").read_text().rpartition(")")[2].split()[3]) != session:
                continue
            found = re.search(rf"{key}:\s+(\d+) kB", status.read_text())
        except OSError:
            continue
        most = max(most, int(found[1]) * 1024 if found else 0)
    return most


@contextmanager
def _limited(limit: str, place: Path, amount: int) -> Iterator[tuple[list[str], Callable[[], None]]]:
    """Give the words before a command that put it under a limit of ``amount`` bytes, and what lifts the limit."""
    if limit in {"file size", "address space"}:
        yield ["prlimit", f"--{'fsize' if limit == 'file size' else 'as'}={amount}", "--"], lambda: None
    elif limit == "control group":
        _GROUP.mkdir(exist_ok=True)
        (_GROUP / "memory.limit_in_bytes").write_text(str(amount))
        try:
            yield ["sh", "-c", f'echo $$ > {_GROUP}/cgroup.procs; exec "$@"', "sh"], lambda: None
        finally:
            _GROUP.rmdir()
    elif limit == "memory map":
        _call("mount", "-t", "tmpfs", "-o", f"size={amount}", "none", place)
        try:
            yield [], lambda: _call("mount", "-o", "remount,size=2g", place)
        finally:
            _call("umount", place)
    else:
        yield from _quota(place, amount)


def _quota(place: Path, amount: int) -> Iterator[tuple[list[str], Callable[[], None]]]:
    """Mount a Btrfs whose quota of ``place`` is ``amount``."""
    image, top = place.with_name("limits.btrfs"), place.with_name("limits top")
    top.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(2 * 1024**3)
    _call("mkfs.btrfs", "-q", "-f", image)
    _call("mount", "-o", "loop", image, top)
    try:
        _call("btrfs", "quota", "enable", top)
        _call("btrfs", "subvolume", "create", top / "part")
        _call("btrfs", "qgroup", "limit", str(amount), top / "part")
        _call("mount", "--bind", top / "part", place)
        try:
            yield [], lambda: _call("btrfs", "qgroup", "limit", "none", top / "part")
        finally:
            _call("umount", place)
    finally:
        _call("umount", "-l", top)
        image.unlink()
        top.rmdir()


def _call(*words: str | Path) -> None:
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)  # noqa: S603


def main() -> None:
    """Try the commands whose inputs are there and print the results, one JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Folder that benchmarks/kills.py filled.")
    parser.add_argument("--only", action="append", help=f"A command to try; by default {', '.join(COMMANDS)}.")
    parser.add_argument("--limit", action="append", choices=LIMITS, help="A limit to try; by default all.")
    arguments = parser.parse_args()
    work = arguments.out.resolve()
    available = calls(work)
    for limit in arguments.limit or LIMITS:
        for name in arguments.only or (COMMANDS if limit != "memory map" else ("prepare",)):
            trials = Trials(name, available[name], work)
            trials.all(limit)
            counts = Counter(
                key for row in trials.rows for key in ("met", "clean", "traceback", "whole_after") if row[key]
            )
            summary = {"limit": limit, "command": name, "tried": len(trials.rows), **counts}
            sys.stdout.write(json.dumps(summary | {"rows": trials.rows}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
