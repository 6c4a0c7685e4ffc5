"""The steps of the study, in order, each done once.

1. simulate: one cohort per center, S1-S3 for training, S4-S6 for testing, drawn from one seed.
2. segmenter: the included one, or trained on the internal patients; frozen, its SHA-256 in all later steps.
3. prepare: crops of the internal patients, and of the external ones for the probe alone.
4. folds: by patient, without the external centers; no image or near-duplicate on two sides.
5. crossfit: one classifier per fold in two stages, and temperatures from out-of-fold predictions.
6. bundle, predict: the ensemble and each member alone, end to end on the external patients' images.
7. evaluate: against the experts' polygons, by center, beside the probe on the very same cells.
Invariant: no step before 6 reads an external image, except to cut the crops that only the probe is tested on.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from marrowscope import __version__
from marrowscope.bundle import SEGMENTER_FILE, Bundle, load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cohort import read_cohort, require_clean
from marrowscope.cohort.folds import check_folds, make_folds, write_folds
from marrowscope.errors import RunError
from marrowscope.evaluate import EvaluateConfig, evaluate_run, write_evaluation
from marrowscope.export import export_bundle
from marrowscope.imaging import sha256_file
from marrowscope.predict import PredictConfig, predict
from marrowscope.prepare import prepare_crops
from marrowscope.segment.segmenter import Segmenter
from marrowscope.simulate import simulate_cohort
from marrowscope.statistics.temperature import CALIBRATION_NAME
from marrowscope.studies.crossfit import FOLDS_NAME, fit_folds
from marrowscope.studies.reproduce.compare import FURTHER_FIGURES, Comparison, compare_models
from marrowscope.studies.reproduce.journal import Journal, read_json, write_json
from marrowscope.studies.reproduce.measure import measure_rates, on_machine
from marrowscope.studies.reproduce.plan import Machine, Plan, Rates, make_plan
from marrowscope.studies.reproduce.study_tables import write_tables
from marrowscope.train.bundle_card import BundleDescription
from marrowscope.train.crop_set import SUMMARY_NAME
from marrowscope.train.left_out_cells import OOF_NAME
from marrowscope.train.segmenter_data import labeled_fields
from marrowscope.train.segmenter_fit import TRAINING_DATA_FILE, train_segmenter
from marrowscope.train.segmenter_graph import export_segmenter
from marrowscope.train.training_record import read_finished
from marrowscope.vocabulary import load_vocabulary
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from marrowscope.records import Field, JsonDict, Patient
    from marrowscope.studies.reproduce.presets import Preset
    from marrowscope.train.config import ClassifierConfig
    from marrowscope.train.stage import Progress

_PLAN_NAME = "plan.json"


@dataclass(frozen=True, slots=True)
class Reproduction:
    """The finished study: its folder, the comparison, seconds of every step, and the estimate."""

    folder: Path
    comparison: Comparison
    seconds: dict[str, float]
    plan: Plan


def plan_study(out: Path, preset: Preset, machine: Machine) -> Plan:
    """Measure this machine and return the plan; the rates are kept in ``out`` and not measured again there."""
    journal = Journal(out, _settings(preset))
    return _plan(journal, preset, machine)


def reproduce(
    out: Path,
    preset: Preset,
    machine: Machine | None = None,
    *,
    command: Sequence[str] = (),
    on_plan: Callable[[Plan, float], None] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Reproduction:
    """Do every unfinished step of the study in ``out``, and write table.md, table.csv and summary.json.

    ``on_plan`` gets the plan and its remaining seconds before any work, ``progress`` (step, done, total). Raises
    RunError for a folder with other settings; a killed call continues when called again.
    """
    machine = machine or Machine()
    journal = Journal(out, _settings(preset))
    plan = _plan(journal, preset, machine)
    done = journal.seconds()
    if on_plan:
        on_plan(plan, plan.seconds_left(set(done)))
    if not done:
        _check_space(out, plan)
    study = _Study(journal, preset, machine, command, progress or (lambda _step, _done, _total: None))
    comparison = study.run()
    seconds = journal.seconds()
    write_tables(out, preset, comparison, plan, seconds=seconds, provenance=study.provenance())
    return Reproduction(out, comparison, seconds, plan)


def _settings(preset: Preset) -> JsonDict:
    """Return everything that determines the result."""
    vocabulary = load_vocabulary()
    settings = preset.model_dump(mode="json") | {"classifier": _decisive(preset.classifier)}
    return {"marrowscope_version": __version__, "vocabulary_sha256": vocabulary.sha256, "preset": settings}


def _decisive(config: ClassifierConfig) -> JsonDict:
    """Return the training settings except those that another machine may change."""
    return config.model_dump(mode="json", exclude={"threads", "device", "workers", "checkpoint_every_steps"})


def _plan(journal: Journal, preset: Preset, machine: Machine) -> Plan:
    """Use the kept rates, or measure where they are from other threads or another device."""
    path = journal.folder / _PLAN_NAME
    measured_with = {"threads": machine.threads, "device": machine.device}
    if path.is_file() and (kept := read_json(path)).get("measured_with") == measured_with:
        return make_plan(preset, Rates(**kept["rates"]), machine)
    rates = measure_rates(preset, machine)
    write_json(path, {"measured_with": measured_with, "rates": asdict(rates)})
    return make_plan(preset, rates, machine)


def _check_space(out: Path, plan: Plan) -> None:
    """Refuse to begin when the disk is too full."""
    free_gb = shutil.disk_usage(out).free / 1e9
    if free_gb < plan.disk_gb:
        message = (
            f"{out}: found {free_gb:.1f} GB free, expected {plan.disk_gb:.1f} GB for images and crops; choose an --out "
            "on another disk"
        )
        raise RunError(message)


class _Study:
    """The steps over one journal; each returns the hashes that later steps use as inputs."""

    def __init__(
        self,
        journal: Journal,
        preset: Preset,
        machine: Machine,
        command: Sequence[str],
        advance: Callable[[str, int, int], None],
    ) -> None:
        self._journal, self._preset, self._machine = journal, preset, machine
        self._command, self._advance = command, advance
        self._out = journal.folder
        self._made: dict[str, JsonDict] = {}

    def run(self) -> Comparison:
        """Run every unfinished step."""
        for center in self._preset.patients_by_center:
            self._simulate(center)
        segmenter = self._segmenter()
        self._prepare("internal", segmenter)
        self._prepare("external", segmenter)
        self._folds()
        self._crossfit()
        bundle = self._bundle(segmenter)
        self._predict("ensemble", bundle)
        names = bundle.classifier_files
        for index, name in enumerate(names):
            kept = {path: digest for path, digest in bundle.spec.files.items() if path == name or path not in names}
            self._predict(f"fold-{index}", replace(bundle, spec=bundle.spec.model_copy(update={"files": kept})))
        return self._evaluate(len(names))

    def provenance(self) -> JsonDict:
        """Return the outputs of every step, by name: hashes and counts."""
        return dict(self._made)

    def _step(self, name: str, inputs: JsonDict, files: Sequence[Path], action: Callable[[], JsonDict]) -> JsonDict:
        outputs = self._journal.step(name, inputs, files, action)
        self._made[name] = outputs
        return outputs

    def _simulate(self, center: str) -> None:
        config, numbers = self._preset.simulation(self._machine.workers), self._preset.patient_numbers(center)
        folder = self._out / "cohort" / center

        def action() -> JsonDict:
            title = f"Simulate center {center}, {count_of(len(numbers), 'patient')}"
            simulate_cohort(folder, config, partial(self._advance, title), patients=numbers, overwrite=True)
            return {"truth_sha256": sha256_file(folder / "truth_cells.parquet"), "patients": len(numbers)}

        inputs = {"config": config.model_dump(mode="json", exclude={"workers"}), "patients": numbers}
        self._step(f"simulate-{center}", inputs, [folder / "simulation.json"], action)

    def _segmenter(self) -> Path:
        """Return the graph: the included one, or the one trained on every patient of the internal centers."""
        config = self._preset.segmenter
        if config is None:
            graph = demonstration_bundle() / SEGMENTER_FILE
            self._made["segmenter"] = {"segmenter_sha256": sha256_file(graph), "trained": False}
            return graph
        config = config.model_copy(update={"threads": self._machine.threads, "device": self._machine.device})
        folder = self._out / "segmenter"
        graph = folder / "segmenter" / "segmenter.onnx"

        def train() -> JsonDict:
            fields = labeled_fields(self._cohort("internal")[1], "internal")
            seen = [0]

            def count(line: str) -> None:
                if line.startswith("epoch "):
                    seen[0] = int(line.removeprefix("epoch ").partition("/")[0])
                self._advance("Train the segmenter, epochs", seen[0], config.epochs)

            checkpoint = train_segmenter(fields, folder, config, resume=True, progress=count)
            fingerprint = (folder / TRAINING_DATA_FILE).read_text(encoding="utf-8").strip()
            export_segmenter(checkpoint, graph, config, training_data_sha256=fingerprint)
            return {"segmenter_sha256": sha256_file(graph), "trained": True, "training_data_sha256": fingerprint}

        settings = config.model_dump(mode="json", exclude={"threads", "device"})
        self._step("segmenter", {"config": settings, "cohort": self._drawn("internal")}, [graph], train)
        return graph

    def _prepare(self, side: str, segmenter: Path) -> None:
        folder = self._out / "crops" / side

        def action() -> JsonDict:
            patients, fields = self._cohort(side)
            title = f"Cut the crops of the {side} patients, fields twice"
            prepared = prepare_crops(
                patients,
                fields,
                folder,
                segmenter=Segmenter.from_onnx(segmenter),
                overwrite=True,
                progress=partial(self._advance, title),
            )
            counts = {name: getattr(prepared, f"n_{name}") for name in ("expert", "predicted", "missed", "rejected")}
            return {"crops_sha256": sha256_file(folder / "crops.npy"), **counts}

        inputs = {"cohort": self._drawn(side), "segmenter": self._made["segmenter"]["segmenter_sha256"]}
        self._step(f"prepare-{side}", inputs, [folder / SUMMARY_NAME], action)

    def _folds(self) -> None:
        path = self._out / FOLDS_NAME

        def action() -> JsonDict:
            path.unlink(missing_ok=True)
            sides = [self._crops(side) / "cells.parquet" for side in ("internal", "external")]
            cells = pl.concat([pl.read_parquet(side) for side in sides])
            patients = cells.select("patient_id", "center", "diagnosis").unique().sort("patient_id")
            drawn = make_folds(patients, self._preset.n_folds, self._preset.seed, self._preset.external_centers)
            check_folds(cells, drawn)
            write_folds(path, drawn, patients)
            return {"folds_sha256": sha256_file(path)}

        inputs = {"cohort": [self._made[f"prepare-{side}"] for side in ("internal", "external")]}
        self._step("folds", inputs, [path], action)

    def _crossfit(self) -> None:
        """Train one fold after another; the last one also fits the temperatures."""
        folder, last = self._out / "crossfit", self._preset.n_folds - 1
        config = on_machine(self._preset.classifier, self._machine)
        inputs = {
            "config": _decisive(config),
            "crops": self._made["prepare-internal"],
            "folds": self._made["folds"],
        }
        for fold in range(self._preset.n_folds):
            files = [folder / f"fold-{fold}" / OOF_NAME, *([folder / CALIBRATION_NAME] if fold == last else [])]
            self._step(f"crossfit-{fold}", inputs, files, partial(self._fit_fold, folder, config, fold))

    def _fit_fold(self, folder: Path, config: ClassifierConfig, fold: int) -> JsonDict:
        def note(_fold: int, now: Progress) -> None:
            title = f"Fold {fold} of 0-{self._preset.n_folds - 1}, {now.stage}, steps"
            self._advance(title, (now.epoch - 1) * now.n_steps + now.step, now.n_epochs * now.n_steps)

        fit_folds(
            self._crops("internal"),
            folder,
            config,
            self._out / FOLDS_NAME,
            only_fold=fold,
            resume=True,
            on_progress=note,
        )
        result = read_finished(folder / f"fold-{fold}").result
        return {"weights_sha256": result.weights_sha256, "best_epoch": result.best_epoch.epoch}

    def _bundle(self, segmenter: Path) -> Bundle:
        folder = self._out / "bundle"

        def action() -> JsonDict:
            description = BundleDescription(
                name=f"reproduction-{self._preset.name}",
                purpose="Repeats the design of a study on simulated patients.",
                demonstration=True,
                trained_on=(
                    f"{count_of(sum(self._preset.internal), 'simulated patient')} of "
                    f"{count_of(len(self._preset.internal), 'center')}."
                ),
            )
            bundle = export_bundle(
                [self._out / "crossfit"],
                segmenter,
                folder,
                crops=self._crops("internal"),
                description=description,
                overwrite=True,
            )
            return {"bundle_sha256": bundle.spec_sha256}

        members = {name: made["weights_sha256"] for name, made in self._made.items() if name.startswith("crossfit")}
        inputs = {"crossfit": members, "segmenter": self._made["segmenter"]}
        self._step("bundle", inputs, [folder / "bundle.toml"], action)
        return load_bundle(folder)

    def _predict(self, name: str, bundle: Bundle) -> None:
        run = self._out / "runs" / name
        roots = [self._out / "cohort" / center for center in self._preset.external_centers]

        def action() -> JsonDict:
            run.parent.mkdir(exist_ok=True)
            prediction = predict(
                roots,
                bundle,
                run,
                config=PredictConfig(),
                overwrite=True,
                command=self._command,
                progress=partial(self._advance, f"Predict with {name}, fields"),
            )
            return {"input_sha256": prediction.manifest.input_sha256, "cells": prediction.manifest.counts.cells}

        inputs = {"bundle": self._made["bundle"], "members": list(bundle.classifier_files)}
        self._step(f"predict-{name}", inputs, [run / "manifest.json"], action)

    def _evaluate(self, n_members: int) -> Comparison:
        runs = self._out / "runs"
        path = self._out / "comparison.json"

        def action() -> JsonDict:
            patients, fields = self._cohort("external")
            vocabulary = load_vocabulary()
            evaluation = evaluate_run(
                runs / "ensemble",
                patients,
                fields,
                vocabulary,
                config=EvaluateConfig(n_resamples=self._preset.n_resamples),
                progress=partial(self._advance, "Evaluate the external centers"),
            )
            write_evaluation(evaluation, self._out / "evaluation")
            comparison = compare_models(
                evaluation,
                [runs / f"fold-{index}" for index in range(n_members)],
                (self._crops("internal"), self._crops("external")),
                (patients, fields),
                vocabulary,
            )
            write_json(path, comparison.model_dump(mode="json"))
            return {"comparison_sha256": sha256_file(path)}

        made = {name: outputs for name, outputs in self._made.items() if name.startswith(("prepare", "predict"))}
        inputs = made | {"figures": list(FURTHER_FIGURES)}
        self._step("evaluate", inputs, [path, self._out / "evaluation" / "metrics.json"], action)
        return Comparison.model_validate(read_json(path))

    def _crops(self, side: str) -> Path:
        return self._out / "crops" / side

    def _centers(self, side: str) -> tuple[str, ...]:
        return self._preset.internal_centers if side == "internal" else self._preset.external_centers

    def _drawn(self, side: str) -> JsonDict:
        return {center: self._made[f"simulate-{center}"] for center in self._centers(side)}

    def _cohort(self, side: str) -> tuple[list[Patient], list[Field]]:
        """Read the patients and fields of a side; each center is a separate cohort on disk."""
        patients: list[Patient] = []
        fields: list[Field] = []
        for center in self._centers(side):
            cohort = require_clean(read_cohort(self._out / "cohort" / center))
            patients += cohort.patients
            fields += cohort.fields
        return patients, fields
