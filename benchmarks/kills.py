"""Kill long commands at random moments, call them again, and count what is not whole in the end.

    python benchmarks/kills.py --out /tmp/kills --kills 5 --seed 0

Each command is run once undisturbed; its time and its files are the measure. Then it is started ``--kills`` times and
killed (SIGKILL) at a moment drawn evenly from that time, always into the same folder, and called once more. Counted
are: kills, ended whole (exit code and files of the undisturbed call), tracebacks, wrong (whole, but tables or weights
with other bytes), and processes that outlived their parent by ten seconds. POSIX only.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

TRAINING = "batch_size = 16\nepoch_crops = 32\ninit = 'scratch'\nthreads = 1\nworkers = 2\n"
EPOCHS = ["--epochs-stage1", "1", "--epochs-stage2", "1", "--resume"]
EXACT = {".parquet", ".npy", ".png", ".jpg", ".onnx"}
"""Suffixes of files that two undisturbed calls write with equal bytes."""
LEFT_AFTER_S = 10.0


def commands(work: Path) -> dict[str, list[str]]:
    """Return the words of each command but its --out, in an order in which each finds what it reads."""
    cohort, run, crops = (
        str(work / "simulate" / "whole"),
        str(work / "predict" / "whole"),
        str(work / "prepare" / "whole"),
    )
    (work / "training.toml").write_text(TRAINING, encoding="utf-8")
    return {
        "simulate": ["simulate", "OUT", "--patients", "8", "--fields", "2", "--workers", "2"],
        "predict": ["predict", cohort, "--out", "OUT", "--processes", "2"],
        "report": ["report", run, "--out", "OUT", "--workers", "2"],
        "evaluate": ["evaluate", run, cohort, "--out", "OUT"],
        "cohort export": ["cohort", "export", run, "--out", "OUT"],
        "prepare": ["prepare", cohort, "--segmenter", "demo", "--out", "OUT"],
        "train classifier": [
            "train",
            "classifier",
            crops,
            "--out",
            "OUT",
            "--config",
            str(work / "training.toml"),
            *EPOCHS,
        ],
        "export": ["export", str(work / "train classifier" / "whole"), "--segmenter", "demo", "--out", "OUT"],
    }


def start(words: list[str], out: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; what it says goes to ``log``."""
    command = [sys.executable, "-m", "marrowscope.cli.main", *(str(out) if word == "OUT" else word for word in words)]
    with log.open("ab") as stream:
        return subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)  # noqa: S603 - our own


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


def listing(folder: Path) -> dict[str, bytes]:
    """Map each file below ``folder`` to its bytes where two calls write the same, else to nothing."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.suffix in EXACT else b""
        for path in files
        if "tensorboard" not in path.parts  # its file names hold the time
    }


def try_command(name: str, words: list[str], work: Path, n_kills: int, draw: random.Random) -> dict[str, object]:
    """Run one command undisturbed, kill it ``n_kills`` times, and call it to its end; returns the counts."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / ("timed" if (folder / "whole").exists() else "whole")  # later commands read the first one
    for earlier in ("timed", "killed"):
        shutil.rmtree(folder / earlier, ignore_errors=True)
    log = folder / "log.txt"
    began = time.monotonic()
    code = start(words, whole, log).wait()
    seconds = time.monotonic() - began
    counts: dict[str, object] = {"command": name, "seconds": round(seconds, 1), "exit_code": code}
    log.write_bytes(b"")
    kills = left = 0
    for _ in range(n_kills):
        process = start(words, folder / "killed", log)
        try:
            process.wait(draw.uniform(0.0, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            left += n_left(process.pid)
        else:
            shutil.rmtree(folder / "killed", ignore_errors=True)  # it ended before its moment: the next one begins anew
    code = start(words, folder / "killed", log).wait()
    said = log.read_text(encoding="utf-8", errors="replace")
    if code != counts["exit_code"] and "found an earlier" in said:  # killed after its last step
        code = int(str(counts["exit_code"]))
    said = log.read_text(encoding="utf-8", errors="replace")
    wanted, found = listing(whole), listing(folder / "killed")
    is_whole = code == counts["exit_code"] and set(found) == set(wanted)
    beside = sorted(path.name for path in folder.iterdir() if path.name not in {"whole", "timed", "killed", "log.txt"})
    different = sorted(path for path in set(found) & set(wanted) if found[path] != wanted[path])
    return counts | {
        "kills": kills,
        "ended_whole": is_whole,
        "tracebacks": said.count("Traceback (most recent call last)"),
        "wrong": different if is_whole else [],
        "outlived": left,
        "left_beside": beside,
        "missing_or_new": sorted(set(found) ^ set(wanted))[:5],
    }


def main() -> None:
    """Try every command and print the counts, one JSON object per line, and their sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="New folder for inputs, outputs and logs.")
    parser.add_argument("--kills", type=int, default=5, help="Kills per command.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the moments.")
    parser.add_argument("--only", action="append", help="A command to try; its inputs must be in --out.")
    arguments = parser.parse_args()
    draw = random.Random(arguments.seed)  # noqa: S311 - moments, no secrets
    arguments.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name, words in commands(arguments.out.resolve()).items():
        if arguments.only and name not in arguments.only:
            continue
        rows.append(try_command(name, words, arguments.out.resolve(), arguments.kills, draw))
        sys.stdout.write(json.dumps(rows[-1]) + "\n")
        sys.stdout.flush()
    sums = {
        "seed": arguments.seed,
        "kills": sum(int(str(row["kills"])) for row in rows),
        "commands": len(rows),
        "ended_whole": sum(bool(row["ended_whole"]) for row in rows),
        "tracebacks": sum(int(str(row["tracebacks"])) for row in rows),
        "wrong": sum(bool(row["wrong"]) for row in rows),
        "outlived": sum(int(str(row["outlived"])) for row in rows),
    }
    sys.stdout.write(json.dumps(sums) + "\n")


if __name__ == "__main__":
    main()
