"""Simulated smears with exact ground truth: cells, fields, patients and centers from one seed."""

from marrowscope.simulate.composition import Differential, draw_differential
from marrowscope.simulate.field import CellTruth, SimulatedField, render_field
from marrowscope.simulate.optics import draw_center, draw_patient_style
from marrowscope.simulate.parameters import SimulationConfig, load_parameters
from marrowscope.simulate.writer import simulate_cohort

__all__ = [
    "CellTruth",
    "Differential",
    "SimulatedField",
    "SimulationConfig",
    "draw_center",
    "draw_differential",
    "draw_patient_style",
    "load_parameters",
    "render_field",
    "simulate_cohort",
]
