from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

pytest.importorskip("torch")

from marrowscope.bundle import Bundle, write_bundle
from marrowscope.bundle.center_rates import measure_centers
from marrowscope.bundle.embedding_file import describe_embeddings, embeddings_bytes
from marrowscope.bundle.golden import check_golden
from marrowscope.cells.calls import call_cells, decode_calls
from marrowscope.cohort.folds import TRAINS_IN_EVERY, read_folds, read_split, write_split
from marrowscope.errors import BundleError, CohortError, ConfigError, RunError
from marrowscope.export import export_bundle
from marrowscope.networks import available_backends
from marrowscope.patient.quantify.fit_rates import fit_quantification
from marrowscope.statistics.temperature import Calibration, apply_temperature
from marrowscope.studies.crossfit import fit_folds, join_folds
from marrowscope.train.checkpoint import hash_weights, load_tensors
from marrowscope.train.crop_set import open_crop_set
from marrowscope.train.fold_calibration import with_joint
from marrowscope.train.left_out_cells import crossfit_cells, left_out_calls
from marrowscope.train.out_of_fold import predict_table, read_priors
from marrowscope.vocabulary import load_vocabulary
from tests.crop_sets import tiny_config, write_crop_set
from tests.onnx_graphs import segmenter_graph
from tests.segment.raw_outputs import raw_outputs

if TYPE_CHECKING:
    from pathlib import Path

    from marrowscope.train.config import ClassifierConfig
    from marrowscope.vocabulary import Vocabulary

FOLDS = {"p0": 0, "p1": 1, "p2": 2, "p3": 0, "p4": 1, "p5": None}


def config() -> ClassifierConfig:
    stage = {"name": "short", "train_on": "expert", "select_on": "predicted", "epochs": 2, "learning_rate": 3e-3}
    return tiny_config(stages=(stage,))


