"""Train the one-class segmenter with Ultralytics, offline, and save one checkpoint.

Steps: write training windows at a fixed um/px (segmenter_data), train YOLO11n-seg on them (segmenter_ignored has the
loss), save ``last.pt`` after every epoch so that a killed training can resume, copy the best by validation to
``segmenter.pt``. Ultralytics is AGPL-3.0: only a training imports it, and the graph exported from its model carries its
notice.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from marrowscope.config import config_hash, load_record
from marrowscope.disk import write_json, write_text
from marrowscope.errors import ConfigError, DependencyError, RunError
from marrowscope.imaging import read_image
from marrowscope.runs.folder import refuse_file
from marrowscope.train.device import choose_device
from marrowscope.train.segmenter_config import OF_THE_MACHINE, SegmenterTrainingConfig
from marrowscope.train.segmenter_data import LabeledField, PreparedWindows, prepare_windows
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path
    from types import ModuleType

ARCHITECTURE = "yolo11n-seg.yaml"
TRAINING_DATA_FILE = "training-data.sha256"
_SETTINGS_FILE = "segmenter-training.json"
_WINDOWS_SHOWN = 64
"""Windows that give the batch norms of a graph's weights their statistics."""

_LAST, _BEST, _WINDOWS = "training/weights/last.pt", "training/weights/best.pt", "windows/data.yaml"


