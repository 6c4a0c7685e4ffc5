"""Every command that writes or takes long, as small calls that ``kills.py`` and ``disks.py`` disturb.

    python benchmarks/long_commands.py WORDS...

runs one call as ``marrowscope WORDS...`` would, with a demonstration and a quick study of a hundredth of their size.
The calls build on each other: each reads what an undisturbed call of an earlier one wrote.
"""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from review_inputs import N_PATIENTS, review_all, unmark, use_station, write_cells  # type: ignore[import-not-found]

if TYPE_CHECKING:
    from collections.abc import Callable

_NETWORK = "architecture = 'test_efficientnet'\ninit = 'scratch'\n"
_TRAINING = _NETWORK + "batch_size = 8\nepoch_crops = 24\nthreads = 1\nworkers = 1\ncheckpoint_every_steps = 1\n"
_SEGMENTER_TRAINING = "window_px = 160\nmax_val_windows = 2\nbatch = 4\nthreads = 1\n"
_DESCRIPTION = "purpose = 'A trial.'\ntrained_on = 'Simulated patients.'\n"


@dataclass(frozen=True)
class Call:
    """One call: its words, where OUT is the place it writes to, and what must be in that place before.

    ``inputs`` makes what the call reads, where that is not there yet and no earlier call writes it.
    ``exit_code`` is that of the undisturbed call: a study of networks as small as these ends with 1, since they do not
    beat its probe.
    """

    words: tuple[str, ...]
    annotates: Path | None = None
    out_is_file: bool = False
    slow: bool = False
    exit_code: int = 0
    inputs: Callable[[], None] | None = None

    def command(self, out: Path) -> list[str]:
        """Return the call that writes to ``out``."""
        return [sys.executable, __file__, *(str(out) if word == "OUT" else word for word in self.words)]

    def fill(self, out: Path) -> None:
        """Make the inputs, and put the images of the cohort that an import annotates in ``out``, where they are not."""
        if self.inputs is not None:
            self.inputs()
        if self.annotates is not None and not out.exists():
            write_coco(self.annotates, Path(self.words[2]))
            shutil.copytree(self.annotates, out, ignore=shutil.ignore_patterns("*.json", "*.parquet"))


def calls(work: Path) -> dict[str, Call]:
    """Return the calls by name, in an order in which each finds what it reads below ``work``."""
    cohort, run, crops, training, bundle = (
        str(work / name / "whole") for name in ("simulate", "predict", "prepare", "train classifier", "export")
    )
    files = {"training.toml": _TRAINING, "segmenter.toml": _SEGMENTER_TRAINING, "bundle.toml": _DESCRIPTION}
    for name, text in files.items():
        (work / name).write_text(text, encoding="utf-8")
    epochs = ("--epochs-stage1", "1", "--epochs-stage2", "1", "--resume")
    settings = ("--config", str(work / "training.toml"))
    formats = ("--format", "html", "--format", "pdf", "--format", "csv", "--format", "json", "--format", "fhir")
    return {
        "simulate": Call(("simulate", "OUT", "--patients", "6", "--fields", "1", "--workers", "2")),
        "predict": Call(("predict", cohort, "--out", "OUT", "--processes", "2")),
        "report": Call(("report", run, "--out", "OUT", "--workers", "2", *formats)),
        "evaluate": Call(("evaluate", run, cohort, "--out", "OUT")),
        "cohort export": Call(("cohort", "export", run, "--out", "OUT", "--format", "coco")),
        "cohort import": Call(
            ("cohort", "import", str(work / "coco.json"), "--images", "OUT"), annotates=Path(cohort)
        ),
        "cohort folds": Call(("cohort", "folds", cohort, "--folds", "2", "--out", "OUT"), out_is_file=True),
        "prepare": Call(("prepare", cohort, "--segmenter", "demo", "--out", "OUT")),
        "train classifier": Call(("train", "classifier", crops, "--out", "OUT", *settings, *epochs)),
        "train folds": Call(
            ("train", "classifier", crops, "--out", "OUT", "--folds", "2", *settings, *epochs), slow=True
        ),
        "train segmenter": Call(
            (
                "train", "segmenter", cohort, "--out", "OUT", "--config", str(work / "segmenter.toml"), "--epochs", "2",
                "--crops-per-field", "1", "--max-images-per-epoch", "8", "--resume",
            ),
            slow=True,
        ),
        "export": Call(
            ("export", training, "--segmenter", "demo", "--out", "OUT", "--description", str(work / "bundle.toml"))
        ),
        "evaluate bundle": Call(("evaluate", bundle, cohort, "--out", "OUT")),
        "quantify": Call(("quantify", bundle, cohort, "--out", "OUT")),
        "precision": Call(("precision", bundle, cohort, "--out", "OUT")),
        "demo": Call(("demo", "--out", "OUT")),
        "reproduce": Call(("reproduce", "--out", "OUT", "--threads", "1"), slow=True, exit_code=1),
        "bench predict": Call(("bench", "predict", cohort, "--fields", "2", "--rounds", "1")),
        **_calls_on_shards(work, cohort, run),
        **_calls_on_reviews(work, run),
        **_calls_that_write_no_folder(work, cohort, bundle),
    }  # fmt: skip


