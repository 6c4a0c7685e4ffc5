"""What dividing a prediction costs: one call against shards and their merge, on the same photographs.

    python benchmarks/shards.py COHORT --out /tmp/shards --shards 4 --bundle demo

Each call is a fresh process; they run one after another, so that their times add up. Printed are wall and processor
seconds, the largest memory of the process (without its children), whether the tables are equal to the byte, and what
is left of the difference without the starts: a call on one small photograph is the measure of a start. POSIX only.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from marrowscope.imaging import write_image

TABLES = ("fields.parquet", "cells.parquet", "patients.parquet")
COMMAND = [sys.executable, "-m", "marrowscope.cli.main"]


@dataclass(frozen=True)
class Spent:
    """What one process, or several one after another, took."""

    wall_s: float
    cpu_s: float
    rss_mib: float

    def __add__(self, other: Spent) -> Spent:
        """Add the times; the memory is the larger one."""
        return Spent(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, max(self.rss_mib, other.rss_mib))

    def row(self, name: str) -> str:
        """Return one line of the table."""
        return f"| {name} | {self.wall_s:.1f} | {self.cpu_s:.1f} | {self.rss_mib:.0f} |"


def run(words: list[str], log: Path) -> Spent:
    """Run one call to its end; raises SystemExit where it fails."""
    began = time.monotonic()
    with log.open("ab") as stream:
        process = os.posix_spawn(
            COMMAND[0],
            [*COMMAND, *words],
            dict(os.environ),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, stream.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, stream.fileno(), 2),
            ],
        )
        _, status, usage = os.wait4(process, 0)
    if os.waitstatus_to_exitcode(status):
        message = f"{' '.join(words)}: exit code {os.waitstatus_to_exitcode(status)}; see {log}"
        raise SystemExit(message)
    return Spent(time.monotonic() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def main() -> None:
    """Print the table, and whether the tables of both ways are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path, help="Photographs, as predict takes them.")
    parser.add_argument("--out", type=Path, required=True, help="New folder for the runs.")
    parser.add_argument("--shards", type=int, default=4, help="Number of shards.")
    parser.add_argument("--bundle", default="demo", help="Bundle, as predict takes it.")
    arguments = parser.parse_args()
    out: Path = arguments.out
    shutil.rmtree(out, ignore_errors=True)
    (out / "empty").mkdir(parents=True)
    write_image(out / "empty" / "a.png", np.full((64, 64, 3), 230, dtype=np.uint8))
    log = out / "log.txt"
    predict = ["predict", "--bundle", arguments.bundle, "--no-report"]
    start = run([*predict, str(out / "empty"), "--um-per-px", "0.3", "--out", str(out / "start")], log)
    whole = run([*predict, str(arguments.cohort), "--out", str(out / "whole")], log)
    parts = [out / f"shard-{number}" for number in range(1, arguments.shards + 1)]
    shards = Spent(0.0, 0.0, 0.0)
    for number, part in enumerate(parts, start=1):
        words = [str(arguments.cohort), "--shard", f"{number}/{arguments.shards}", "--out", str(part)]
        shards += run([*predict, *words], log)
    merge = run(["merge", *map(str, parts), "--bundle", arguments.bundle, "--out", str(out / "merged")], log)
    equal = {name: (out / "whole" / name).read_bytes() == (out / "merged" / name).read_bytes() for name in TABLES}
    both = shards + merge
    beyond = (both.cpu_s - arguments.shards * start.cpu_s) / (whole.cpu_s - start.cpu_s) - 1
    sys.stdout.write("| call | wall s | processor s | memory MiB |\n|---|---:|---:|---:|\n")
    for name, spent in {
        "one image of 64 px: start alone": start,
        "one call": whole,
        f"{arguments.shards} shards, one after another": shards,
        "merge": merge,
    }.items():
        sys.stdout.write(spent.row(name) + "\n")
    sys.stdout.write(
        f"\nOver one call: {both.cpu_s / whole.cpu_s - 1:+.1%} processor time, {beyond:+.1%} without starts\n"
    )
    sys.stdout.write(f"Equal to the byte: {equal}\n")


if __name__ == "__main__":
    main()
