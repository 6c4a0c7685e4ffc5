"""The command line: one typer application, with one module per command or group of commands.

A module ``cli/<name>.py`` defines either one function ``<name>`` (a command) or one ``app = typer.Typer(...)`` (a
group of commands). Its top level imports only light modules (typer, pathlib, typing, the errors); stages, numpy, cv2
and polars are imported inside the function, so that ``marrowscope --help`` stays fast. The function's docstring is its
help text and ends with a paragraph ``Example: marrowscope <name> ...``. Each command is added in one line, by
``add_command``: a parameter of type Path must exist, but for ``out``, which must be outside all others.

Exit codes: 0 done; 1 the work failed or is incomplete; 2 the input, an option or the installation is at fault; 128
and more: ended by a signal.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from marrowscope import __version__
from marrowscope.cli import bench, cohort, review, train, vocabulary
from marrowscope.cli.command import add_command
from marrowscope.cli.compare import compare
from marrowscope.cli.demo import demo
from marrowscope.cli.doctor import doctor
from marrowscope.cli.ending import answer_requests_to_end, code_of_request, leave_signals_to_the_system
from marrowscope.cli.evaluate import evaluate
from marrowscope.cli.export import export
from marrowscope.cli.merge import merge
from marrowscope.cli.precision import precision
from marrowscope.cli.predict import predict
from marrowscope.cli.prepare import prepare
from marrowscope.cli.quantify import quantify
from marrowscope.cli.report import report
from marrowscope.cli.reproduce import reproduce
from marrowscope.cli.scale import scale
from marrowscope.cli.simulate import simulate
from marrowscope.cli.system_errors import system_error
from marrowscope.errors import (
    DependencyError,
    InputError,
    LockLostError,
    MarrowscopeError,
    ReviewError,
    RunError,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXIT_FAILED = 1
_EXIT_BAD_INPUT = 2
_EXIT_INTERRUPTED = 130
_TRAINING_MODULES = frozenset(
    {"onnx", "onnxscript", "onnxslim", "safetensors", "tensorboard", "timm", "torch", "torchvision", "ultralytics"}
)
"""Modules that the extra ``train`` installs; a command that lacks one reports it in one sentence."""

app = typer.Typer(
    name="marrowscope",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # paragraphs of a docstring flow to the terminal width
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(*, requested: bool) -> None:
    """Print the version and stop, where ``--version`` was given."""
    if requested:
        typer.echo(f"marrowscope {__version__}")
        raise typer.Exit


@app.callback()
def marrowscope(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Measure a patient's ratio of blast-like cells from photographs of a bone marrow smear; every cell can be checked.

    For research use only: it supports a qualified person; it does not diagnose.

    Example: marrowscope demo
    """
    del version


_READ = "From images to a report"
TRAIN = "From annotations to a model"
_CHECK = "Check and compare"

add_command(app, demo, panel=_READ, makes_a_folder=True)
add_command(app, predict, panel=_READ, makes_a_folder=True, addresses={"inputs": "photographs"})
add_command(app, merge, panel=_READ, makes_a_folder=True, addresses={"shards": "whole"})
add_command(app, report, panel=_READ, writes_into_input=True, addresses={"run": "whole", "fields_from": "whole"})
app.add_typer(review.app, name="review", rich_help_panel=_READ)
add_command(app, scale, panel=_READ)
add_command(app, simulate, panel=TRAIN, makes_a_folder=True)
add_command(app, prepare, panel=TRAIN, makes_a_folder=True)
app.add_typer(train.app, name="train", rich_help_panel=TRAIN)
add_command(app, export, panel=TRAIN, makes_a_folder=True, trains=True)
add_command(app, quantify, panel=TRAIN, makes_a_folder=True)
add_command(app, precision, panel=TRAIN, makes_a_folder=True)
app.add_typer(bench.app, name="bench", rich_help_panel=_CHECK)
add_command(app, reproduce, panel=TRAIN, trains=True)
add_command(app, doctor, panel=_CHECK)
add_command(app, evaluate, panel=_CHECK, makes_a_folder=True, addresses={"run_or_bundle": "whole", "cohort": "whole"})
add_command(app, compare, panel=_CHECK, makes_a_folder=True)
app.add_typer(cohort.app, name="cohort", rich_help_panel=_CHECK)
app.add_typer(vocabulary.app, name="vocabulary", rich_help_panel=_CHECK)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (``sys.argv`` where ``arguments`` is None) and exit.

    Errors of ours, and what the system refuses, become one sentence. A request to end, from the system or the terminal,
    is an interrupt: nothing half done stays, no process, and no word but the exit code.
    """
    answer_requests_to_end()
    try:
        code = _run(arguments)
    finally:
        if arguments is None:  # this process is the command
            leave_signals_to_the_system()
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> str | int | None:
    """Run the command line; returns its exit code after saying what is wrong."""
    try:
        try:
            app(None if arguments is None else list(arguments))
        finally:
            _flush_output()
    except SystemExit as ended:
        return ended.code and (code_of_request() or ended.code)  # a call that ended well did so in spite of a request
    except KeyboardInterrupt:
        return code_of_request() or _EXIT_INTERRUPTED
    except BaseException as error:  # noqa: BLE001 - polars and others raise what is no Exception
        if (code := code_of_request()) is not None and not isinstance(error, LockLostError):
            return code  # whatever it is, it came of the end
        return _said(error)
    return 0


def _said(error: BaseException) -> int:
    """Say an error in a sentence and return its exit code; one that nobody foresaw is raised again."""
    if isinstance(error, Exception) and (refused := system_error(error)) is not None:
        return _say(*refused)
    if isinstance(error, (InputError, RunError, ReviewError, DependencyError)):
        return _say(str(error), _EXIT_BAD_INPUT)
    if isinstance(error, MarrowscopeError):
        return _say(str(error), _EXIT_FAILED)
    if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] in _TRAINING_MODULES:
        return _say(
            f"found no module {error.name}, which training needs; in a copy of the repository, "
            "run pip install '.[train]'",
            _EXIT_BAD_INPUT,
        )
    raise error


def _flush_output() -> None:
    """Write what was printed, while an error of it can still be said in a sentence."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = None  # what cannot be written is not tried again at the end
        raise


def _say(message: str, code: int) -> int:
    """Say what is wrong on standard error; returns ``code``."""
    typer.echo(f"Error: {message}", err=True)
    return code


if __name__ == "__main__":
    main()