def train_segmenter(
    sources: Iterable[LabeledField],
    out: Path,
    config: SegmenterTrainingConfig,
    *,
    weights: Path | None = None,
    resume: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Train and return the path of ``out/segmenter.pt``; ``weights`` is a local .pt or exported .onnx to start from.

    ``resume`` continues from ``out/training/weights/last.pt`` if it exists; the windows are not written again, and
    ``sources`` are not read. A training with every epoch done is returned unchanged. ``progress`` gets one line per
    epoch, with the time left. Raises RunError when ``out`` is a file, contains a training and ``resume`` is off, or one
    with other settings; ConfigError for a missing device or missing weights.
    """
    check_segmenter_folder(out, config, resume=resume)
    say = progress or (lambda _line: None)
    ultralytics = load_ultralytics(out)
    device = "cuda:0" if choose_device(config.device) == "cuda" else "cpu"  # Ultralytics' names
    last, target = out / _LAST, out / "segmenter.pt"
    if weights is not None and not weights.is_file():
        message = f"{weights}: not found, expected the .pt or .onnx of an earlier segmenter; check --weights"
        raise ConfigError(message)
    if resume and _all_epochs_done(out, config.epochs):
        say("every epoch is done")
        shutil.copyfile(out / _BEST, target)
        return target
    if resume and can_go_on(out):
        say(f"resuming from {last}")
        options: dict[str, Any] = {"resume": True, "model": str(last), "device": device}
        model = ultralytics.YOLO(str(last))
    else:
        prepared = _prepare(sources, out, config, say)
        options = {
            **_training_options(config),
            "device": device,
            "data": str(prepared.data_yaml),
            "save_dir": str(out / "training"),
            "pretrained": weights is not None,  # False would rebuild the network even from a checkpoint
        }
        start = _network_file(out, config.width)
        if weights is not None:
            start = _checkpoint_of_graph(weights, start, prepared) if weights.suffix == ".onnx" else weights
        model = ultralytics.YOLO(str(start))
    _add_callbacks(model, config, say)
    model.train(trainer=_trainer_class(config), **options)
    best = out / _BEST
    shutil.copyfile(best if best.is_file() else last, target)
    say(f"best checkpoint: {target}")
    return target


def check_segmenter_folder(out: Path, config: SegmenterTrainingConfig, *, resume: bool) -> None:
    """Raise RunError when ``out`` is a file, contains a training and ``resume`` is off, or one with other settings.

    The graph is exported with this call's settings: others would state a scale the network was not trained at.
    """
    refuse_file(out)
    if not (out / _LAST).is_file():
        return
    if not resume:
        message = f"{out}: found an earlier training, expected a new folder; add --resume to continue or choose another"
        raise RunError(message)
    advice = "start a new training in another --out"
    earlier = load_record(SegmenterTrainingConfig, out / _SETTINGS_FILE, error=RunError, advice=advice).model_dump()
    other = [
        f"{name} = {earlier[name]}, now {value}"
        for name, value in config.model_dump().items()
        if name not in OF_THE_MACHINE and earlier[name] != value
    ]
    if other:
        message = (
            f"{out}: found a training with {'; '.join(other)}, expected equal settings; resume with the first call's "
            "settings or choose another --out"
        )
        raise RunError(message)


def can_go_on(out: Path) -> bool:
    """Tell whether ``out`` has all that a resumed training reads: the last epoch's checkpoint and the windows."""
    return _is_whole(out / _LAST) and (out / _WINDOWS).is_file()


def _is_whole(checkpoint: Path) -> bool:
    """Tell whether a checkpoint was written to its end: a full disk or a kill leaves one without its directory."""
    return checkpoint.is_file() and zipfile.is_zipfile(checkpoint)


def _all_epochs_done(out: Path, n_epochs: int) -> bool:
    """Tell whether every epoch is done: Ultralytics resumes no such training, its best checkpoint is the result."""
    curve = out / "training" / "results.csv"
    if not (_is_whole(out / _BEST) and _is_whole(out / _LAST) and curve.is_file()):
        return False
    with curve.open(encoding="utf-8", newline="") as stream:
        return sum(1 for _ in csv.DictReader(stream)) >= n_epochs


def load_ultralytics(config_folder: Path) -> ModuleType:
    """Import Ultralytics with all network access blocked, and its settings kept below ``config_folder``."""
    folder = config_folder / "ultralytics"
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("YOLO_CONFIG_DIR", str(folder.resolve()))
    os.environ["YOLO_OFFLINE"] = "1"
    os.environ["YOLO_AUTOINSTALL"] = "false"
    os.environ.setdefault("YOLO_VERBOSE", "false")
    try:
        import ultralytics  # noqa: PLC0415 - an optional extra, and its settings are read on import
    except ImportError as error:
        message = 'training a segmenter needs the training extra; in a copy of the repository: pip install ".[train]"'
        raise DependencyError(message) from error
    ultralytics.settings.update({"sync": False, "tensorboard": False})
    module: ModuleType = ultralytics
    return module


def _prepare(
    sources: Iterable[LabeledField], out: Path, config: SegmenterTrainingConfig, say: Callable[[str], None]
) -> PreparedWindows:
    started = time.monotonic()
    prepared = prepare_windows(sources, out / "windows", config)
    write_json(out / _SETTINGS_FILE, config.model_dump(mode="json"))
    write_text(out / TRAINING_DATA_FILE, prepared.fingerprint + "\n")
    say(
        f"{prepared.n_train} training and {count_of(prepared.n_val, 'validation window')}, "
        f"{count_of(prepared.n_cells, 'cell')}, {count_of(prepared.n_ignored, 'ignored region')}, "
        f"{time.monotonic() - started:.0f} s; data {prepared.fingerprint[:12]}, "
        f"configuration {config_hash(config)[:12]}"
    )
    return prepared


def _network_file(out: Path, width: float) -> Path:
    """Write YOLO11's description with the given share of channels to ``out`` and return its path."""
    from ultralytics.utils import YAML  # noqa: PLC0415 - training extra
    from ultralytics.utils.checks import check_yaml  # noqa: PLC0415

    description = YAML.load(check_yaml(ARCHITECTURE.replace("11n", "11")))
    depth, _, most = description["scales"]["n"]
    path = out / "network" / ARCHITECTURE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({**description, "scales": {"n": [depth, width, most]}}))
    return path


