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
from dataclasses import dataclass
from pathlib import Path

_NETWORK = "architecture = 'test_efficientnet'\ninit = 'scratch'\n"
_TRAINING = _NETWORK + "batch_size = 8\nepoch_crops = 24\nthreads = 1\nworkers = 1\ncheckpoint_every_steps = 1\n"
_SEGMENTER_TRAINING = "window_px = 160\nmax_val_windows = 2\nbatch = 4\nthreads = 1\n"
_DESCRIPTION = "purpose = 'A trial.'\ntrained_on = 'Simulated patients.'\n"


@dataclass(frozen=True)
class Call:
    """One call: its words, where OUT is the place it writes to, and what must be in that place before.

    ``exit_code`` is that of the undisturbed call: a study of networks as small as these ends with 1, since they do not
    beat its probe.
    """

    words: tuple[str, ...]
    annotates: Path | None = None
    out_is_file: bool = False
    slow: bool = False
    exit_code: int = 0

    def command(self, out: Path) -> list[str]:
        """Return the call that writes to ``out``."""
        return [sys.executable, __file__, *(str(out) if word == "OUT" else word for word in self.words)]

    def fill(self, out: Path) -> None:
        """Put the images of the cohort that an import annotates in ``out``, where they are not yet."""
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
    }  # fmt: skip


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


def start(command: list[str], log: Path, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, as a terminal would; what it says goes to ``log``."""
    with log.open("ab") as stream:
        return subprocess.Popen(  # noqa: S603 - our own
            command,
            stdout=stream,
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


if __name__ == "__main__":
    _run_small()
