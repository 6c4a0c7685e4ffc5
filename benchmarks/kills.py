"""Kill long commands at random moments, call them again, and count what is not whole in the end.

    python benchmarks/kills.py --out /tmp/kills --kills 12 --seed 0

Each command is run once undisturbed; its time and its files are the measure. Then it is started ``--kills`` times (half
as often where it is slow) and ended at a moment drawn evenly from that time, always into the same folder, and called
once more. Three signals take turns: SIGKILL, SIGTERM, and SIGINT to the whole group of processes, as a terminal sends
it for Ctrl-C. Counted are: kills by signal, ended whole (exit code and files of the undisturbed call), tracebacks,
wrong (whole, but files with other bytes), exit codes that are not those of the signal, processes that outlived their
parent by ten seconds, and locks that a SIGTERM or SIGINT left. The call is also made again over its undisturbed result,
as where it is killed after its last step: ``same_call_on_whole`` is "unchanged" where that gives the same exit code and
touches no file. POSIX only.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from long_commands import Call, calls, start  # type: ignore[import-not-found]  # the script beside this one

EXACT = {".parquet", ".npy", ".png", ".jpg", ".onnx", ".safetensors"}
"""Suffixes of files that two undisturbed calls write with equal bytes."""
LEFT_AFTER_S = 10.0
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CODES = {signal.SIGKILL: {-9}, signal.SIGTERM: {143, -15}, signal.SIGINT: {130, -2}}
"""Exit codes of each signal; the negative ones are of the system, before the command line is there to answer."""
TRACEBACK = "Traceback (most recent call last)"


def n_left(session: int) -> int:
    """Count the processes of a session that are there after ten seconds."""
    deadline = time.monotonic() + LEFT_AFTER_S
    while (alive := _alive(session)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return alive


def _alive(session: int) -> int:
    """Count the processes of a session, but for those that ended and that nobody has asked for their result."""
    listed = subprocess.run(["ps", "-eo", "sess=,stat="], capture_output=True, text=True, check=True)  # noqa: S607
    rows = (line.split() for line in listed.stdout.splitlines())
    return sum(int(row[0]) == session and not row[1].startswith("Z") for row in rows)


def listing(place: Path) -> dict[str, bytes]:
    """Map each file below ``place``, or that it is, to its bytes where two calls write the same, else to nothing."""
    files = [place] if place.is_file() else [path for path in sorted(place.rglob("*")) if path.is_file()]
    return {
        path.relative_to(place).as_posix(): path.read_bytes() if path.suffix in EXACT else b""
        for path in files
        if "tensorboard" not in path.parts  # its file names hold the time
    }


def everything(place: Path) -> dict[str, tuple[int, int]]:
    """Map each file below ``place`` to its size and its time of change."""
    return {name: ((place / name).stat().st_size, (place / name).stat().st_mtime_ns) for name in listing(place)}


def remove(place: Path) -> None:
    """Remove a file or a folder, where there is one."""
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


def run_whole(call: Call, folder: Path, log: Path) -> tuple[Path, int, float]:
    """Run a call undisturbed; returns what it wrote, its exit code and its seconds."""
    whole = folder / ("timed" if (folder / "whole").exists() else "whole")  # later commands read the first one
    remove(folder / "timed")
    call.fill(whole)
    began = time.monotonic()
    code = start(call.command(whole), log).wait()
    return whole, code, time.monotonic() - began


def try_call(name: str, call: Call, work: Path, n_kills: int, draw: random.Random) -> dict[str, object]:
    """Run one call undisturbed, end it ``n_kills`` times, and call it to its end; returns the counts."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    killed, log, said = folder / "killed", folder / "log.txt", folder / "said.txt"
    for path in (killed, log, said):
        remove(path)
    whole, wanted_code, seconds = run_whole(call, folder, log)
    before = everything(whole)
    again = start(call.command(whole), log).wait()
    is_done = again == wanted_code and everything(whole) == before
    kills, odd, left, locks = Counter[str](), Counter[str](), 0, 0
    tracebacks = 0
    for number in range((n_kills + 1) // 2 if call.slow else n_kills):
        kind = SIGNALS[number % len(SIGNALS)]
        log.write_bytes(b"")
        call.fill(killed)
        process = start(call.command(killed), log)
        try:
            code = process.wait(draw.uniform(0.0, seconds))
            remove(killed)  # it ended before its moment: the next one begins anew
        except subprocess.TimeoutExpired:
            if kind == signal.SIGINT:
                os.killpg(process.pid, kind)
            else:
                process.send_signal(kind)
            code = process.wait()
            kills[kind.name] += 1
            left += n_left(process.pid)
            if code not in CODES[kind] and code != wanted_code:
                odd[f"{kind.name}: {code}"] += 1
            locks += kind != signal.SIGKILL and any(folder.glob(".*-lock"))
        words = log.read_text(encoding="utf-8", errors="replace")
        if TRACEBACK in words:
            tracebacks += words.count(TRACEBACK)
            with said.open("a", encoding="utf-8") as stream:
                stream.write(f"--- {kind.name}, {code}\n{words}\n")
    log.write_bytes(b"")
    call.fill(killed)
    code = start(call.command(killed), log).wait() if n_kills else wanted_code
    words = log.read_text(encoding="utf-8", errors="replace")
    wanted, found = listing(whole), listing(killed if n_kills else whole)
    is_whole = code == wanted_code and set(found) == set(wanted)
    ours = {"whole", "timed", "killed", log.name, said.name}
    different = sorted(path for path in set(found) & set(wanted) if found[path] != wanted[path])
    return {
        "command": name,
        "seconds": round(seconds, 1),
        "exit_code": wanted_code,
        "same_call_on_whole": "unchanged" if is_done else again,
        "kills": sum(kills.values()),
        "by_signal": dict(kills),
        "ended_whole": is_whole,
        "tracebacks": tracebacks + words.count(TRACEBACK),
        "wrong": different if is_whole else [],
        "odd_codes": dict(odd),
        "outlived": left,
        "locks_left": locks,
        "left_beside": sorted(path.name for path in folder.iterdir() if path.name not in ours),
        "missing_or_new": sorted(set(found) ^ set(wanted))[:5],
        **({} if is_whole else {"said": words[-400:]}),
    }


def main() -> None:
    """Try every command and print the counts, one JSON object per line, and their sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="New folder for inputs, outputs and logs.")
    parser.add_argument("--kills", type=int, default=12, help="Kills per command.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the moments.")
    parser.add_argument("--only", action="append", help="A command to try; its inputs must be in --out.")
    arguments = parser.parse_args()
    work = arguments.out.resolve()
    work.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, call in calls(work).items():
        if arguments.only and name not in arguments.only:
            continue
        draw = random.Random(f"{arguments.seed} {name}")  # noqa: S311 - moments, no secrets
        rows.append(try_call(name, call, work, arguments.kills, draw))
        sys.stdout.write(json.dumps(rows[-1]) + "\n")
        sys.stdout.flush()
    counted = ("kills", "tracebacks", "outlived", "locks_left")
    sums = {
        "seed": arguments.seed,
        "commands": len(rows),
        "ended_whole": sum(bool(row["ended_whole"]) for row in rows),
        "wrong": sum(bool(row["wrong"]) for row in rows),
        "odd_codes": sum(bool(row["odd_codes"]) for row in rows),
        **{name: sum(int(str(row[name])) for row in rows) for name in counted},
    }
    sys.stdout.write(json.dumps(sums) + "\n")


if __name__ == "__main__":
    main()