def write_doubtful_crops(folder: Path) -> Path:
    """Write crops some of whose labels are wrong, so that there is something to calibrate; p5 is of another center."""
    write_crop_set(folder, crops_per_patient=40)
    missed = [("p0/f0", 90, "N"), ("p0/f0", 91, "L"), ("p5/f0", 90, "N")]
    columns = {"field_id": pl.String, "shape_index": pl.Int64, "expert_code": pl.String}
    pl.DataFrame(missed, schema=columns, orient="row").write_parquet(folder / "missed.parquet")
    cells = pl.read_parquet(folder / "cells.parquet").with_row_index()
    doubtful = (pl.col("index") * 7919 % 10) < 3
    cells = cells.with_columns(
        pl.when(doubtful).then(pl.col("expert_code").reverse()).otherwise(pl.col("expert_code")).alias("expert_code"),
        pl.when(pl.col("patient_id") == "p5").then(pl.lit("c9")).otherwise(pl.col("center")).alias("center"),
    )
    cells.drop("index").write_parquet(folder / "cells.parquet")
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a crop set and a cross-fit of three folds, the second one first, once for this file."""
    folder = tmp_path_factory.mktemp("crossfit")
    crops = write_doubtful_crops(folder / "crops")
    first = fit_folds(crops, folder / "out", config(), FOLDS, only_fold=1)
    assert (first.finished, first.missing, first.calibration) == ((1,), (0, 2), None)
    assert not (folder / "out" / "oof.parquet").exists()
    before = (folder / "out" / "fold-1" / "classifier.safetensors").stat().st_mtime_ns
    heard: list[int] = []
    rest = fit_folds(
        crops, folder / "out", config(), FOLDS, resume=True, on_progress=lambda fold, _: heard.append(fold)
    )
    assert (rest.finished, rest.missing) == ((0, 1, 2), ())
    assert sorted(set(heard)) == [0, 2]
    assert (folder / "out" / "fold-1" / "classifier.safetensors").stat().st_mtime_ns == before
    return folder


@pytest.fixture
def copied(root: Path, tmp_path: Path) -> Path:
    shutil.copytree(root / "out", tmp_path / "out")
    return tmp_path / "out"


def test_every_cell_is_predicted_once_by_the_network_that_never_saw_its_patient(root: Path) -> None:
    oof = pl.read_parquet(root / "out" / "oof.parquet")
    assert oof.height == 5 * 40
    assert not oof["cell_id"].is_duplicated().any()
    assert set(oof["source"]) == {"predicted"}
    assert dict(oof.select("patient_id", "fold").unique().iter_rows()) == {
        k: v for k, v in FOLDS.items() if v is not None
    }
    for fold in (0, 1, 2):
        roles = read_split(root / "out" / f"fold-{fold}" / "split.csv")
        left_out = {patient for patient, given in FOLDS.items() if given in {fold, None}}
        assert {patient for patient, role in roles.items() if role == "test"} == left_out
        assert "validation" in roles.values()


def test_the_predictions_are_those_of_the_folds_own_network(root: Path) -> None:
    crop_set = open_crop_set(root / "crops", load_vocabulary())
    oof = pl.read_parquet(root / "out" / "oof.parquet").filter(pl.col("fold") == 2)
    rows = crop_set.rows({"p2"}, "predicted")
    own, other = (
        predict_table(root / "out" / name / "classifier.safetensors", crop_set, rows, config())
        for name in ("fold-2", "fold-0")
    )
    assert oof.drop("fold").equals(own)
    assert np.abs(other["logp_cblc"].to_numpy() - own["logp_cblc"].to_numpy()).max() > 1e-3
    assert oof["label_cblc"].to_list() == crop_set.labels["cblc"][rows].tolist()
    log_p = oof["logp_category"].to_numpy()
    np.testing.assert_allclose(np.exp(log_p).sum(axis=1), 1, atol=1e-5)
    assert np.isneginf(log_p).sum(axis=1).tolist() == [11] * 40  # five of sixteen categories have cells


def test_the_temperatures_name_their_members_and_lower_the_loss_they_were_fitted_for(root: Path) -> None:
    out = root / "out"
    calibration = Calibration.model_validate_json((out / "calibration.json").read_text(encoding="utf-8"))
    assert calibration.members == {
        f"fold-{fold}": hash_weights(load_tensors(out / f"fold-{fold}" / "classifier.safetensors")[0])
        for fold in (0, 1, 2)
    }
    assert (calibration.source, calibration.n_patients) == ("predicted", 5)
    oof = pl.read_parquet(out / "oof.parquet")
    for head, fitted in calibration.heads.items():
        assert fitted.n_cells == 200
        assert set(fitted.nested_temperatures) == {"0", "1", "2"}
        losses = {}
        for temperature in (1.0, fitted.temperature, fitted.temperature * 1.3, fitted.temperature / 1.3):
            total = 0.0
            for fold in (0, 1, 2):
                part = oof.filter(pl.col("fold") == fold)
                priors = read_priors(out / f"fold-{fold}" / "classifier.safetensors")[1][head]
                p = apply_temperature(part[f"logp_{head}"].to_numpy(), priors.implied, priors.wanted, temperature)
                total -= float(np.log(p[np.arange(len(p)), part[f"label_{head}"].to_numpy()]).sum())
            losses[temperature] = total
        assert min(losses, key=losses.__getitem__) == fitted.temperature or fitted.temperature == 1


def _with_cut_cells(out: Path, copy: Path, vocabulary: Vocabulary) -> pl.DataFrame:
    """Give the cells of a copy of a cross-fit in which one found and one missed cell are cut by an edge."""
    shutil.copytree(out, copy)
    for name in ("oof.parquet", "missed.parquet"):
        table = pl.read_parquet(copy / name)
        table.with_columns(pl.Series("cut", [row == 0 for row in range(table.height)])).write_parquet(copy / name)
    return crossfit_cells(copy, None, 0.0, vocabulary)[0]


def test_cells_held_out_are_called_as_the_exported_graphs_will_call_them(root: Path) -> None:
    out, vocabulary = root / "out", load_vocabulary()
    calibration = Calibration.model_validate_json((out / "calibration.json").read_text(encoding="utf-8"))
    cells, people = crossfit_cells(out, calibration, 0.0, vocabulary)
    diagnosis_of = {name: person.diagnosis for name, person in people.items()}
    assert diagnosis_of == {
        "p0": "AML_M2",
        "p1": "AML_M2",
        "p2": "control",
        "p3": "control",
        "p4": "AML_M2",
    }
    assert {name: person.specimen for name, person in people.items()} == {
        name: "blood" if name == "p1" else "marrow" for name in diagnosis_of
    }
    oof = pl.read_parquet(out / "oof.parquet")
    assert cells.filter("counted").height + (~cells["counted"]).sum() == oof.height + 2  # the external patient's apart
    assert dict(cells.select("patient_id", "group").unique().iter_rows()) == {
        "p0": 0,
        "p1": 1,
        "p2": 2,
        "p3": 0,
        "p4": 1,
    }
    missed = cells.filter(pl.col("called_category").is_null())
    assert missed.select("patient_id", "code", "counted").rows() == [("p0", "N", False), ("p0", "L", False)]
    assert _with_cut_cells(out, out.parent / "cut", vocabulary).height == cells.height - 2
    part = oof.filter(pl.col("fold") == 1)
    _, priors = read_priors(out / "fold-1" / "classifier.safetensors", 0.0)
    heads = {
        head: apply_temperature(
            part[f"logp_{head}"].to_numpy(), priors[head].implied, priors[head].wanted, calibration.temperatures()[head]
        )
        for head in ("category", "cblc", "countable")
    }
    calls = decode_calls(heads["category"], heads["cblc"][:, 1], heads["countable"][:, 1], vocabulary)
    called = cells.filter((pl.col("group") == 1) & pl.col("called_category").is_not_null())
    assert called["called_cblc"].to_list() == calls.is_cblc.tolist()
    assert called["counted"].to_list() == calls.is_countable.tolist()
    without = crossfit_cells(out, None, None, vocabulary)[0]
    assert without.height == cells.height


def test_the_specimen_of_an_older_crop_set_is_unknown_and_gives_no_center_rates(copied: Path) -> None:
    vocabulary = load_vocabulary()
    pl.read_parquet(copied / "oof.parquet").drop("specimen").write_parquet(copied / "oof.parquet")
    cells, people = crossfit_cells(copied, None, 0.0, vocabulary)
    specimen_of = {name: person.specimen for name, person in people.items()}
    assert set(specimen_of.values()) == {"unknown"}
    center_of = {name: person.center for name, person in people.items()}
    found = fit_quantification(cells, {}, vocabulary, source="a test", specimen_of=specimen_of)
    assert measure_centers(cells, center_of, vocabulary, found, specimen_of=specimen_of) == ({}, {})


def test_the_tables_cover_every_head_and_center(root: Path) -> None:
    table = pl.read_csv(root / "out" / "calibration.csv")
    assert table.height == 12  # three heads and all together, by center
    assert table.filter(pl.col("head") == "cblc").select("center", "n_cells", "n_patients").rows() == [
        ("all", 200, 5), ("c0", 120, 3), ("c1", 80, 2),
    ]  # fmt: skip
    calibration = json.loads((root / "out" / "calibration.json").read_text(encoding="utf-8"))
    overall = table.filter((pl.col("head") == "category") & (pl.col("center") == "all")).row(0, named=True)
    for name in ("nll_before", "nll_after", "ece_before", "ece_after"):
        assert overall[name] == pytest.approx(calibration["heads"]["category"][name])
    together = table.filter((pl.col("head") == "joint") & (pl.col("center") == "all")).row(0, named=True)
    for name in ("nll_before", "nll_after", "ece_before", "ece_after"):
        assert together[name] == pytest.approx(calibration["joint"][name])
    bins = pl.read_csv(root / "out" / "reliability.csv")
    totals = bins.group_by("head", "center", "calibration").agg(pl.col("n").sum())
    assert totals.height == 24
    assert set(totals.filter(pl.col("center") == "c0")["n"]) == {120}


def test_the_manifest_says_what_is_needed_to_repeat_the_run(root: Path) -> None:
    record = json.loads((root / "out" / "crossfit.json").read_text(encoding="utf-8"))
    assert record["config"] == config().model_dump(mode="json")
    assert set(record["data_sha256"]) == {"crops.npy", "masks.npy", "cells.parquet"}
    assert record["n_external_patients"] == 1
    assert set(record["folds"]) == {"0", "1", "2"}
    fit = json.loads((root / "out" / "fold-2" / "fit.json").read_text(encoding="utf-8"))
    assert record["folds"]["2"]["weights_sha256"] == fit["result"]["weights_sha256"]
    assert {"python", "torch", "timm", "numpy"} <= set(record["versions"])
    assert read_folds(root / "out" / "folds.csv") == FOLDS


def test_folds_copied_together_give_the_same_calibration(copied: Path) -> None:
    expected = (copied / "calibration.json").read_bytes(), (copied / "oof.parquet").read_bytes()
    for name in ("calibration.json", "oof.parquet", "reliability.csv"):
        (copied / name).unlink()
    joined = join_folds(copied)
    assert joined.calibration is not None
    assert ((copied / "calibration.json").read_bytes(), (copied / "oof.parquet").read_bytes()) == expected
    assert (copied / "reliability.csv").is_file()


def test_a_missing_fold_is_named(copied: Path) -> None:
    (copied / "fold-1" / "oof.parquet").unlink()
    with pytest.raises(RunError, match="found no predictions of fold 1, expected those of every fold"):
        join_folds(copied)


def test_a_fold_of_other_settings_is_refused_and_one_of_another_machine_is_not(copied: Path) -> None:
    path = copied / "fold-1" / "fit.json"
    fit = json.loads(path.read_text(encoding="utf-8"))
    fit["config"]["threads"] = 16
    path.write_text(json.dumps(fit), encoding="utf-8")
    join_folds(copied)
    fit["config"]["tau"] = 0.5
    path.write_text(json.dumps(fit), encoding="utf-8")
    with pytest.raises(RunError, match=r"fold-1: found other config than in crossfit\.json, expected the same"):
        join_folds(copied)


def test_a_fold_that_learned_from_a_patient_it_leaves_out_is_refused(copied: Path) -> None:
    roles = read_split(copied / "fold-1" / "split.csv")
    write_split(copied / "fold-1" / "split.csv", roles | {"p4": "validation"})
    with pytest.raises(CohortError, match="fold 1: found patients p4 in training or validation, expected them held"):
        join_folds(copied)
    write_split(copied / "fold-1" / "split.csv", roles | {"p5": "train"})
    with pytest.raises(CohortError, match="fold 1: found patients p5 in training"):
        join_folds(copied)


def test_predictions_of_another_folds_patients_are_refused(copied: Path) -> None:
    oof = pl.read_parquet(copied / "fold-0" / "oof.parquet")
    oof.with_columns(pl.lit(1, pl.Int64()).alias("fold")).write_parquet(copied / "fold-1" / "oof.parquet")
    with pytest.raises(RunError, match="found predictions of p0, p3 by another fold or twice"):
        join_folds(copied)


def test_an_earlier_cross_fit_is_kept_and_other_folds_or_settings_are_not_mixed_in(root: Path) -> None:
    crops, out = root / "crops", root / "out"
    with pytest.raises(RunError, match="found an earlier cross-fit, expected a new folder; add --resume"):
        fit_folds(crops, out, config(), FOLDS)
    with pytest.raises(RunError, match="found an earlier training, expected a new folder; add --resume"):
        fit_folds(crops, out, config(), FOLDS, only_fold=1)
    with pytest.raises(RunError, match="found a cross-fit with other config, expected the same"):
        fit_folds(crops, out, tiny_config(tau=0.5), FOLDS, resume=True)
    with pytest.raises(RunError, match="found a cross-fit with other folds, expected the same"):
        fit_folds(crops, out, config(), FOLDS | {"p0": 1}, resume=True)
    with pytest.raises(RunError, match="found a training without folds, expected a new folder"):
        fit_folds(crops, out / "fold-0", config(), FOLDS)


def test_a_fixed_schedule_trains_on_every_patient_of_the_other_folds(root: Path, tmp_path: Path) -> None:
    fixed = config().model_copy(update={"select": "last"})
    fit_folds(root / "crops", tmp_path / "out", fixed, FOLDS, only_fold=0)
    roles = read_split(tmp_path / "out" / "fold-0" / "split.csv")
    assert {role for patient, role in roles.items() if FOLDS[patient] == 0} == {"test"}
    assert {role for patient, role in roles.items() if FOLDS[patient] not in {0, None}} == {"train"}


def test_patients_of_every_fold_train_in_each_and_are_predicted_by_none(root: Path, tmp_path: Path) -> None:
    """With few cells, an ensemble may leave out only what its calibration needs."""
    folds = {"p0": 0, "p1": 1, "p2": TRAINS_IN_EVERY, "p3": TRAINS_IN_EVERY, "p4": TRAINS_IN_EVERY, "p5": None}
    result = fit_folds(root / "crops", tmp_path / "out", config().model_copy(update={"select": "last"}), folds)
    assert result.finished == (0, 1)
    assert read_folds(tmp_path / "out" / "folds.csv") == folds
    for fold, other in ((0, "p1"), (1, "p0")):
        roles = read_split(tmp_path / "out" / f"fold-{fold}" / "split.csv")
        assert {patient for patient, role in roles.items() if role == "train"} == {other, "p2", "p3", "p4"}
    assert set(pl.read_parquet(tmp_path / "out" / "oof.parquet")["patient_id"]) == {"p0", "p1"}
    assert set(pl.read_parquet(tmp_path / "out" / "missed.parquet")["patient_id"]) == {"p0"}


def test_a_fold_that_is_not_there_or_predicts_nothing_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fold: found 7, expected one of 0, 1, 2"):
        fit_folds(root / "crops", tmp_path / "out", config(), FOLDS, only_fold=7)
    with pytest.raises(CohortError, match="found no labeled predicted crop of the patients of fold 3"):
        fit_folds(root / "crops", tmp_path / "out", config(), FOLDS | {"p9": 3})
    assert not (tmp_path / "out").exists()


def test_folds_that_share_an_image_are_refused(root: Path, tmp_path: Path) -> None:
    crops = tmp_path / "crops"
    shutil.copytree(root / "crops", crops)
    cells = pl.read_parquet(crops / "cells.parquet")
    shared = pl.when(pl.col("patient_id").is_in(["p0", "p1"])).then(pl.lit("f" * 64)).otherwise(pl.col("image_sha256"))
    cells.with_columns(shared.alias("image_sha256")).write_parquet(crops / "cells.parquet")
    with pytest.raises(CohortError, match=r"p0.*p1"):
        fit_folds(crops, tmp_path / "out", config(), FOLDS)


def test_the_folds_learn_with_the_vocabulary_that_was_given(root: Path, tmp_path: Path) -> None:
    own = replace(load_vocabulary(), sha256="f" * 64)
    fit_folds(root / "crops", tmp_path / "out", config(), FOLDS, only_fold=0, vocabulary=own)
    fit = json.loads((tmp_path / "out" / "fold-0" / "fit.json").read_text(encoding="utf-8"))
    assert fit["vocabulary"]["sha256"] == own.sha256


@pytest.fixture(scope="module")
def bundle(root: Path) -> Bundle:
    """Export the cross-fit, once for this file."""
    (root / "segmenter").mkdir()
    segmenter = root / "segmenter" / "segmenter.onnx"
    metadata = {"um_per_px": "0.3", "license": "AGPL-3.0-only"}
    segmenter.write_bytes(segmenter_graph(*raw_outputs([(60.0, 50.0, 20.0, 20.0, 0.9)], 32, 32), metadata))
    (root / "segmenter" / "LICENSE").write_text("the license", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("marrowscope.train.embedding_statistics.MIN_CELLS", 8)  # the first fold has 16 of each category
        return export_bundle([root / "out"], segmenter, root / "bundle")


def _network_crops(root: Path, rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.load(root / "crops" / "crops.npy")[rows, 7:39, 7:39])


def test_left_out_cells_and_a_prediction_go_through_one_function_and_agree(root: Path, bundle: Bundle) -> None:
    vocabulary, rule = load_vocabulary(), bundle.spec.joint
    calibration = Calibration.model_validate_json((root / "out" / "calibration.json").read_text(encoding="utf-8"))
    assert rule is not None
    assert calibration.joint is not None
    assert rule.weights == calibration.joint.weights != dict.fromkeys(rule.weights, 1.0)
    crop_set = open_crop_set(root / "crops", vocabulary)
    oof = pl.read_parquet(root / "out" / "oof.parquet")
    for fold, network in enumerate(bundle.open_classifiers("onnxruntime")):
        part = oof.filter(pl.col("fold") == fold)
        rows = [crop_set.cells["cell_id"].to_list().index(name) for name in part["cell_id"]]
        _, priors = read_priors(root / "out" / f"fold-{fold}" / "classifier.safetensors", 0.0)
        left_out = left_out_calls(part, priors, calibration.temperatures(), vocabulary, rule)
        predicted = call_cells([network.run_images(_network_crops(root, np.array(rows)))], len(rows), vocabulary, rule)
        np.testing.assert_allclose(left_out.p_cblc, [call.p_cblc for call in predicted], atol=1e-4)
        np.testing.assert_allclose(left_out.p_countable, [call.p_countable for call in predicted], atol=1e-4)
        np.testing.assert_allclose(left_out.p_category, [call.p_category for call in predicted], atol=1e-4)
        assert left_out.is_cblc.tolist() == [call.is_cblc for call in predicted]
    cells, _ = crossfit_cells(root / "out", calibration, 0.0, vocabulary, rule)
    called = cells.filter((pl.col("group") == 2) & pl.col("called_category").is_not_null())
    assert called["called_cblc"].to_list() == left_out.is_cblc.tolist()
    assert bundle.spec.implied_prior_cblc == pytest.approx(sum(item.share for item in rule.triples if item.cblc))


def test_a_calibration_of_an_earlier_version_gets_its_joint_part_at_export(copied: Path) -> None:
    path = copied / "calibration.json"
    whole = Calibration.model_validate_json(path.read_text(encoding="utf-8"))
    earlier = whole.model_copy(update={"joint": None})
    found = with_joint(copied, earlier, load_vocabulary())
    assert found == whole
    (copied / "oof.parquet").unlink()
    assert with_joint(copied, earlier, load_vocabulary()).joint is None


@pytest.mark.parametrize("backend", available_backends())
def test_a_crop_unlike_the_training_is_far_and_training_crops_are_near(
    root: Path, bundle: Bundle, backend: str
) -> None:
    vocabulary = load_vocabulary()
    assert bundle.embeddings is not None
    assert bundle.spec.embeddings is not None
    assert bundle.spec.embeddings.n_classes == len(bundle.embeddings.category_index) >= 2
    roles = read_split(root / "out" / "fold-0" / "split.csv")
    crop_set = open_crop_set(root / "crops", vocabulary)
    rows = crop_set.rows({name for name, role in roles.items() if role == "train"}, "predicted")
    known = _network_crops(root, rows)
    random = np.random.default_rng(0)
    strange = random.integers(0, 255, size=(20, 32, 32, 3), dtype=np.uint8)  # noise of every color
    networks = bundle.open_classifiers(backend)

    def distances(crops: np.ndarray) -> list[float]:
        outputs = [network.run_images(crops) for network in networks]
        calls = call_cells(outputs, len(crops), vocabulary, bundle.spec.joint, bundle.embeddings)
        return [call.embedding_distance for call in calls if call.embedding_distance is not None]

    near, far = distances(known), distances(strange)
    assert len(near) == len(known)
    assert np.median(near) < 2
    assert np.median(far) > 10 * np.median(near)


def test_the_golden_sample_holds_the_embedding_and_a_changed_one_fails(bundle: Bundle) -> None:
    for backend in available_backends():
        result = check_golden(bundle, backend)
        assert result.passed
        assert result.differences["embedding"] < 1e-2
    with np.load(bundle.folder / "golden.npz") as golden:
        arrays = dict(golden)
    assert arrays["embedding"].shape == (4, bundle.spec.embeddings.n_dimensions if bundle.spec.embeddings else 0)


def test_statistics_that_do_not_belong_to_the_graph_are_refused_when_the_bundle_is_loaded(
    bundle: Bundle, tmp_path: Path
) -> None:
    assert bundle.embeddings is not None
    files: dict[str, Path | bytes] = {name: bundle.folder / name for name in bundle.spec.files}
    half = replace(bundle.embeddings, mean=bundle.embeddings.mean[:100], projection=bundle.embeddings.projection[:100])
    spec = bundle.spec.model_copy(update={"embeddings": describe_embeddings(half)})
    with pytest.raises(BundleError, match=r"expected .*embedding \(n, 100\) in float32; export the bundle again"):
        write_bundle(tmp_path / "other", spec, files | {"embeddings.npz": embeddings_bytes(half)})
    with pytest.raises(BundleError, match=r"embeddings\.npz.*: no readable embedding statistics .*export the bundle"):
        write_bundle(tmp_path / "damaged", bundle.spec, files | {"embeddings.npz": b"PK nothing"})
