"""What the benchmark of prediction divides, and what it says of two pipelines; no time is judged here."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from marrowscope.bundle import Bundle, load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cli.main import app
from marrowscope.errors import InputError
from marrowscope.simulate import SimulationConfig, simulate_cohort
from marrowscope.streaming.config import PredictConfig
from marrowscope.studies.prediction_speed import (
    STAGES,
    Round,
    SpeedResult,
    Took,
    agree,
    measure_growth,
    measure_speed,
    resized_bundle,
)

CONFIG = PredictConfig(backend="onnxruntime", threads=1)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bench") / "cohort"
    config = SimulationConfig(
        patients=1,
        centers=1,
        fields=2,
        seed=4,
        diagnoses=("control",),
        cells_per_field=(10, 12),
        width_px=640,
        height_px=480,
    )
    simulate_cohort(out, config)
    return out


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return load_bundle(demonstration_bundle())


def square(x: float, side: float = 10.0) -> list[list[float]]:
    return [[x, 0.0], [x + side, 0.0], [x + side, side], [x, side]]


def test_medians_are_of_ratios_within_a_round() -> None:
    rounds = tuple(
        Round(Took(whole, whole), Took(alone, alone), {"read": 1.0}, other_s=other)
        for whole, alone, other in ((2.0, 1.0, 8.0), (30.0, 20.0, 90.0), (4.0, 1.0, 20.0))
    )
    values = SpeedResult(10, 50, {}, rounds).as_dict()
    assert values["medians"] == {
        "fields_per_second": 2.5,
        "cells_per_second": 12.5,
        "whole_over_networks": 2.0,
        "other_over_whole": 4.0,
    }


def test_agreement_counts_cells_that_both_found() -> None:
    ours = {"a.jpg": [np.array(square(0)), np.array(square(50))], "b.jpg": []}
    found = agree(ours, {"a.jpg": [square(0), square(90), square(120)]})
    assert (found["cells"], found["cells_other"]) == (2, 3)
    assert found["matched_share"] == 0.5
    assert found["matched_share_other"] == pytest.approx(1 / 3)
    assert found["mean_iou"] == pytest.approx(1.0)


def test_a_round_holds_the_whole_its_networks_and_its_stages(cohort: Path, bundle: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(
        "import json, sys\n"
        "json.dump({}, open(sys.argv[sys.argv.index('--contours') + 1], 'w'))\n"
        "print(json.dumps({'seconds': 5.0}))\n",
        encoding="utf-8",
    )
    result = measure_speed([cohort], bundle, CONFIG, rounds=2, other=[sys.executable, str(other)])
    assert (result.n_fields, len(result.rounds)) == (2, 2)
    assert result.n_cells > 5
    for entry in result.rounds:
        assert min(entry.whole.wall_s, entry.networks.wall_s) > 0
        assert entry.over_other == 5.0 / entry.whole.wall_s
        assert set(entry.stages) == set(STAGES)
    assert result.agreement is not None
    assert result.agreement["matched_share"] == 0.0
    assert result.setting["precision"] == "f32"
    assert (result.setting["processes"], result.setting["threads"]) == (1, CONFIG.threads)


def test_a_pipeline_that_fails_is_said_in_a_sentence(cohort: Path, bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"ended with 3 .*run it by itself"):
        measure_speed([cohort], bundle, CONFIG, rounds=1, other=[sys.executable, "-c", "raise SystemExit(3)"])


def test_sizes_for_times_alone_change_the_scale_and_the_crop(bundle: Bundle) -> None:
    resized = resized_bundle(bundle, 640, 144.0, 128)
    assert resized.spec.segmenter.um_per_px == pytest.approx(0.225)
    assert resized.spec.crop.size_px == 128
    assert bundle.spec.crop.size_px == 96


@pytest.mark.skipif(sys.platform == "win32", reason="memory of a process is read as POSIX has it")
def test_growth_repeats_images_and_says_memory(cohort: Path) -> None:
    (point,) = measure_growth([cohort], ["--backend", "onnxruntime", "--threads", "1"], [3], 0.12)
    assert point.n_fields == 3
    assert point.wall_s > 0
    assert 50 < point.peak_megabytes < 4000


def test_command_prints_every_round(cohort: Path) -> None:
    words = ["bench", "predict", str(cohort), "--fields", "2", "--rounds", "1", "--backend", "onnxruntime", "--threads"]
    done = CliRunner().invoke(app, [*words, "1", "--image-size", "320", "--crop-size", "96", "--json"])
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    assert values["fields"] == 2
    assert len(values["rounds"]) == 1
    lonely = CliRunner().invoke(app, [*words, "1", "--image-size", "320"])
    assert lonely.exit_code != 0


def test_stages_are_called_as_on_the_page_of_their_times() -> None:
    page = (Path(__file__).parents[2] / "docs" / "performance.md").read_text(encoding="utf-8")
    table = page.split("| stage | default bundle | one Lite0 network |")[1].split("\n\n")[0]
    named = {row.split("|")[1].strip() for row in table.strip().splitlines()[1:]}
    assert named == set(STAGES.values())
