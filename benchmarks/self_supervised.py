"""Initial weights learned from crops without labels: VICReg on two views of each crop.

    python benchmarks/self_supervised.py CROPS OUT.safetensors --split SPLIT [--start scratch|lite0] [--crops-seen N]
    marrowscope train classifier CROPS --split SPLIT --init OUT.safetensors --config ROWS/full.toml --out OUT/selfsup

Both views use the training's own augmentation, with wider shift and scale: what must stay the same is the cell, not its
stain, its sharpness or its position. Only crops of the training and validation patients, expert and predicted contours;
no class is read. The objective is VICReg (Bardes, Ponce and LeCun, ICLR 2022): variance, invariance and covariance with
weights 25, 25 and 1, which works with CPU-sized batches. It is written here, in 15 lines, because the libraries that
provide it bring their own training framework. The projector is dropped; the file contains the trunk.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from marrowscope.cohort.folds import read_split
from marrowscope.train.checkpoint import save_tensors
from marrowscope.train.config import AugmentConfig
from marrowscope.train.crop_set import open_crop_set
from marrowscope.train.initial_weights import load_initial_weights
from marrowscope.train.loader import training_crops
from marrowscope.train.model import IMAGENET_MEAN, IMAGENET_STD, new_classifier
from marrowscope.vocabulary import load_vocabulary

VIEWS = AugmentConfig(shift_px=8, scale=0.15, stain=0.25, stain_mix=0.1, brightness=0.12, blur_chance=0.3)
BATCH = 128
PROJECTION = 512
_SAY_EVERY = 20


def vicreg(first: Tensor, second: Tensor) -> Tensor:
    """Loss of the projections (n, d) of two views: alike within a pair, spread and uncorrelated over the batch."""
    invariance = functional.mse_loss(first, second)
    spread, correlated = first.new_zeros(()), first.new_zeros(())
    for view in (first, second):
        spread = spread + functional.relu(1 - torch.sqrt(view.var(dim=0) + 1e-4)).mean() / 2
        centered = view - view.mean(dim=0)
        covariance = centered.T @ centered / (len(view) - 1)
        correlated = correlated + (covariance.square().sum() - covariance.diagonal().square().sum()) / view.shape[1]
    return 25 * invariance + 25 * spread + correlated


def normalized(crops: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> Tensor:
    """Convert crops (n, s, s, 3) uint8 to (n, 3, s, s) float32, normalized as for a file of initial weights."""
    values = torch.from_numpy(crops).permute(0, 3, 1, 2).to(memory_format=torch.channels_last).float() / 255
    return (values - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]


def main() -> None:
    """Parse the command line, train, and write the trunk."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--start", choices=("scratch", "lite0"), default="scratch")
    parser.add_argument("--crops-seen", type=int, default=25_600)
    parser.add_argument("--size-px", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    vocabulary = load_vocabulary()
    crop_set = open_crop_set(given.crops, vocabulary)
    patients = [patient for patient, role in read_split(given.split).items() if role != "test"]
    rows = np.flatnonzero(crop_set.cells["patient_id"].is_in(patients).to_numpy())

    model = new_classifier("efficientnet_b0", len(vocabulary.categories), 0.0, seed=1)
    source = load_initial_weights(model, "efficientnet_b0", given.start).source
    trunk = model.trunk.to(memory_format=torch.channels_last).train()
    projector = nn.Sequential(
        nn.Linear(trunk.num_features, PROJECTION),
        nn.BatchNorm1d(PROJECTION),
        nn.ReLU(),
        nn.Linear(PROJECTION, PROJECTION),
    )
    optimizer = torch.optim.AdamW([*trunk.parameters(), *projector.parameters()], lr=given.learning_rate)
    steps = given.crops_seen // BATCH
    plan = torch.optim.lr_scheduler.OneCycleLR(optimizer, given.learning_rate, total_steps=steps)
    random, started = np.random.default_rng(1), time.monotonic()
    for step in range(steps):
        drawn = random.choice(rows, BATCH, replace=False)
        views = [training_crops(crop_set, drawn, given.size_px, VIEWS, (1, view, step))[0] for view in (0, 1)]
        first, second = projector(trunk(normalized(np.concatenate(views)))).chunk(2)
        loss = vicreg(first, second)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        plan.step()
        if step % _SAY_EVERY == 0 or step == steps - 1:
            pace = 2 * BATCH * (step + 1) / (time.monotonic() - started)
            print(f"step {step + 1}/{steps}: loss {loss.item():.3f}, {pace:.0f} views/s", flush=True)
    about = {"source": f"VICReg on {steps * BATCH} crops without labels, from {source}"}
    save_tensors(given.out, dict(trunk.state_dict()), about)


if __name__ == "__main__":
    main()
