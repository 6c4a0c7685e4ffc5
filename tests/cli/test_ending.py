"""A command that is asked to end: its exit code is the signal's, whatever was raised of it, and it says nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends the signals of POSIX systems")

LIMIT_S = 120.0
SIGNALS = pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])


def run_as_command(body: str, ignored: tuple[str, ...] = (), **values: object) -> subprocess.CompletedProcess[str]:
    """Run ``body`` as the command line of a process of its own."""
    before = "\n".join(f"signal.signal(signal.{signal_name}, signal.SIG_IGN)" for signal_name in ignored)
    lines = [f"{name} = {value!r}" for name, value in values.items()]
    body = "\n".join(f"    {line}" for line in dedent(body).strip().splitlines())
    script = f"""
import os, signal, sys, threading, time
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # whatever the tests have inherited
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
{before}
from marrowscope.cli import main as commands
from marrowscope.errors import InputError, LockLostError, RunError

def ask():
    os.kill(os.getpid(), getattr(signal, name))
    for _ in range(100):
        time.sleep(0.01)

def app(_arguments):
{body}

commands.app = app
commands.main()
"""
    return subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", "\n".join(lines) + script], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )


def test_ctrl_c_while_the_command_line_loads_says_nothing() -> None:
    # Typer is the first library that is loaded: the signal comes in the middle of its import.
    script = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupts())
from marrowscope.cli import start
start()
"""
    ended = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def test_what_the_shell_runs_is_the_command_line() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv[1:] = ['--version']; from marrowscope.cli import start; start()"],
        capture_output=True, text=True, timeout=LIMIT_S, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout.split()[0], ended.stderr) == (0, "marrowscope", "")
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"marrowscope": "marrowscope.cli:start"}


@SIGNALS
@pytest.mark.parametrize(
    "body",
    [
        "ask()",
        # A library, or a block of ours, turns the interrupt into an error of its own.
        """
        try:
            ask()
        except BaseException as error:
            raise RunError("found a process that ended early") from error
        """,
        """
        try:
            ask()
        except BaseException:
            raise ImportError("cannot import name") from None
        """,
        """
        try:
            ask()
        except BaseException:
            sys.exit(2)
        """,
        # It is raised where nothing is passed on: while an object is removed.
        """
        class Held:
            def __del__(self):
                ask()
        held = Held()
        del held
        for _ in range(3000):
            time.sleep(0.01)
        """,
        # A thread of the command fails because of it.
        """
        def fail():
            raise OSError("handle is closed")
        try:
            ask()
        finally:
            thread = threading.Thread(target=fail)
            thread.start()
            thread.join()
        """,
    ],
)
def test_a_request_to_end_has_its_exit_code_and_no_words(name: str, code: int, body: str) -> None:
    done = run_as_command(body, name=name)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")


def test_a_lock_that_another_call_took_over_is_said_though_it_interrupts() -> None:
    body = """
        try:
            ask()
        except KeyboardInterrupt:
            raise LockLostError("another call took this lock over") from None
        """
    done = run_as_command(body, name="SIGINT")
    assert (done.returncode, done.stderr) == (2, "Error: another call took this lock over\n")


def test_without_a_request_nothing_is_hidden() -> None:
    body = """
        class Held:
            def __del__(self):
                raise ValueError("not hidden")
        held = Held()
        del held
        raise InputError("found nothing")
        """
    done = run_as_command(body)
    assert done.returncode == 2
    assert "not hidden" in done.stderr
    assert done.stderr.endswith("Error: found nothing\n")


def test_a_second_request_of_the_system_ends_a_command_that_does_not_end() -> None:
    body = """
        try:
            ask()
        except SystemExit:
            ask()
        """
    done = run_as_command(body, name="SIGTERM")
    assert (done.returncode, done.stderr) == (-signal.SIGTERM, "")


@SIGNALS
def test_a_signal_that_is_ignored_stays_so(name: str, code: int) -> None:
    del code
    done = run_as_command("ask()", ignored=(name,), name=name)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("ignored", [(), ("SIGINT",)])
def test_a_command_whose_lock_was_taken_over_ends_in_the_background_too(
    ignored: tuple[str, ...], tmp_path: Path
) -> None:
    body = """
        import json
        from pathlib import Path
        from marrowscope.disk import locks
        locks._RENEWED_EVERY_S = 0.05
        out = Path(folder) / "run"
        with locks.locked(out):
            path = next(out.parent.glob(".*-lock"))
            stolen = json.loads(path.read_text()) | {"token": "theirs"}
            (out.parent / "stolen").write_text(json.dumps(stolen))
            (out.parent / "stolen").replace(path)
            for _ in range(6000):
                time.sleep(0.01)
        """
    done = run_as_command(body, ignored, folder=str(tmp_path))
    assert done.returncode == 2
    assert "another call took this lock over" in done.stderr
    assert done.stderr.startswith("Error: ")


@SIGNALS
def test_a_signal_while_a_worker_starts_waits_until_it_has_what_it_needs(name: str, code: int, tmp_path: Path) -> None:
    body = """
        from multiprocessing import popen_spawn_posix, spawn
        from marrowscope.machine import WorkerContext, process_pool

        class Asking(popen_spawn_posix.Popen):
            def _launch(self, process):
                os.kill(os.getpid(), getattr(signal, name))
                for _ in range(10):
                    time.sleep(0.01)
                super()._launch(process)
                open(launched, "w").close()

        WorkerContext.Process._Popen = staticmethod(Asking)
        with process_pool(1) as pool:
            pool.submit(len, "a" * 1_000_000).result()
        """
    launched = tmp_path / "launched"
    done = run_as_command(body, name=name, launched=str(launched))
    assert launched.exists()
    assert (done.returncode, done.stdout, done.stderr) == (code, "", "")
