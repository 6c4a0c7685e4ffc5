"""marrowscope: from photographs of a bone marrow smear to a patient's CBLC ratio, with every cell open to inspection.

For research use: it supports a qualified person, it does not diagnose.

The names in ``__all__`` are the Python interface, the same functions that the command line calls. Each is loaded on
first use, so that ``import marrowscope`` stays fast.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marrowscope.bundle import load_bundle
    from marrowscope.cluster.merge import merge as merge_shards
    from marrowscope.cohort import read_cohort
    from marrowscope.errors import InputError, MarrowscopeError
    from marrowscope.evaluate import evaluate_run
    from marrowscope.export import export_bundle
    from marrowscope.fit import fit_classifier
    from marrowscope.predict import predict as predict_images
    from marrowscope.prepare import prepare_crops
    from marrowscope.report import write_report
    from marrowscope.simulate import SimulationConfig, simulate_cohort
    from marrowscope.streaming.config import PredictConfig
    from marrowscope.studies.crossfit import fit_folds, join_folds
    from marrowscope.studies.error_rates import quantify_bundle
    from marrowscope.vocabulary import load_mapping, load_vocabulary

__version__ = "0.1.0"

# Telemetry of libraries is switched off before any of them is imported (docs/security.md). A value set by the user is
# kept.
for _name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED", "HF_HUB_DISABLE_TELEMETRY", "YOLO_OFFLINE"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# A function with its module's name has another name here: the module takes the name as soon as it is loaded.
_HOMES = {
    "InputError": "errors",
    "MarrowscopeError": "errors",
    "PredictConfig": "streaming.config",
    "SimulationConfig": "simulate",
    "evaluate_run": "evaluate",
    "export_bundle": "export",
    "fit_classifier": "fit",
    "fit_folds": "studies.crossfit",
    "join_folds": "studies.crossfit",
    "load_bundle": "bundle",
    "load_mapping": "vocabulary",
    "load_vocabulary": "vocabulary",
    "merge_shards": "cluster.merge:merge",
    "predict_images": "predict:predict",
    "quantify_bundle": "studies.error_rates",
    "prepare_crops": "prepare",
    "read_cohort": "cohort",
    "simulate_cohort": "simulate",
    "write_report": "report",
}

__all__ = [
    "InputError",
    "MarrowscopeError",
    "PredictConfig",
    "SimulationConfig",
    "__version__",
    "evaluate_run",
    "export_bundle",
    "fit_classifier",
    "fit_folds",
    "join_folds",
    "load_bundle",
    "load_mapping",
    "load_vocabulary",
    "merge_shards",
    "predict_images",
    "prepare_crops",
    "quantify_bundle",
    "read_cohort",
    "simulate_cohort",
    "write_report",
]


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name not in _HOMES:
        message = f"module 'marrowscope' has no attribute {name!r}"
        raise AttributeError(message)
    module, _, original = _HOMES[name].partition(":")
    value = getattr(import_module(f"marrowscope.{module}"), original or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
