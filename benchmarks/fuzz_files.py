"""Damaged annotations, tables, runs, bundles, weights: read right, named in a fault, or refused in a sentence.

    python benchmarks/fuzz_files.py [--seeds 1000] [--first 1000] [--only bundles] [--per-kind 50]

Small valid files are damaged as bytes, as text, and in their structure; kind and seed give a file again
(`tests/damage`). Where what is right can be known from the file alone, it is read a second time by the standard library
and compared: annotations (codes and points), patients.csv, folds and split (rows), files whose stated hash no longer
fits, and numbers that are none. Where a hash is stated, it is stated again after the damage, so that the checks behind
it are reached; a number changed inside its range cannot be known as wrong.

Each group of kinds is tried in a process of its own. Where a library ends that process, or it gives no answer for
SECONDS, that is counted with its kind and seed, and a new process goes on behind it. Exits with 1 for a traceback, an
ended process or a wrong result.
"""

from __future__ import annotations

import argparse
import logging
import selectors
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.damage.all_kinds import GROUPS
from tests.damage.kinds import READ, REFUSED, TRACEBACK, WRONG, Kind, judge

ENDED, PANICS = "process ended", "panics printed"
COLUMNS = ("tried", READ, REFUSED, TRACEBACK, ENDED, WRONG, PANICS)
SECONDS = 600.0
"""The longest time for one file, on a machine that does much else; a report of a damaged run takes 0.2 s."""
BEGIN_SECONDS = 3600.0
"""The longest time until the first file: libraries are imported, and the valid files are made."""


def main() -> None:
    """Try every group and print the counts of each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1000, help="seeds of each kind; slow kinds take every nth")
    parser.add_argument("--first", type=int, default=1000, help="first seed")
    parser.add_argument("--only", default="", help="the groups or kinds whose name begins so")
    parser.add_argument("--child", nargs=3, metavar=("GROUP", "KIND", "SEED"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        _try_group(given.child[0], given.only, (given.child[1], int(given.child[2])), given.first, given.seeds)
        return
    print(", ".join(f"{name} {version(name)}" for name in ("polars", "pydantic", "numpy", "onnxruntime", "openvino")))
    print(f"seeds {given.first} to {given.first + given.seeds - 1} of each kind\n")
    print(f"{'kind':36}" + "".join(f"{column:>16}" for column in COLUMNS))
    start, total = time.perf_counter(), Counter[str]()
    named = [group for group in GROUPS if given.only and group.startswith(given.only)]
    for group in named or GROUPS:
        only = "" if named else given.only
        of_group = Counter[str]()
        for name, counts in _watch_group(group, only, given.first, given.seeds).items():
            print(f"{name:36}" + "".join(f"{counts[column]:>16}" for column in COLUMNS), flush=True)
            of_group += counts
        print(f"{group:36}" + "".join(f"{of_group[column]:>16}" for column in COLUMNS) + "\n", flush=True)
        total += of_group
    print(f"{'all':36}" + "".join(f"{total[column]:>16}" for column in COLUMNS))
    print(f"{time.perf_counter() - start:.0f} s")
    if any(total[column] for column in COLUMNS[3:]):
        sys.exit(1)


def _watch_group(group: str, only: str, first: int, seeds: int) -> dict[str, Counter[str]]:
    """Try the kinds of one group in child processes, one after another; return the counts by kind."""
    counts: dict[str, Counter[str]] = {}
    begun: tuple[str, int] | None = ("", first)
    while begun is not None:
        begun = _watch_child(group, only, begun, first, seeds, counts)
    return counts


def _watch_child(  # noqa: PLR0917 - what a child is told, and where it is counted
    group: str, only: str, begin: tuple[str, int], first: int, seeds: int, counts: dict[str, Counter[str]]
) -> tuple[str, int] | None:
    """Count what one child says; return where the next one begins, None where this one came to its end."""
    command = [sys.executable, __file__, "--first", str(first), "--seeds", str(seeds), "--only", only]
    command += ["--child", group, begin[0], str(begin[1])]
    at: tuple[str, int] | None = None
    with (
        tempfile.TemporaryFile() as said,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, bufsize=0) as child,  # noqa: S603 - this file
    ):
        waiting = selectors.DefaultSelector()
        waiting.register(child.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
        is_late, has_begun = False, False
        while child.stdout is not None and not is_late:
            is_late = not waiting.select(SECONDS if has_begun else BEGIN_SECONDS)
            has_begun = True
            line = "" if is_late else child.stdout.readline().decode().rstrip("\n")
            if not line:
                break
            word, kind, seed, *rest = line.split("\t")
            if word == "try":
                at = kind, int(seed)
                continue
            counts.setdefault(kind, Counter()).update(["tried", word])
            at = None
            if word not in {READ, REFUSED}:
                print(f"{kind}, seed {seed}: {word} {' '.join(rest)}", flush=True)
        if is_late:
            child.kill()
        code = child.wait()
        said.seek(0)
        n_panics = said.read().count(b"panicked at")
    if n_panics and counts:
        counts[list(counts)[-1]][PANICS] += n_panics
    if at is None:
        if code:
            message = f"{group}: the child ended with code {code} outside a file; run it by itself"
            raise RuntimeError(message)
        return None
    ended, last_seed = at
    counts.setdefault(ended, Counter()).update(["tried", ENDED])
    print(f"{ended}, seed {last_seed}: {ENDED}, {'no answer' if is_late else f'code {code}'}", flush=True)
    return ended, last_seed + 1


def _try_group(group: str, only: str, begin: tuple[str, int], first: int, seeds: int) -> None:
    """Try each kind of a group, from ``begin`` on: a line before each file, and one after it."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    begin_kind, begin_seed = begin
    with tempfile.TemporaryDirectory() as folder:
        made: list[Kind] = [kind for kind in GROUPS[group](Path(folder)) if kind.name.startswith(only)]
        names = [kind.name for kind in made]
        for kind in made[names.index(begin_kind) if begin_kind else 0 :]:
            for seed in range(first, first + seeds, kind.every):
                if kind.name == begin_kind and seed < begin_seed:
                    continue
                print("try", kind.name, seed, sep="\t", flush=True)
                word, why = judge(kind, seed)
                print(word, kind.name, seed, why.replace("\t", " "), sep="\t", flush=True)


if __name__ == "__main__":
    main()
