from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

torch = pytest.importorskip("torch")

import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from marrowscope.bundle import load_bundle  # noqa: E402
from marrowscope.bundle.golden import check_golden  # noqa: E402
from marrowscope.cells.crop import CropSpec  # noqa: E402
from marrowscope.cohort.folds import read_split  # noqa: E402
from marrowscope.errors import BundleError, InputError, RunError  # noqa: E402
from marrowscope.export import export_bundle  # noqa: E402
from marrowscope.fit import fit_classifier  # noqa: E402
from marrowscope.imaging import sha256_file  # noqa: E402
from marrowscope.networks import available_backends, open_network  # noqa: E402
from marrowscope.patient.flags import FlagRules, fit_stain_reference  # noqa: E402
from marrowscope.statistics.temperature import apply_temperature  # noqa: E402
from marrowscope.studies.error_rates import quantify_bundle  # noqa: E402
from marrowscope.train.bundle_card import BundleDescription  # noqa: E402
from marrowscope.train.checkpoint import load_tensors, save_tensors  # noqa: E402
from marrowscope.train.classifier_graph import Readout, check_parity, export_classifier  # noqa: E402
from marrowscope.train.ensemble import check_segmenter, find_members  # noqa: E402
from marrowscope.train.half_weights import halve_weights  # noqa: E402
from marrowscope.train.out_of_fold import read_priors  # noqa: E402
from marrowscope.train.training_record import read_finished  # noqa: E402
from tests.crop_sets import tiny_config, write_crop_set  # noqa: E402
from tests.exported_graphs import exported_once  # noqa: E402
from tests.onnx_graphs import segmenter_graph  # noqa: E402
from tests.segment.raw_outputs import raw_outputs  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SEGMENTER_METADATA = {"um_per_px": "0.3", "license": "AGPL-3.0-only"}


