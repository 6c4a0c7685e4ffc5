"""The study in half a minute: nine patients of six centers, one small field each, a network of 0.1 million weights."""

from __future__ import annotations

from marrowscope.studies.reproduce import Preset
from marrowscope.studies.reproduce.plan import Machine, Rates
from tests.crop_sets import tiny_config

STAGES = tuple(
    {"name": name, "train_on": source, "select_on": "predicted", "epochs": 1, "learning_rate": 3e-3}
    for name, source in (("gt-to-yolo", "expert"), ("yolo-to-yolo", "predicted"))
)
TINY = Preset(
    name="tiny",
    internal=(2, 2, 2),
    external=(1, 1, 1),
    fields=1,
    field_px=(640, 480),
    cells_per_field=(9, 11),
    n_folds=2,
    seed=3,
    classifier=tiny_config(stages=STAGES, checkpoint_every_steps=1, seed=3),
    n_resamples=50,
)
MACHINE = Machine(workers=1, threads=1, device="cpu")
RATES = Rates(simulate_s=2.0, prepare_s=1.0, predict_s=0.5, train_crops_per_s=100.0, cells_per_field=20.0)
