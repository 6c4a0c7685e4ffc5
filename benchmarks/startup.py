"""Time to open the package and the command line: best of five fresh interpreters, bytecode compiled.

Limits: `import marrowscope` 0.5 s, `marrowscope --help` 0.8 s. Run on an idle machine:

    python benchmarks/startup.py
"""

from __future__ import annotations

import compileall
import subprocess
import sys
import time
from pathlib import Path

import marrowscope

REPEATS = 5
COMMANDS = {
    "import marrowscope": ([sys.executable, "-c", "import marrowscope"], 0.5),
    "marrowscope --help": ([sys.executable, "-m", "marrowscope.cli.main", "--help"], 0.8),
    "marrowscope predict --help": ([sys.executable, "-m", "marrowscope.cli.main", "predict", "--help"], 0.8),
}


def best_seconds(command: list[str]) -> float:
    """Run ``command`` in a fresh process ``REPEATS`` times; return the shortest wall-clock time in seconds."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - our own interpreter
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> int:
    """Print each time beside its limit; return 1 where one is over."""
    compileall.compile_dir(Path(marrowscope.__file__).parent, quiet=1)
    late = 0
    for name, (command, limit_s) in COMMANDS.items():
        seconds = best_seconds(command)
        late += seconds > limit_s
        print(f"{name:28} {seconds:.3f} s (limit {limit_s} s)")
    return int(late > 0)


if __name__ == "__main__":
    sys.exit(main())