@pytest.fixture(scope="module", autouse=True)
def _equal_graphs_are_exported_once() -> Iterator[None]:
    with exported_once():
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a crop set, a finished training ``run``, its graph and a segmenter, once for this file."""
    root = tmp_path_factory.mktemp("export")
    (root / "segmenter").mkdir()
    cell = (60.0, 50.0, 20.0, 20.0, 0.9)
    segmenter = root / "segmenter" / "segmenter.onnx"
    segmenter.write_bytes(segmenter_graph(*raw_outputs([cell], 32, 32), SEGMENTER_METADATA))
    (root / "segmenter" / "LICENSE").write_text("the license", encoding="utf-8")
    write_crop_set(root / "crops")
    prepared = {"crop": {"side_um": 9.6, "size_px": 32, "seen_um": 8.0}, "segmenter_sha256": sha256_file(segmenter)}
    prepared["quality_rules"] = {"min_circularity": 0.5}
    (root / "crops" / "prepare.json").write_text(json.dumps(prepared), encoding="utf-8")
    fit_classifier(root / "crops", root / "run", tiny_config())
    export_classifier(root / "run" / "classifier.safetensors", root / "graph.onnx")
    return root


@pytest.fixture(scope="module")
def crops(folder: Path) -> np.ndarray:
    stored = np.load(folder / "crops" / "crops.npy")
    return np.ascontiguousarray(stored[:7, 7:39, 7:39])


def test_the_graph_equals_torch_on_every_runtime(folder: Path, crops: np.ndarray) -> None:
    differences = check_parity(folder / "run" / "classifier.safetensors", folder / "graph.onnx", crops)
    assert set(differences) == set(available_backends())
    assert max(differences.values()) < 1e-4


def test_the_batch_is_free_and_a_crop_does_not_depend_on_its_batch(folder: Path, crops: np.ndarray) -> None:
    network = open_network(folder / "graph.onnx", "onnxruntime")
    batch = crops.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    together = network.run({"image": batch})
    assert {name: values.shape for name, values in together.items()} == {
        "p_cblc": (7, 2), "p_countable": (7, 2), "p_category": (7, 16), "embedding": (7, 256),
    }  # fmt: skip
    for name, values in network.run({"image": batch[3:4]}).items():
        np.testing.assert_allclose(values[0], together[name][3], atol=1e-5)
        if name != "embedding":
            np.testing.assert_allclose(together[name].sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("backend", available_backends())
def test_a_category_never_trained_has_probability_exactly_zero(folder: Path, crops: np.ndarray, backend: str) -> None:
    network = open_network(folder / "graph.onnx", backend)
    categories = json.loads(network.metadata["categories"])
    absent = [categories.index(name) for name in json.loads(network.metadata["categories_not_trained"])]
    assert len(absent) == 11
    found = network.run({"image": crops.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)})["p_category"]
    assert (found[:, absent] == 0).all()
    assert (np.delete(found, absent, axis=1) > 0).all()


def test_the_graph_is_one_file_that_says_what_it_is_and_nothing_of_this_machine(folder: Path) -> None:
    graph = onnx.load(str(folder / "graph.onnx"), load_external_data=False)
    assert all(not tensor.external_data for tensor in graph.graph.initializer)
    for tensor in graph.graph.initializer:
        tensor.ClearField("raw_data")  # weights may spell anything
    content = graph.SerializeToString()
    assert b"site-packages" not in content
    assert b".py" not in content
    described = {entry.key: entry.value for entry in graph.metadata_props}
    assert described["crop_px"] == "32"
    assert float(described["um_per_px"]) == pytest.approx(0.3)
    assert described["channel_order"] == "RGB"
    prior = json.loads(described["implied_prior"])
    assert sum(prior["category"]) == pytest.approx(1)


def test_a_graph_of_other_weights_is_refused(folder: Path, crops: np.ndarray, tmp_path: Path) -> None:
    tensors, meta = load_tensors(folder / "run" / "classifier.safetensors")
    save_tensors(
        tmp_path / "other.safetensors", tensors | {"cblc.bias": tensors["cblc.bias"] + torch.tensor([0.0, 1.0])}, meta
    )
    with pytest.raises(BundleError, match=r"differ from torch by .* on 7 crops, expected at most 0\.001"):
        check_parity(tmp_path / "other.safetensors", folder / "graph.onnx", crops)


def test_a_graph_that_gives_no_number_is_refused(folder: Path, crops: np.ndarray, tmp_path: Path) -> None:
    tensors, meta = load_tensors(folder / "run" / "classifier.safetensors")
    # Finite weights, whose sums are not: weights that are NaN themselves are not even read.
    changed = tensors | {"cblc.weight": torch.full_like(tensors["cblc.weight"], 3e38)}
    save_tensors(tmp_path / "nan.safetensors", changed, meta)
    with pytest.raises(BundleError, match="differ from torch by nan"):
        check_parity(tmp_path / "nan.safetensors", folder / "graph.onnx", crops)


def test_weights_of_another_program_are_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "plain.safetensors", {"weight": torch.zeros(1)}, {})
    with pytest.raises(BundleError, match=r"plain\.safetensors: found no description in the header"):
        export_classifier(tmp_path / "plain.safetensors", tmp_path / "graph.onnx")


def test_a_bundle_of_two_members_loads_and_passes_its_golden_sample(folder: Path, tmp_path: Path) -> None:
    described = BundleDescription(name="two", version="7", trained_on="Colored noise.", licenses={"all": "CC0-1.0"})
    members = (folder / "run", folder / "run")
    segmenter = folder / "segmenter" / "segmenter.onnx"
    export_bundle(members, segmenter, tmp_path / "bundle", description=described)
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.classifier_files == ("classifier-0.onnx", "classifier-1.onnx")
    assert bundle.segmenter_sha256 == sha256_file(segmenter)
    assert "segmenter/LICENSE" in bundle.spec.files
    assert set(bundle.spec.categories_trained) == {"Other", "N", "N5", "R1", "L"}
    assert sum(bundle.spec.implied_prior.values()) == pytest.approx(1)
    assert bundle.spec.crop == CropSpec(side_um=9.6, size_px=32, seen_um=8.0)
    assert bundle.spec.quality_rules.min_circularity == 0.5
    assert bundle.spec.flags == FlagRules()
    assert bundle.spec.stain_reference is None  # a crop set whose fields were not measured
    assert bundle.spec.metrics["classifier-1"].n_crops == 10
    for backend in available_backends():
        assert check_golden(bundle, backend).passed
    card = (tmp_path / "bundle" / "CARD.md").read_text(encoding="utf-8")
    for expected in (
        "# two 7",
        "Research use",
        "Colored noise.",
        "- all: CC0-1.0",
        "| 1 | yolo-to-yolo | 50 | 5 | 10 |",
    ):
        assert expected in card
    assert "$" not in card
    assert str(folder) not in card + (tmp_path / "bundle" / "bundle.toml").read_text(encoding="utf-8")


def test_half_weights_halve_the_file_and_hardly_move_a_probability(folder: Path, tmp_path: Path) -> None:
    """The graph still computes in float32: parity with torch holds on every runtime, and the bundle loads."""
    segmenter = folder / "segmenter" / "segmenter.onnx"
    sizes = {}
    for half in (False, True):
        bundle = export_bundle([folder / "run"], segmenter, tmp_path / str(half), half_weights=half)
        sizes[half] = (bundle.folder / "classifier-0.onnx").stat().st_size
    assert sizes[True] < 0.6 * sizes[False]
    graphs = [open_network(tmp_path / str(half) / "classifier-0.onnx", "onnxruntime") for half in (False, True)]
    batch = np.random.default_rng(0).random((3, 3, 32, 32), dtype=np.float32)
    full, halved = (graph.run({"image": batch}) for graph in graphs)
    for name, values in full.items():
        assert 0 < np.abs(values - halved[name]).max() < (2e-2 if name == "embedding" else 2e-3), name


def test_a_weight_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    """It would become infinite; the sentence names it."""
    weight = numpy_helper.from_array(np.full((300, 1), 1e6, dtype=np.float32), "heavy")
    node = helper.make_node("MatMul", ["heavy", "x"], ["y"])
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    path = tmp_path / "graph.onnx"
    onnx.save(helper.make_model(helper.make_graph([node], "g", ports[:1], ports[1:], [weight])), str(path))
    with pytest.raises(BundleError, match="heavy"):
        halve_weights(path)


def test_the_rules_of_the_flags_and_the_stain_of_the_training_patients_travel_in_the_bundle(
    folder: Path, tmp_path: Path
) -> None:
    segmenter = folder / "segmenter" / "segmenter.onnx"
    described = BundleDescription(flags=FlagRules(max_lymphoid=0.4))
    training = [name for name, role in read_split(folder / "run" / "split.csv").items() if role == "train"]
    densities = np.random.default_rng(0).uniform(0.1, 1.0, (6, 3))
    measured = pl.DataFrame(densities, schema=["od_red", "od_green", "od_blue"]).with_columns(
        field_id=pl.Series([f"p{number}/f0" for number in range(6)]),
        patient_id=pl.Series([f"p{number}" for number in range(6)]),
        center=pl.lit("c0"),
    )
    path = folder / "crops" / "fields.parquet"
    measured.write_parquet(path)
    moved = shutil.copytree(folder / "run", tmp_path / "run")
    record = json.loads((moved / "fit.json").read_text(encoding="utf-8"))
    gone = {"crops": str(tmp_path / "elsewhere")}
    (moved / "fit.json").write_text(json.dumps(record | gone), encoding="utf-8")
    with pytest.raises(InputError, match=r"elsewhere: found no crop set, expected that of the training; .*--crops"):
        export_bundle([moved], segmenter, tmp_path / "never")
    try:
        bundle = export_bundle([folder / "run"], segmenter, tmp_path / "bundle", description=described)
        again = export_bundle([moved], segmenter, tmp_path / "again", crops=folder / "crops", description=described)
    finally:
        path.unlink()
    assert again.spec.stain_reference == bundle.spec.stain_reference  # trained elsewhere, on the same crops
    expected = fit_stain_reference(measured.filter(pl.col("patient_id").is_in(training)))
    assert expected is not None
    assert expected.n_patients == len(training) < 6
    assert bundle.spec.flags == described.flags
    assert bundle.spec.stain_reference == expected


def test_views_are_stated_where_there_are_several_and_members_share_them(folder: Path, tmp_path: Path) -> None:
    fit_classifier(folder / "crops", tmp_path / "twice", tiny_config(views=2))
    segmenter = folder / "segmenter" / "segmenter.onnx"
    assert export_bundle([tmp_path / "twice"], segmenter, tmp_path / "two").spec.views == 2
    assert check_golden(load_bundle(tmp_path / "two"), "onnxruntime").passed
    export_bundle([folder / "run"], segmenter, tmp_path / "one")
    assert "views" not in (tmp_path / "one" / "bundle.toml").read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"twice: found views = 2, expected 1 as in"):
        export_bundle([folder / "run", tmp_path / "twice"], segmenter, tmp_path / "mixed")


def test_a_folder_that_is_no_bundle_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(BundleError, match=r"found files that are not a marrowscope bundle.*It contains notes\.txt"):
        export_bundle([], tmp_path / "nothing.onnx", tmp_path)
    with pytest.raises(BundleError, match=r"found files that are not a marrowscope bundle.*It contains notes\.txt"):
        quantify_bundle(tmp_path / "nothing", tmp_path / "nothing", tmp_path)


def test_another_segmenter_is_refused_unless_asked_for(folder: Path, tmp_path: Path) -> None:
    cell = (60.0, 50.0, 21.0, 20.0, 0.8)
    segmenter = tmp_path / "segmenter.onnx"
    segmenter.write_bytes(segmenter_graph(*raw_outputs([cell], 32, 32), {"um_per_px": "0.3"}))
    with pytest.raises(InputError, match=r"the segmenter that cut the crops of .*run; pass that one"):
        export_bundle([folder / "run"], segmenter, tmp_path / "bundle")
    record = read_finished(folder / "run")
    check_segmenter(folder / "run", record, segmenter, sha256_file(segmenter), allowed=True)


def test_a_segmenter_without_its_license_is_refused(folder: Path, tmp_path: Path) -> None:
    segmenter = tmp_path / "segmenter.onnx"
    shutil.copyfile(folder / "segmenter" / "segmenter.onnx", segmenter)
    with pytest.raises(BundleError, match=r"found the license AGPL-3\.0-only but not its text, expected in .*LICENSE"):
        export_bundle([folder / "run"], segmenter, tmp_path / "bundle")


def test_a_segmenter_that_finds_nothing_has_no_golden_sample(folder: Path, tmp_path: Path) -> None:
    segmenter = tmp_path / "segmenter.onnx"
    cell = (60.0, 50.0, 21.0, 20.0, 0.01)
    segmenter.write_bytes(segmenter_graph(*raw_outputs([cell], 32, 32), {"um_per_px": "0.3"}))
    with pytest.raises(BundleError, match=r"found no cell on its crops with the segmenter \(best score 0\.01\)"):
        export_bundle([folder / "run"], segmenter, tmp_path / "bundle", other_segmenter=True)


def test_a_training_that_did_not_finish_is_refused(folder: Path, tmp_path: Path) -> None:
    record = json.loads((folder / "run" / "fit.json").read_text(encoding="utf-8"))
    del record["result"]
    (tmp_path / "fit.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(RunError, match="found an unfinished training"):
        export_bundle([tmp_path], folder / "segmenter" / "segmenter.onnx", tmp_path / "bundle")
    with pytest.raises(RunError, match=r"fit\.json: not found"):
        export_bundle([tmp_path / "absent"], folder / "segmenter" / "segmenter.onnx", tmp_path / "bundle")


def test_labels_of_another_vocabulary_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder / "run", other)
    record = json.loads((other / "fit.json").read_text(encoding="utf-8"))
    record["vocabulary"]["sha256"] = "0" * 64
    (other / "fit.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match=r"other: trained with vocabulary .* \(000000000000\), found .*; train again"):
        export_bundle([other], folder / "segmenter" / "segmenter.onnx", tmp_path / "bundle")


def test_no_training_at_all_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found no training folder, expected at least one"):
        export_bundle([], folder / "segmenter" / "segmenter.onnx", tmp_path / "bundle")


def test_members_of_different_crops_are_refused(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder / "run", other)
    tensors, meta = load_tensors(other / "classifier.safetensors")
    info = meta["info"]
    assert isinstance(info, dict)
    save_tensors(other / "classifier.safetensors", tensors, meta | {"info": info | {"um_per_px": 0.25}})
    with pytest.raises(InputError, match=r"other: 32 px crops at 0\.25 um per px, expected 32 px at 0\.3"):
        export_bundle([folder / "run", other], folder / "segmenter" / "segmenter.onnx", tmp_path / "bundle")


TEMPERATURES = {"cblc": 1.6, "countable": 1.0, "category": 0.7}


def write_crossfit(folder: Path, run: Path) -> Path:
    """Make a cross-fit of two folds, both of the weights of ``run``, with the temperatures above."""
    weights = json.loads((run / "fit.json").read_text(encoding="utf-8"))["result"]["weights_sha256"]
    for name in ("fold-0", "fold-1"):
        shutil.copytree(run, folder / name)
    figures = {"nll_before": 0.5, "nll_after": 0.4, "ece_before": 0.1, "ece_after": None}
    counts = {"n_cells": 200, "n_left_out": 0, "nested_temperatures": {"0": 1.0, "1": 1.0}}
    calibration = {
        "source": "predicted",
        "n_patients": 6,
        "members": {"fold-0": weights, "fold-1": weights},
        "heads": {head: {"temperature": value, **counts, **figures} for head, value in TEMPERATURES.items()},
    }
    (folder / "calibration.json").write_text(json.dumps(calibration), encoding="utf-8")
    (folder / "crossfit.json").write_text("{}", encoding="utf-8")
    return folder


@pytest.mark.parametrize("decision_tau", [None, 0.0])
def test_the_graph_scales_the_likelihood_and_not_the_prior(
    folder: Path, crops: np.ndarray, tmp_path: Path, decision_tau: float | None
) -> None:
    weights = folder / "run" / "classifier.safetensors"
    export_classifier(weights, tmp_path / "graph.onnx", Readout(decision_tau, TEMPERATURES))
    check_parity(weights, tmp_path / "graph.onnx", crops, Readout(decision_tau, TEMPERATURES))
    batch = crops.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    plain = open_network(folder / "graph.onnx", "onnxruntime").run({"image": batch})
    network = open_network(tmp_path / "graph.onnx", "onnxruntime")
    found = network.run({"image": batch})
    for head, prior in read_priors(weights)[1].items():
        with np.errstate(divide="ignore"):
            log_p = np.log(plain[f"p_{head}"].astype(np.float64))
        wanted = prior.implied if decision_tau is None else prior.wanted
        expected = apply_temperature(log_p, prior.implied, wanted, TEMPERATURES[head])
        np.testing.assert_allclose(found[f"p_{head}"], expected, atol=1e-5)
        assert json.loads(network.metadata["implied_prior"])[head] == pytest.approx(wanted.tolist())
    assert json.loads(network.metadata["temperature"]) == TEMPERATURES


def test_a_cross_fit_is_the_ensemble_of_its_folds_with_its_temperatures(folder: Path, tmp_path: Path) -> None:
    crossfit = write_crossfit(tmp_path / "crossfit", folder / "run")
    segmenter = folder / "segmenter" / "segmenter.onnx"
    bundle = export_bundle([crossfit], segmenter, tmp_path / "bundle")
    assert bundle.classifier_files == ("classifier-0.onnx", "classifier-1.onnx")
    calibration = bundle.spec.calibration
    assert calibration is not None
    assert calibration.heads["category"].temperature == 0.7
    assert calibration.n_patients == 6
    assert calibration.heads["cblc"].model_dump(exclude_none=True) == {
        "temperature": 1.6, "reason": "", "n_cells": 200, "n_left_out": 0, "nested_temperatures": {"0": 1.0, "1": 1.0},
        "nll_before": 0.5, "nll_after": 0.4, "ece_before": 0.1,
    }  # fmt: skip
    assert json.loads(bundle.open_classifiers("onnxruntime")[1].metadata["temperature"]) == TEMPERATURES
    card = (tmp_path / "bundle" / "CARD.md").read_text(encoding="utf-8")
    assert "Temperatures (inside the graphs; cblc 1.60, countable 1.00, category 0.70) were fitted on" in card
    assert find_members([crossfit], calibrate=False) == ([crossfit / "fold-0", crossfit / "fold-1"], None)
    assert find_members([folder / "run"], calibrate=True) == ([folder / "run"], None)


def test_temperatures_of_other_weights_or_folders_are_refused(folder: Path, tmp_path: Path) -> None:
    crossfit = write_crossfit(tmp_path / "crossfit", folder / "run")
    segmenter = folder / "segmenter" / "segmenter.onnx"
    with pytest.raises(
        InputError, match=r"found 2 folders, .*crossfit among them a cross-fit, expected a cross-fit al"
    ):
        export_bundle([folder / "run", crossfit], segmenter, tmp_path / "bundle")
    record = json.loads((crossfit / "fold-1" / "fit.json").read_text(encoding="utf-8"))
    record["result"]["weights_sha256"] = "0" * 64
    (crossfit / "fold-1" / "fit.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match=r"fold-1: found weights 000000000000, expected .*those of calibration\.json"):
        export_bundle([crossfit], segmenter, tmp_path / "bundle")
    calibration = json.loads((crossfit / "calibration.json").read_text(encoding="utf-8"))
    moved = calibration | {"members": {f"../run/{name}": weights for name, weights in calibration["members"].items()}}
    (crossfit / "calibration.json").write_text(json.dumps(moved), encoding="utf-8")
    with pytest.raises(
        RunError, match=r"calibration\.json, members: found '\.\./run/fold-0', a path through the folder"
    ):
        export_bundle([crossfit], segmenter, tmp_path / "bundle")
    (crossfit / "calibration.json").unlink()
    with pytest.raises(RunError, match=r"calibration\.json: not found; train every fold"):
        export_bundle([crossfit], segmenter, tmp_path / "bundle")
