"""The command line as a whole: every command is registered, explained by a true example, and fails in one sentence."""

from __future__ import annotations

import errno
import re
import shlex
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest
import typer
from typer.testing import CliRunner

import marrowscope
from marrowscope.cli import main as main_module
from marrowscope.cli.options import parse_um_per_px
from marrowscope.disk import locked
from marrowscope.errors import (
    ConfigError,
    DependencyError,
    ImageError,
    InputError,
    MarrowscopeError,
    RunError,
    TrainingError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND_LINE = Path(main_module.__file__).parent


def walk(command: object, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], typer.core.TyperCommand]]:
    """Give every command below ``command`` that is no group, with its words after ``marrowscope``."""
    if isinstance(command, typer.core.TyperGroup):
        for name, child in command.commands.items():
            yield from walk(child, (*path, name))
    else:
        assert isinstance(command, typer.core.TyperCommand)
        yield path, command


COMMANDS = dict(walk(typer.main.get_command(main_module.app), ()))


def examples(command: typer.core.TyperCommand) -> list[list[str]]:
    """Give the words of each ``Example: marrowscope ...`` of a command's help, continuation lines joined."""
    paragraphs = (command.help or "").split("\n\n")
    return [shlex.split(" ".join(part.split())) for part in paragraphs if part.strip().startswith("Example:")]


