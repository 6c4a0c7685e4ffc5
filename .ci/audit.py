"""Ask for known vulnerabilities of the installed packages with pip-audit, and say for how many there was an answer.

    python .ci/audit.py [--strict] UV

UV is the uv to run pip-audit with. pip-audit calls it "no known vulnerabilities" too when the index has no database, as
mirrors have none: only packages with an answer count here. The exit code is 1 with --strict where a vulnerability is
known or no package had an answer, else 0, so that the checks run where no database can be reached.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

_LIMIT_S = 180


def audited(uv: str) -> list[dict[str, Any]]:
    """Return pip-audit's row of every installed package that it had an answer for.

    One package is asked for first: without an answer the others are not asked for.
    """
    frozen = subprocess.run([uv, "pip", "freeze", "--exclude-editable"], capture_output=True, check=True)  # noqa: S603
    packages = frozen.stdout.decode().splitlines()
    return _answers(uv, packages) if _answers(uv, packages[:1]) else []


def _answers(uv: str, packages: list[str]) -> list[dict[str, Any]]:
    """Return pip-audit's rows of ``packages``; empty where it cannot be had, or has no answer in time."""
    with tempfile.TemporaryDirectory() as folder:
        listed, answer = Path(folder) / "packages.txt", Path(folder) / "answer.json"
        listed.write_text("\n".join(packages) + "\n", encoding="utf-8")
        command = [uv, "tool", "run", "pip-audit", "--requirement", str(listed), "--no-deps", "--disable-pip"]
        command += ["--progress-spinner", "off", "--format", "json", "--output", str(answer)]
        try:
            subprocess.run(command, capture_output=True, check=False, timeout=_LIMIT_S)  # noqa: S603
            rows: list[dict[str, Any]] = json.loads(answer.read_text(encoding="utf-8"))["dependencies"]
        except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
            return []
    return [row for row in rows if "skip_reason" not in row]


def main(words: list[str]) -> int:
    """Print what is known; returns the exit code."""
    strict, uv = "--strict" in words, words[-1]
    rows = audited(uv)
    if not rows:
        sys.stdout.write("skipped: no database of vulnerabilities can be reached from here\n")
        return int(strict)
    found = [(row, known) for row in rows for known in row["vulns"]]
    for row, known in found:
        mended = ", ".join(known.get("fix_versions", ())) or "no version"
        sys.stdout.write(f"{row['name']} {row['version']}: {known['id']}, mended in {mended}\n")
    sys.stdout.write(f"{len(rows)} packages had an answer, {len(found)} vulnerabilities are known\n")
    return int(strict and bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