def _calls_on_shards(work: Path, cohort: str, run: str) -> dict[str, Call]:
    """Return the calls that put runs together, compare them, or read photographs of single cells."""
    shards = [str(work / name / "whole") for name in ("predict shard", "predict other shard")]
    merged, cells = str(work / "merge" / "whole"), work / "cells"
    make_cells = partial(_make, cells, partial(write_cells, Path(cohort)))
    return {
        "predict shard": Call(("predict", cohort, "--out", "OUT", "--shard", "1/2")),
        "predict other shard": Call(("predict", cohort, "--out", "OUT", "--shard", "2/2")),
        "merge": Call(("merge", *shards, "--out", "OUT")),
        "compare": Call(("compare", run, merged, cohort, "--out", "OUT")),
        "cohort import cells": Call(
            ("cohort", "import", "--cells", str(cells), "--um-per-px", "0.15", "--out", "OUT"), inputs=make_cells
        ),
    }


def _calls_on_reviews(work: Path, run: str) -> dict[str, Call]:
    """Return the calls of ``marrowscope review``."""
    station = work / "station"
    reviewed, review = str(station / "run"), str(station / "review")
    backup = str(station / "backup.sqlite")

    def call(*words: str, out_is_file: bool = False) -> Call:
        make = partial(_make, station, _write_station)
        return Call(("review", *words), out_is_file=out_is_file, inputs=make)

    return {
        "review": call("start", run, "--out", "OUT", "--reader", "Ada", "--port", "0", "--no-browser"),
        "review backup": call("backup", review, "--out", "OUT", out_is_file=True),
        "review restore": call("restore", backup, "--out", "OUT"),
        "review copy": call("copy", review, "OUT"),
        "review export": call("export", review, reviewed, "--out", "OUT"),
        "review agreement": call("agreement", review, reviewed, "--out", "OUT"),
        "review rates": call("rates", review, reviewed, "--out", "OUT"),
        "review account": call("account", "OUT", "ada", "--role", "admin", "--subject", "ada"),
        "review verify": call("verify", review),
    }


def _calls_that_write_no_folder(work: Path, cohort: str, bundle: str) -> dict[str, Call]:
    """Return the calls that only print."""
    return {
        "bench train": Call(
            ("bench", "train", "--config", str(work / "training.toml"), "--steps", "1", "--rounds", "1")
        ),
        "scale": Call(("scale", cohort), exit_code=1),  # some fields are too thick for an estimate
        "cohort check": Call(("cohort", "check", cohort)),
        "doctor": Call(("doctor", "--bundle", bundle)),
        "vocabulary show": Call(("vocabulary", "show")),
        "vocabulary mapping": Call(("vocabulary", "mapping", "munich-marrow-21")),
    }


def _make(place: Path, write: Callable[[Path], None]) -> None:
    """Write the input ``place`` where it is not there, or was not written to its end."""
    done = place.with_name(f"{place.name}.done")
    if not done.exists():
        shutil.rmtree(place, ignore_errors=True)
        write(place)
        done.touch()


def _write_station(place: Path) -> None:
    """Write a run of one center's patients whose photographs pass for real ones, and its review, for anyone to read."""
    cohort, run = place / "cohort", place / "run"
    words = ("--patients", str(N_PATIENTS), "--centers", "1", "--fields", "1", "--workers", "2")
    run_words = ("predict", str(cohort), "--out", str(run), "--processes", "2")
    place.mkdir()
    subprocess.run([sys.executable, __file__, "simulate", str(cohort), *words], check=True)  # noqa: S603 - our own
    unmark(cohort)
    subprocess.run([sys.executable, __file__, *run_words], check=True)  # noqa: S603 - our own
    review_all(run, place / "review")
    shutil.copy(place / "review" / "review.sqlite", place / "backup.sqlite")  # closed, so without a journal
    (place / "review").chmod(0o755)
    for name in ("review/review.sqlite", "backup.sqlite"):
        (place / name).chmod(0o644)