def exit_code_of(arguments: list[str]) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main_module.main(arguments)
    return stopped.value.code


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example_that_parses(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    shown = CliRunner().invoke(main_module.app, [*path, "--help"])
    assert shown.exit_code == 0
    assert "Example" in shown.output
    assert examples(command)
    for words in examples(command):
        assert words[:2] == ["Example:", "marrowscope"]
        assert tuple(words[2 : 2 + len(path)]) == path
        command.make_context(" ".join(path), words[2 + len(path) :])


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_of_every_command_is_explained(path: tuple[str, ...]) -> None:
    silent = [
        parameter.name
        for parameter in COMMANDS[path].params
        if parameter.name != "help" and not getattr(parameter, "help", None)
    ]
    assert silent == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_shows_its_default_or_that_it_is_required(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    context = command.make_context(" ".join(path), [], resilient_parsing=True)
    silent = []
    for parameter in command.params:
        _, words = parameter.get_help_record(context) or ("", "")
        is_flag = getattr(parameter, "is_flag", False) and not parameter.secondary_opts  # off, as docs/cli.md says
        if not (is_flag or "[default: " in words or "; default: " in words or "required]" in words):
            silent.append(parameter.name)
    assert silent == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_usage_names_its_arguments_in_capitals_without_braces(path: tuple[str, ...]) -> None:
    command = COMMANDS[path]
    usage = command.get_usage(command.make_context(" ".join(path), [], resilient_parsing=True))
    assert re.fullmatch(r"Usage:[a-z ]+\[OPTIONS\](\s+\[?[A-Z_]+\]?(\.\.\.)?)*", " ".join(usage.split())), usage


def test_every_place_to_write_to_has_the_short_option() -> None:
    written = [parameter for command in COMMANDS.values() for parameter in command.params if "--out" in parameter.opts]
    assert len(written) > 10
    assert all(parameter.opts == ["--out", "-o"] for parameter in written)


@pytest.mark.parametrize("text", ["0,15", "0.15", " 0,150 "])
def test_every_scale_is_typed_with_a_point_or_a_comma(text: str) -> None:
    n_scales = 0
    for path, command in COMMANDS.items():
        context = command.make_context(" ".join(path), [], resilient_parsing=True)
        for parameter in command.params:
            if parameter.name == "um_per_px":
                n_scales += 1
                assert parameter.process_value(context, text) == 0.15
    assert n_scales > 7


def shown_defaults(*path: str) -> dict[str, object]:
    """Return what ``--help`` shows as the default of each parameter of a command."""
    return {parameter.name: getattr(parameter, "show_default", "") for parameter in COMMANDS[path].params}


def test_defaults_of_a_training_are_those_of_its_configuration() -> None:
    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.segmenter_config import SegmenterTrainingConfig

    for path, config in (
        (("train", "segmenter"), SegmenterTrainingConfig()),
        (("train", "classifier"), ClassifierConfig()),
    ):
        shown = shown_defaults(*path)
        compared = [name for name in shown if name in type(config).model_fields and "--config" in str(shown[name])]
        assert len(compared) > 2
        for name in compared:
            value = getattr(config, name)
            assert shown[name] == f"{'all' if value is None else value}, or as in --config"
    assert shown_defaults("bench", "train")["threads"] == shown_defaults("train", "classifier")["threads"]
    epochs = shown_defaults("train", "classifier")
    for number, stage in enumerate(ClassifierConfig().stages, start=1):
        assert epochs[f"epochs_stage{number}"] == f"{stage.epochs}, or as in --config"


def test_choices_of_an_option_are_those_of_its_configuration() -> None:
    from marrowscope.bundle.precisions import CHOICES, FASTEST_FIRST
    from marrowscope.cli.options import Backend, Precision
    from marrowscope.cli.precision import Lowered
    from marrowscope.cli.simulate import Composition, Diagnosis, Neighbors
    from marrowscope.networks.runtimes import BACKENDS
    from marrowscope.simulate import SimulationConfig
    from marrowscope.simulate.parameters import load_parameters

    assert {*get_args(Backend)} == {"auto", *BACKENDS}
    assert [*get_args(Precision)] == ["auto", *CHOICES]
    assert tuple(Lowered) == FASTEST_FIRST
    assert [*Diagnosis] == [*load_parameters().differentials.diagnosis]
    for choices, name in ((Composition, "composition"), (Neighbors, "neighbors")):
        assert {*choices} == {*get_args(SimulationConfig.model_fields[name].annotation)}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("simulate new --patients 0", "'--patients': found '0', expected at least 1"),
        (
            "simulate new --diagnosis leukemia",
            "'--diagnosis': found 'leukemia', expected control, reactive_leftshift, ",
        ),
        ("simulate new --patients 1 --centers 2", "found 2 centers, expected at most 1, the number of patients"),
        ("evaluate . . --out ../new --min-iou 1.5", "'--min-iou': found '1.5', expected at most 1"),
        ("evaluate . . --out ../new --min-iou 0", "min_iou: found 0.0, expected more than 0"),
        (
            "predict . --out ../new --backend tensorrt",
            "'--backend': found 'tensorrt', expected auto, openvino or onnxruntime",
        ),
        ("predict . --out ../new --specimen bone", "'--specimen': found 'bone', expected marrow or blood"),
        ("predict . --out ../new --threads none", "'--threads': found 'none', expected a whole number"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_does(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert exit_code_of(words.split()) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("15", "did you mean 0.15, or 0.067 if it is pixels per micrometer?"),
        ("6.9", "did you mean 0.69, or 0.14 if it is pixels per micrometer?"),
        ("150", "did you mean 0.15?"),
        ("96", "did you mean 0.096, or 0.01 if it is pixels per micrometer?"),
        ("0", "a 100x objective has about 0.1"),
        ("fine", "a 100x objective has about 0.1"),
    ],
)
def test_a_scale_of_no_microscope_is_refused_with_its_likely_meaning(text: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=rf"--um-per-px: found '{text}', expected .* from 0\.01 to 2\.0; ") as refused:
        parse_um_per_px(text)
    assert meant in str(refused.value)


WRITING = [path for path, command in COMMANDS.items() if any(given.name == "out" for given in command.params)]


@pytest.mark.parametrize("path", WRITING, ids=" ".join)
def test_a_second_call_into_the_same_place_is_refused_before_any_work(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command, out = COMMANDS[path], tmp_path / "out"
    context = command.make_context(" ".join(path), examples(command)[0][2 + len(path) :])
    context.params["out"] = out
    monkeypatch.chdir(tmp_path)
    for name, value in context.params.items():
        given = value if isinstance(value, list | tuple) else [value]
        for path_given in [item for item in given if isinstance(item, Path) and name != "out"]:
            (tmp_path / path_given).mkdir(parents=True, exist_ok=True)
    before = sorted(tmp_path.rglob("*"))
    with locked(out), pytest.raises(RunError, match="out: found it in use by process"):
        command.invoke(context)
    assert sorted(tmp_path.rglob("*")) == before


def test_every_module_of_the_command_line_is_reached() -> None:
    names = {file.stem for file in COMMAND_LINE.glob("*.py")} - {"__init__", "main"}
    modules = {name: import_module(f"marrowscope.cli.{name}") for name in names}
    offered = {name for name, module in modules.items() if {name, "app"} & set(vars(module))}
    assert {path[0] for path in COMMANDS} == offered


def test_version_is_the_package_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(["--version"]) == 0
    assert capsys.readouterr().out == f"marrowscope {marrowscope.__version__}\n"


def test_help_states_the_research_use(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(["--help"]) == 0
    assert "it does not diagnose" in " ".join(capsys.readouterr().out.split())


def test_unknown_command_exits_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code_of(["diagnose"]) == 2
    assert "diagnose" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("patients.csv: no column center"), 2),
        (ImageError("a.jpg: found an empty file"), 2),
        (DependencyError("training needs torch; pip install '.[train]'"), 2),
        (RunError("runs/a: no manifest"), 2),
        (TrainingError("the loss is not finite"), 1),
        (MarrowscopeError("anything else"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_errors_become_one_sentence_and_an_exit_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str] | None) -> None:
        del arguments
        raise error

    monkeypatch.setattr(main_module, "app", fail)
    assert exit_code_of([]) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == (f"Error: {error}\n" if str(error) else "")


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (OSError(errno.ENOSPC, "No space", "a/crops.npy"), 1, "a/crops.npy: nothing more can be written"),
        (PermissionError(errno.EACCES, "Permission denied", "a/b"), 2, "a/b: found no permission"),
        (MemoryError(), 1, "found too little memory"),
    ],
)
def test_what_the_system_refuses_is_said_in_a_sentence(
    error: Exception, code: int, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str] | None) -> None:
        del arguments
        raise error

    monkeypatch.setattr(main_module, "app", fail)
    assert exit_code_of([]) == code
    assert capsys.readouterr().err.startswith(f"Error: {sentence}")


def test_an_unforeseen_error_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: list[str] | None) -> None:
        raise ZeroDivisionError(arguments)

    monkeypatch.setattr(main_module, "app", fail)
    with pytest.raises(ZeroDivisionError):
        main_module.main([])


def test_a_missing_training_package_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: list[str] | None) -> None:
        message = f"No module named 'torch.nn' for {arguments}"
        raise ModuleNotFoundError(message, name="torch.nn")

    monkeypatch.setattr(main_module, "app", fail)
    assert exit_code_of(["train", "classifier"]) == 2
    error = capsys.readouterr().err
    assert error == (
        "Error: found no module torch.nn, which training needs; "
        "in a copy of the repository, run pip install '.[train]'\n"
    )


def test_a_missing_module_of_our_own_is_not_blamed_on_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arguments: list[str] | None) -> None:
        raise ModuleNotFoundError(str(arguments), name="marrowscope.nothing")

    monkeypatch.setattr(main_module, "app", fail)
    with pytest.raises(ModuleNotFoundError):
        main_module.main([])
