"""The golden sample in a process of its own: what does not come to an end there ends in a sentence here.

``python -m marrowscope.bundle.golden_process FOLDER SHA256 BACKEND PRECISION`` prints the result as JSON. A thread
that runs a graph cannot be stopped, a process can. It ends with the process that started it, which holds the other end
of its standard input.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from marrowscope import errors
from marrowscope.bundle.bundle import load_bundle
from marrowscope.bundle.golden import GoldenResult, check_golden
from marrowscope.machine import is_out_of_memory

if TYPE_CHECKING:
    from marrowscope.bundle import Bundle

SECONDS = 180.0
"""Time for one runtime to load a bundle and run its sample: 3 s for the shipped one, on two cores."""
_LONGEST_REASON = 300
_KILLED = -9
"""Return code of a process that the kernel ended for want of memory, with SIGKILL."""


def check_golden_apart(
    bundle: Bundle, backend: str, *, precision: str = "f32", seconds: float | None = None
) -> GoldenResult:
    """Run the golden sample of ``bundle`` in a process of its own, for at most ``seconds`` (default SECONDS).

    Raises what ``check_golden`` raises, and BundleError where the process takes too long or dies.
    """
    limit = SECONDS if seconds is None else seconds
    held_by_child, held_here = os.pipe()
    command = [sys.executable, "-m", __name__, str(bundle.folder.resolve()), bundle.spec_sha256, backend, precision]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    what = f"{bundle.folder}: the golden sample on {backend} {precision}"
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, stdin=held_by_child, capture_output=True, env=environment, timeout=limit, check=False
        )
    except subprocess.TimeoutExpired as error:
        message = f"{what} took more than {limit:g} s, expected a result; do not use the bundle, export it again"
        raise errors.BundleError(message) from error
    finally:
        os.close(held_by_child)
        os.close(held_here)
    lines = done.stdout.decode(errors="replace").splitlines()
    if done.returncode != 0 or not lines:
        said = " ".join(done.stderr.decode(errors="replace").split())[-_LONGEST_REASON:]
        if done.returncode == _KILLED or is_out_of_memory(errors.RunError(said)):
            message = f"{what} found too little memory, expected room for it; free some, then call again as before"
            raise errors.RunError(message)
        message = (
            f"{what} ended its process with code {done.returncode} ({said}), expected a result; do not use the bundle"
        )
        raise errors.BundleError(message)
    answer: dict[str, Any] = json.loads(lines[-1])
    if "error" in answer:
        kind = getattr(errors, answer["error"])
        raise kind(answer["message"])
    return GoldenResult(**answer)


def main(folder: str, spec_sha256: str, backend: str, precision: str) -> None:
    """Run the sample of the bundle whose bundle.toml has ``spec_sha256``, and print the result."""
    Thread(target=_end_with_parent, daemon=True).start()
    try:
        bundle = load_bundle(Path(folder), verify=False, with_rates=False)
        if bundle.spec_sha256 != spec_sha256:
            message = f"{folder}: found another bundle.toml than before, expected the same file; try again"
            raise errors.BundleError(message)
        answer = asdict(check_golden(bundle, backend, precision=precision))
    except errors.MarrowscopeError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    sys.stdout.write(f"\n{json.dumps(answer)}\n")


def _end_with_parent() -> None:
    """End this process when the one that started it is gone: nothing is ever written to the pipe."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