def write_coco(cohort: Path, path: Path) -> None:
    """Write the LabelMe files of ``cohort`` as one COCO file."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    codes: dict[str, int] = {}
    for number, labels in enumerate(sorted(cohort.glob("*/*.json")), start=1):
        document = json.loads(labels.read_text(encoding="utf-8"))
        name = f"{labels.parent.name}/{document['imagePath']}"
        images.append(
            {"id": number, "file_name": name, "width": document["imageWidth"], "height": document["imageHeight"]}
        )
        for shape in document["shapes"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": codes.setdefault(shape["label"], len(codes) + 1),
                    "segmentation": [[value for point in shape["points"] for value in point]],
                }
            )
    categories = [{"id": number, "name": code} for code, number in codes.items()]
    document = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(document), encoding="utf-8")


def start(
    command: list[str], log: Path, environment: dict[str, str] | None = None, output: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, as a terminal would; what it says goes to ``log``.

    With ``output``, only what it says on standard error does.
    """
    with log.open("ab") as stream, (output or log).open("ab") as printed:
        return subprocess.Popen(  # noqa: S603 - our own
            command,
            stdout=printed,
            stderr=stream,
            start_new_session=True,
            env=environment,
            preexec_fn=_hear_signals,  # noqa: PLW1509 - nothing else runs in this process
        )


def _hear_signals() -> None:
    """Undo what this script may have inherited: in the background of a shell, or after nohup, signals are ignored."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def _run_small() -> None:
    """Run the command line with small constants of the demonstration and of the quick study."""
    from marrowscope.cli.main import main  # noqa: PLC0415 - after the constants, and only where it is run

    if sys.argv[1] == "demo":
        from marrowscope.studies import demo  # noqa: PLC0415

        demo._MIN_FIELDS, demo.MIN_CELLS = 1, 0  # noqa: SLF001 - constants, made small
    if sys.argv[1:3] == ["review", "start"]:
        try:
            _end_station_after_use()
        except KeyboardInterrupt:
            sys.exit(130)  # the command line, which answers it, has not begun
    if sys.argv[1] == "reproduce":
        from marrowscope.studies.reproduce import PRESETS, Preset  # noqa: PLC0415
        from marrowscope.train.config import GT_TO_YOLO, YOLO_TO_YOLO, ClassifierConfig  # noqa: PLC0415

        PRESETS["quick"] = Preset(
            name="quick",
            internal=(2, 2, 2),
            external=(1, 1, 1),
            fields=1,
            field_px=(640, 480),
            cells_per_field=(9, 11),
            n_folds=2,
            seed=3,
            classifier=ClassifierConfig(
                architecture="test_efficientnet",
                init="scratch",
                batch_size=8,
                epoch_crops=16,
                stages=tuple(stage.model_copy(update={"epochs": 1}) for stage in (GT_TO_YOLO, YOLO_TO_YOLO)),
                checkpoint_every_steps=1,
            ),
            n_resamples=50,
        )
    main()


def _end_station_after_use() -> None:
    """Let a station be used by one browser, and end; what it refused is the error of the call."""
    from httpx2 import HTTPError  # noqa: PLC0415 - of the tests

    from marrowscope.errors import ReviewError  # noqa: PLC0415
    from marrowscope.review import serve as serving  # noqa: PLC0415

    whole = serving.serve
    started: list[serving._Server] = []
    refused: list[str] = []

    class Ending(serving._Server):  # noqa: SLF001 - the server is ended without a signal
        def __init__(self, config: Any, on_started: Callable[[], None]) -> None:  # noqa: ANN401 - of uvicorn
            super().__init__(config, on_started)
            started.append(self)

    def use(entrance: str) -> None:
        try:
            with suppress(HTTPError):  # the station was ended
                refused.extend(use_station(entrance))
        finally:
            started[0].should_exit = True

    def serve(station: object, *, on_ready: Callable[[str], None], **options: object) -> None:
        def ready(address: str) -> None:
            on_ready(address)
            entrance = f"{address}/enter?token={station.one_time_token()}"  # type: ignore[attr-defined]
            Thread(target=use, args=(entrance,)).start()

        whole(station, on_ready=ready, **options)  # type: ignore[arg-type]
        if refused:
            raise ReviewError("; ".join(refused))

    serving._Server, serving.serve = Ending, serve  # type: ignore[misc]  # noqa: SLF001


if __name__ == "__main__":
    _run_small()