def _checkpoint_of_graph(graph: Path, network_file: Path, prepared: PreparedWindows) -> Path:
    """Write a checkpoint with an exported graph's weights beside ``network_file`` and return its path."""
    import torch  # noqa: PLC0415 - training extra
    from ultralytics.nn.tasks import SegmentationModel  # noqa: PLC0415

    from marrowscope.train.segmenter_from_graph import load_graph_weights  # noqa: PLC0415

    windows = sorted((prepared.data_yaml.parent / "images" / "train").glob("*.png"))
    shown = windows[:: max(1, len(windows) // _WINDOWS_SHOWN)][:_WINDOWS_SHOWN]
    pixels = np.stack([read_image(path) for path in shown]).transpose(0, 3, 1, 2)
    network = SegmentationModel(str(network_file), nc=1, verbose=False)
    network.names = {0: "cell"}
    load_graph_weights(network, graph, torch.from_numpy(pixels).float() / 255)
    path = network_file.with_name("start.pt")
    torch.save({"epoch": -1, "model": network, "ema": None, "train_args": {}}, path)
    return path


def _training_options(config: SegmenterTrainingConfig) -> dict[str, Any]:
    """Return Ultralytics' arguments; whatever would download, draw or phone home is off."""
    return {
        "epochs": config.epochs,
        "imgsz": config.window_px,
        "batch": config.batch,
        "nbs": config.batch,
        "optimizer": "AdamW",
        "lr0": config.learning_rate,
        "cos_lr": True,
        "warmup_epochs": 1.0,
        "warmup_bias_lr": 0.0,
        "weight_decay": 0.0005,
        "mosaic": config.mosaic,
        "close_mosaic": max(1, config.epochs // 5),
        "hsv_h": 0.03,
        "hsv_s": 0.5,
        "hsv_v": 0.3,
        "scale": 0.3,
        "degrees": 180.0,
        "flipud": 0.5,
        "fliplr": 0.5,
        "translate": 0.1,
        "overlap_mask": False,  # a mask per label, so that ignored regions cover no cell
        "amp": False,
        "plots": False,
        "cache": False,
        "workers": 0,
        "exist_ok": True,
        "patience": 0,
        "seed": config.seed,
        "verbose": False,
        "save_period": -1,
        "iou": 0.6,
        "max_det": 100,
    }


def _trainer_class(config: SegmenterTrainingConfig) -> type[Any]:
    """Return Ultralytics' segmentation trainer, sampling at most ``max_images_per_epoch`` windows per epoch."""
    from torch import Generator  # noqa: PLC0415 - training extra
    from torch.utils.data import RandomSampler  # noqa: PLC0415
    from ultralytics.data.build import InfiniteDataLoader  # noqa: PLC0415

    from marrowscope.train.segmenter_ignored import OneClassTrainer  # noqa: PLC0415 - imports Ultralytics

    class WindowTrainer(OneClassTrainer):
        def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:  # noqa: ANN401
            loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
            limit = config.max_images_per_epoch
            if mode != "train" or limit is None or limit >= len(loader.dataset):
                return loader
            generator = Generator()
            generator.manual_seed(config.seed)
            return InfiniteDataLoader(
                dataset=loader.dataset,
                batch_size=min(batch_size, limit),
                sampler=RandomSampler(loader.dataset, num_samples=limit, generator=generator),
                num_workers=0,
                collate_fn=loader.collate_fn,
            )

    return WindowTrainer


def _add_callbacks(model: Any, config: SegmenterTrainingConfig, say: Callable[[str], None]) -> None:  # noqa: ANN401
    """Set the threads after Ultralytics has set its own, and report every epoch."""
    import torch  # noqa: PLC0415 - training extra

    started = {"time": 0.0, "epoch": 0}

    def on_train_start(trainer: Any) -> None:  # noqa: ANN401 - ultralytics is untyped
        torch.set_num_threads(config.threads)
        trainer.ignore_regions()
        started.update(time=time.monotonic(), epoch=trainer.start_epoch)
        say(
            f"training with {count_of(torch.get_num_threads(), 'thread')}, "
            f"{count_of(len(trainer.train_loader), 'step')} per epoch"
        )

    def on_fit_epoch_end(trainer: Any) -> None:  # noqa: ANN401
        done = trainer.epoch + 1 - started["epoch"]
        if done <= 0 or trainer.epoch >= trainer.epochs:
            return
        rate = (time.monotonic() - started["time"]) / done
        losses = " ".join(f"{name} {float(value):.3f}" for name, value in (trainer.tloss or {}).items())
        metrics = trainer.metrics or {}
        say(
            f"epoch {trainer.epoch + 1}/{trainer.epochs}: {losses}; "
            f"mask AP50 {metrics.get('metrics/mAP50(M)', float('nan')):.3f} "
            f"AP50-95 {metrics.get('metrics/mAP50-95(M)', float('nan')):.3f} "
            f"recall {metrics.get('metrics/recall(M)', float('nan')):.3f}; "
            f"{rate:.0f} s per epoch, {rate * (trainer.epochs - trainer.epoch - 1) / 60:.1f} min left"
        )

    model.add_callback("on_train_start", on_train_start)
    model.add_callback("on_fit_epoch_end", on_fit_epoch_end)
