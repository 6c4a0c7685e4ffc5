"""One tiny training from windows to a graph: it resumes, exports, and the graph is the checkpoint's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from marrowscope.errors import ConfigError, RunError
from marrowscope.networks import open_network

torch = pytest.importorskip("torch")
pytest.importorskip("ultralytics")
pytest.importorskip("onnx")

from marrowscope.imaging import write_image  # noqa: E402 - after the check that the extra is installed
from marrowscope.train.segmenter_config import SegmenterTrainingConfig  # noqa: E402
from marrowscope.train.segmenter_data import LabeledField  # noqa: E402
from marrowscope.train.segmenter_fit import (  # noqa: E402
    can_go_on,
    check_segmenter_folder,
    load_ultralytics,
    train_segmenter,
)
from marrowscope.train.segmenter_graph import export_segmenter  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # torch and Ultralytics warn about their own affairs

CONFIG = SegmenterTrainingConfig(
    window_px=64, crops_per_field=2, epochs=2, batch=4, max_images_per_epoch=8, threads=1, max_val_windows=2
)


def _fields(folder: Path) -> list[LabeledField]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    contour = np.stack([40 + 15 * np.cos(angle), 40 + 15 * np.sin(angle)], axis=1)
    fields = []
    for index in range(6):
        path = folder / f"{index}.png"
        write_image(path, rng.integers(0, 255, size=(80, 80, 3), dtype=np.uint8))
        fields.append(LabeledField(path, 0.3, (contour,), str(index)))
    return fields


class _KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Kill a training of two epochs after the first, then resume it."""
    folder = tmp_path_factory.mktemp("segmenter")
    fields = _fields(folder / "in")

    def kill_after_one(line: str) -> None:
        if line.startswith("epoch 1/2"):
            raise _KilledError

    with pytest.raises(_KilledError):
        train_segmenter(fields, folder / "out", CONFIG, progress=kill_after_one)
    lines: list[str] = []
    return train_segmenter([], folder / "out", CONFIG, resume=True, progress=lines.append), lines


def test_training_resumes_where_it_was_killed(trained: tuple[Path, list[str]]) -> None:
    checkpoint, lines = trained
    assert checkpoint.is_file()
    assert lines[0].startswith("resuming from")
    assert [line.split(":")[0] for line in lines if line.startswith("epoch")] == ["epoch 2/2"]


def test_an_epoch_draws_no_more_than_asked_and_sets_its_threads(trained: tuple[Path, list[str]]) -> None:
    assert "training with 1 thread, 2 steps per epoch" in trained[1]


