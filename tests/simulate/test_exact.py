"""The exact morphology of a drawn cell, on figures whose values are known in closed form."""

import math

import numpy as np
import polars as pl
import pytest

from marrowscope.cells.morphology import MORPHOLOGY_COLUMNS
from marrowscope.simulate.exact import ExactMorphology, exact_morphology
from marrowscope.simulate.frame import Brush, CellPlan, make_frame
from marrowscope.simulate.nucleus import Nucleus
from marrowscope.simulate.optics import draw_center, draw_patient_style
from marrowscope.simulate.parameters import SimulationConfig, load_parameters
from marrowscope.simulate.shapes import ANGLES
from marrowscope.simulate.texture import Floats
from marrowscope.simulate.writer import simulate_cohort

UM_PER_PX = 0.15
CYTOPLASM_OD, NUCLEUS_OD = np.array([0.3, 0.2, 0.1]), np.array([0.5, 0.7, 0.3])


def brush_of(outline: Floats) -> Brush:
    parameters = load_parameters()
    rng = np.random.default_rng(0)
    style = draw_patient_style(rng, draw_center(rng, "S1", parameters), parameters)
    plan = CellPlan("N", (0.0, 0.0), outline, 0.5)
    return Brush(rng, parameters.morphology.code["N"], plan, make_frame(plan, 1.0), UM_PER_PX, style, parameters)


def draw(outline: Floats, depth_px: Floats, ripple: float = 0.0) -> ExactMorphology:
    """Measure a cell of even density with the nucleus where ``depth_px`` (h, w) is positive."""
    brush = brush_of(outline)
    mask = (np.clip(depth_px / 1.2 + 0.5, 0.0, 1.0) * brush.frame.cover)[..., None]
    density = math.log(10) * (mask * NUCLEUS_OD + (brush.frame.cover[..., None] - mask) * CYTOPLASM_OD)
    checks = ripple * (np.indices(depth_px.shape).sum(axis=0) % 2 * 2.0 - 1.0)
    density = density + math.log(10) * checks[..., None]
    nucleus = Nucleus(mask[..., 0].astype(np.float32), (depth_px * UM_PER_PX).astype(np.float32), (0.0, 0.0))
    granules = np.full(density.shape, 0.01 * math.log(10))
    return exact_morphology(brush, nucleus, density, granules, 1.0 + checks)


def test_round_cell_with_a_round_nucleus() -> None:
    outline = np.full(ANGLES.size, 50.0)
    exact = draw(outline, 30.0 - brush_of(outline).frame.distance)
    assert exact.perimeter_um == pytest.approx(2 * math.pi * 50 * UM_PER_PX, rel=0.001)
    assert exact.solidity == pytest.approx(1.0)
    assert exact.elongation == pytest.approx(0.0, abs=1e-3)
    assert exact.nucleus_circularity == pytest.approx(1.0, abs=0.03)
    assert exact.nucleus_elongation == pytest.approx(0.0, abs=0.01)
    assert exact.nucleus_solidity == pytest.approx(1.0, abs=0.02)
    assert exact.nucleus_width_um == pytest.approx(60 * UM_PER_PX, rel=0.02)
    assert exact.nucleus_od == pytest.approx(0.5, abs=0.01)
    assert exact.cytoplasm_od == pytest.approx(0.2, abs=0.01)
    assert exact.cytoplasm_basophilia == pytest.approx(0.2, abs=0.01)
    assert exact.cytoplasm_eosinophilia == pytest.approx(-0.1, abs=0.01)
    assert exact.granularity < 0.01
    assert exact.chromatin_texture < 0.01
    assert exact.granule_load == pytest.approx(0.01)


def test_ellipses_and_two_lobes() -> None:
    outline = 40.0 * 60.0 / np.hypot(40.0 * np.cos(ANGLES), 60.0 * np.sin(ANGLES))
    frame = brush_of(outline).frame
    exact = draw(outline, 14.0 - np.hypot(np.abs(frame.dx) - 26.0, frame.dy))
    assert exact.elongation == pytest.approx(1.0 - 40.0 / 60.0, abs=0.005)
    assert exact.nucleus_solidity == pytest.approx(2 * math.pi * 14**2 / (math.pi * 14**2 + 28 * 52), rel=0.02)
    assert exact.nucleus_circularity == pytest.approx(0.5, abs=0.03)
    assert exact.nucleus_width_um == pytest.approx(28 * UM_PER_PX, rel=0.04)


def test_texture_is_that_of_its_part_and_not_of_its_border() -> None:
    outline = np.full(ANGLES.size, 50.0)
    depth = 30.0 - brush_of(outline).frame.distance
    exact = draw(outline, depth, ripple=0.05)
    assert exact.granularity == pytest.approx(0.05, rel=0.1)
    assert exact.chromatin_texture == pytest.approx(0.05, rel=0.1)
    assert exact.chromatin_contrast == pytest.approx(0.05, rel=0.1)


def test_a_bare_nucleus_has_no_cytoplasm() -> None:
    outline = np.full(ANGLES.size, 30.0)
    exact = draw(outline, np.full_like(brush_of(outline).frame.distance, 40.0))
    assert math.isnan(exact.cytoplasm_od)
    assert math.isnan(exact.granularity)
    assert exact.nucleus_od == pytest.approx(0.5, abs=0.01)


def test_the_table_of_truth_has_every_measured_column(tmp_path_factory: pytest.TempPathFactory) -> None:
    out = tmp_path_factory.mktemp("truth") / "cohort"
    simulate_cohort(
        out, SimulationConfig(patients=1, centers=1, fields=1, cells_per_field=(5, 5), width_px=400, height_px=300)
    )
    truth = pl.read_parquet(out / "truth_cells.parquet")
    assert set(MORPHOLOGY_COLUMNS) - {"nucleus_area_ratio"} < set(truth.columns)  # that one is called nc
    assert not any(truth[name].is_nan().any() for name in MORPHOLOGY_COLUMNS if name in truth.columns)
    assert (truth["nucleus_width_um"] ** 2 * math.pi / 4 <= truth["nucleus_area_um2"] * 1.02).all()
    assert (truth["perimeter_um"] >= truth["diameter_um"] * math.pi * 0.999).all()
