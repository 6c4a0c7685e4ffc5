"""A crop set whose patients are clusters of stain: what a split by patient then holds out is a way of staining.

    python benchmarks/stain_clusters.py CROPS --out CLUSTERED [--clusters 4] [--seed 0]

For packs of single-cell tiles, whose "patients" mix smears and so cannot be told apart by their stain. The cells are
clustered (k-means) by the optical density of their background and of their nucleus, the latter less the mean of its
code, so that a cluster is not a cell type. The new crop set has the same crops; its patients are named after their
cluster, and every cell counts as an image of its own. Beside it, ``split-<k>.csv`` makes cluster k the test patients
and the others training patients. Prints each cluster's distance from the rest and its cells by code.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from scipy.cluster.vq import kmeans2

from marrowscope.train.crop_set import CELLS_NAME, CROPS_NAME, MASKS_NAME, SUMMARY_NAME, open_crop_set
from marrowscope.train.stain import measure_stain
from marrowscope.vocabulary import load_vocabulary

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STARTS = 10


def stain_features(background: NDArray[np.float64], nucleus: NDArray[np.float64], codes: pl.Series) -> pl.DataFrame:
    """Return six standardized columns: background density, and nucleus density less the mean of its code."""
    names = ("red", "green", "blue")
    table = pl.DataFrame(
        {f"background_{name}": background[:, k] for k, name in enumerate(names)}
        | {f"nucleus_{name}": nucleus[:, k] for k, name in enumerate(names)}
    ).with_columns(codes.alias("code"))
    table = table.with_columns(pl.col("^nucleus_.*$") - pl.col("^nucleus_.*$").mean().over("code")).drop("code")
    return table.select((pl.all() - pl.all().mean()) / pl.all().std())


def cluster(features: NDArray[np.float64], n_clusters: int, seed: int) -> NDArray[np.int64]:
    """Assign each row a cluster: the tightest of ten k-means from k-means++ starts; numbered by size, largest first."""
    best: tuple[float, NDArray[np.int64]] | None = None
    for start in range(_STARTS):
        centers, found = kmeans2(features, n_clusters, minit="++", rng=np.random.default_rng((seed, start)))
        spread = float(((features - centers[found]) ** 2).sum())
        if best is None or spread < best[0]:
            best = spread, found.astype(np.int64)
    assert best is not None  # noqa: S101  ten starts
    order = np.argsort(-np.bincount(best[1], minlength=n_clusters), kind="stable")
    return np.argsort(order)[best[1]]


def main() -> None:
    """Parse the command line, write the crop set and its splits, and print the clusters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crops", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clusters", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    crop_set = open_crop_set(given.crops, load_vocabulary())
    if crop_set.masks is None:
        message = f"{given.crops}: found no masks, expected them; make the crop set again"
        raise SystemExit(message)
    cells = crop_set.cells.with_columns(pl.col("cell_id").str.replace(r"/(expert|predicted)$", "").alias("key"))
    expert = np.flatnonzero((cells["source"] == "expert").to_numpy())
    measured = [measure_stain(crop_set.crops[row], crop_set.masks[row]) for row in expert]
    background, nucleus = (np.stack(values) for values in zip(*measured, strict=True))
    features = stain_features(background, nucleus, cells["expert_code"].gather(expert)).to_numpy()
    found = cluster(features, given.clusters, given.seed)
    of_cell = pl.DataFrame({"key": cells["key"].gather(expert), "cluster": found})
    cells = cells.join(of_cell, on="key", how="left", maintain_order="left").with_columns(
        pl.format("stain{}-{}", "cluster", "patient_id").alias("patient_id"),
        pl.col("key").map_elements(lambda key: hashlib.sha256(key.encode()).hexdigest()).alias("image_sha256"),
    )
    given.out.mkdir(parents=True, exist_ok=True)
    for name in (CROPS_NAME, MASKS_NAME, SUMMARY_NAME):
        shutil.copyfile(given.crops / name, given.out / name)
    cells.drop("key", "cluster", "image_dhash", strict=False).write_parquet(given.out / CELLS_NAME)
    patients = cells["patient_id"].unique().sort().to_list()
    for k in range(given.clusters):
        lines = [f"{patient},{'test' if patient.startswith(f'stain{k}-') else 'train'}" for patient in patients]
        (given.out / f"split-{k}.csv").write_text("\n".join(["patient_id,role", *lines]) + "\n", encoding="utf-8")
        inside = found == k
        distance = float(np.linalg.norm(features[inside].mean(axis=0) - features[~inside].mean(axis=0)))
        codes = cells["expert_code"].gather(expert[inside]).value_counts(sort=True)
        counts = ", ".join(f"{code} {n}" for code, n in codes.iter_rows())
        print(f"stain{k}: {inside.sum()} cells, distance from the others {distance:.2f}; {counts}")


if __name__ == "__main__":
    main()
