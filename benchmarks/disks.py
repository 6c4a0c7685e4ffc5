"""Run each long command on a full and on a read-only disk, then call it again when there is room.

    python benchmarks/kills.py --out /tmp/kills --kills 0     # makes the inputs
    sudo python benchmarks/disks.py --out /tmp/kills

A disk is a tmpfs of some kilobytes, mounted by this script (Linux, as root). Clean is one sentence ``Error: ...`` on
standard error, no traceback, and an exit code that is not 0; whole is the same call's end when the disk has room.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from kills import commands, start  # type: ignore[import-not-found]  # the script beside this one

SIZES_KB = (16, 200, 1000)


def mount(place: Path, options: str) -> None:
    """Mount a tmpfs at ``place``, or change the one that is there."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=True)  # noqa: S603, S607


def is_clean(code: int, said: str) -> bool:
    """Say whether a command failed in one sentence."""
    return code != 0 and "Traceback" not in said and said.count("Error: ") == 1


def try_command(name: str, words: list[str], work: Path) -> dict[str, object]:
    """Run one command on disks of each size and on a read-only one; returns the counts."""
    place, log = work / "disk", work / "disk.txt"
    place.mkdir(exist_ok=True)
    full = clean = whole = 0
    unclean = []
    for size_kb in SIZES_KB:
        mount(place, f"size={size_kb}k")
        try:
            log.write_bytes(b"")
            code = start(words, place / "out", log).wait()
            if code == 0:
                break  # it fits
            full += 1
            said = log.read_text(encoding="utf-8", errors="replace")
            clean += is_clean(code, said)
            if not is_clean(code, said):
                unclean.append(said[-300:])
            mount(place, "remount,size=500m")
            code = start(words, place / "out", log).wait()
            whole += code == 0
            if code:
                unclean.append(log.read_text(encoding="utf-8", errors="replace")[-300:])
        finally:
            subprocess.run(["umount", str(place)], check=True)  # noqa: S603, S607
    mount(place, "ro")
    try:
        log.write_bytes(b"")
        code = start(words, place / "out", log).wait()
        read_only = is_clean(code, log.read_text(encoding="utf-8", errors="replace"))
    finally:
        subprocess.run(["umount", str(place)], check=True)  # noqa: S603, S607
    return {
        "command": name, "full": full, "clean": clean, "whole_after": whole, "read_only_clean": read_only,
        "unclean": unclean,
    }  # fmt: skip


def main() -> None:
    """Try every command whose inputs are there and print the counts, one JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="Folder that benchmarks/kills.py filled.")
    parser.add_argument("--only", action="append", help="A command to try.")
    arguments = parser.parse_args()
    for name, words in commands(arguments.out.resolve()).items():
        if not arguments.only or name in arguments.only:
            sys.stdout.write(json.dumps(try_command(name, words, arguments.out.resolve())) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