@pytest.fixture(scope="module")
def graph(trained: tuple[Path, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the training, once for this file."""
    path = tmp_path_factory.mktemp("exported") / "segmenter" / "segmenter.onnx"
    return export_segmenter(trained[0], path, CONFIG, training_data_sha256="ab")


def test_exported_graph_computes_what_the_checkpoint_does(
    trained: tuple[Path, list[str]], graph: Path, tmp_path: Path
) -> None:
    """On a batch and a size that export never saw."""
    checkpoint, path = trained[0], graph
    network = open_network(path, "onnxruntime")
    assert network.metadata["um_per_px"] == "0.3"
    assert (network.metadata["mask_level"], network.metadata["box_margin_px"]) == ("0.5", "2.0")
    assert network.metadata["license"] == "AGPL-3.0-only"
    assert network.metadata["training_data_sha256"] == "ab"
    assert not any(str(path.parent) in value for value in network.metadata.values())
    assert b"GNU AFFERO GENERAL PUBLIC LICENSE" in (path.parent / "LICENSE").read_bytes()
    images = np.random.default_rng(0).random((2, 3, 96, 160), dtype=np.float32)
    model = load_ultralytics(tmp_path).YOLO(str(checkpoint)).model.float().eval()
    with torch.no_grad():
        (expected, prototypes), _ = model(torch.from_numpy(images))
    found = network.run({"images": images})
    assert found["output0"].shape == (2, 37, 12 * 20 + 6 * 10 + 3 * 5)
    np.testing.assert_allclose(found["output0"][:, 4], expected[:, 4], atol=1e-4)
    np.testing.assert_allclose(found["output0"][:, :4], expected[:, :4], atol=0.05)
    np.testing.assert_allclose(found["output1"], prototypes, atol=1e-3)


def test_a_field_with_cells_left_out_trains_a_narrower_network_of_one_class(tmp_path: Path) -> None:
    fields = [replace(item, exhaustive=False, ignored_xy=item.contours_xy) for item in _fields(tmp_path / "in")]
    narrow = CONFIG.model_copy(update={"epochs": 1, "width": 0.1875})
    checkpoint = train_segmenter(fields, tmp_path / "out", narrow)
    path = export_segmenter(checkpoint, tmp_path / "segmenter.onnx", narrow)
    found = open_network(path, "onnxruntime").run({"images": np.zeros((1, 3, 64, 64), dtype=np.float32)})
    assert found["output0"].shape == (1, 37, 64 + 16 + 4)
    model = load_ultralytics(tmp_path).YOLO(str(checkpoint)).model
    assert model.names == {0: "cell"}
    assert [layer.conv.out_channels for layer in model.model[:2]] == [16, 24]


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.pt: not found, expected the \.pt or \.onnx of an earlier"):
        train_segmenter([], tmp_path / "out", CONFIG, weights=tmp_path / "none.pt")
    with pytest.raises(ConfigError, match=r"none\.pt: not found, expected the segmenter\.pt"):
        export_segmenter(tmp_path / "none.pt", tmp_path / "x.onnx", CONFIG)


def test_training_starts_from_the_weights_it_was_given(trained: tuple[Path, list[str]], tmp_path: Path) -> None:
    """With a learning rate of nothing, what comes out is what went in."""
    checkpoint, _ = trained
    still = CONFIG.model_copy(update={"epochs": 1, "learning_rate": 1e-12})
    again = train_segmenter(_fields(tmp_path / "in"), tmp_path / "out", still, weights=checkpoint)
    ultralytics = load_ultralytics(tmp_path)
    before, after = (dict(ultralytics.YOLO(str(path)).model.named_parameters()) for path in (checkpoint, again))
    assert before.keys() == after.keys()
    for name, parameter in before.items():
        assert torch.allclose(parameter.float(), after[name].float(), atol=1e-3), name


def test_a_training_starts_from_an_exported_graph(graph: Path, tmp_path: Path) -> None:
    """With a learning rate of nothing, the network computes what the graph does."""
    still = CONFIG.model_copy(update={"epochs": 1, "learning_rate": 1e-12})
    train_segmenter(_fields(tmp_path / "in"), tmp_path / "out", still, weights=graph)
    start = tmp_path / "out" / "network" / "start.pt"
    images = np.random.default_rng(1).random((1, 3, 64, 96), dtype=np.float32)
    with torch.no_grad():
        (found, prototypes), _ = load_ultralytics(tmp_path).YOLO(str(start)).model.float().eval()(torch.tensor(images))
    expected = open_network(graph, "onnxruntime").run({"images": images})
    np.testing.assert_allclose(found[:, 4], expected["output0"][:, 4], atol=1e-4)
    np.testing.assert_allclose(prototypes, expected["output1"], atol=1e-3)
    wide = CONFIG.model_copy(update={"width": 0.375})
    with pytest.raises(ConfigError, match=r"found a weight of shape .*model\.0\.conv\.weight, expected one of shape"):
        train_segmenter(_fields(tmp_path / "in-wide"), tmp_path / "wide", wide, weights=graph)


def test_a_training_goes_on_with_its_own_settings_alone(trained: tuple[Path, list[str]]) -> None:
    out = trained[0].parent
    check_segmenter_folder(out / "new", CONFIG, resume=False)
    with pytest.raises(RunError, match="found an earlier training, expected a new folder; add --resume"):
        check_segmenter_folder(out, CONFIG, resume=False)
    check_segmenter_folder(out, CONFIG.model_copy(update={"threads": 2, "device": "cpu"}), resume=True)
    with pytest.raises(RunError, match=r"found a training with um_per_px = 0\.3, now 0\.25, expected equal settings"):
        check_segmenter_folder(out, CONFIG.model_copy(update={"um_per_px": 0.25}), resume=True)


def test_a_training_whose_every_epoch_is_done_is_given_as_it_is(trained: tuple[Path, list[str]]) -> None:
    checkpoint = trained[0]
    before = checkpoint.read_bytes()
    checkpoint.unlink()
    lines: list[str] = []
    assert train_segmenter([], checkpoint.parent, CONFIG, resume=True, progress=lines.append) == checkpoint
    assert lines == ["every epoch is done"]
    assert checkpoint.read_bytes() == before


def test_a_training_killed_before_its_first_epoch_starts_from_its_fields(tmp_path: Path) -> None:
    def kill_at_once(line: str) -> None:
        if line.startswith("training with"):
            raise _KilledError

    for resume in (False, True):
        with pytest.raises(_KilledError):
            train_segmenter(
                _fields(tmp_path / f"in-{resume}"), tmp_path / "out", CONFIG, resume=resume, progress=kill_at_once
            )
    assert not can_go_on(tmp_path / "out")


def test_a_checkpoint_that_a_full_disk_cut_short_is_none(tmp_path: Path) -> None:
    last, windows = tmp_path / "training/weights/last.pt", tmp_path / "windows/data.yaml"
    for path in (last, windows):
        path.parent.mkdir(parents=True)
    windows.touch()
    torch.save({"epoch": 1, "weights": torch.zeros(4000)}, last)
    assert can_go_on(tmp_path)
    whole = last.read_bytes()
    for size in (0, len(whole) // 2, len(whole) - 30):
        last.write_bytes(whole[:size])
        assert not can_go_on(tmp_path)
