"""The sources of a bundle: counted in the crop sets of its members, and held against the mark of the photographs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars as pl
import pytest

pytest.importorskip("torch")

from marrowscope.bundle import load_bundle
from marrowscope.config import load_config
from marrowscope.errors import InputError
from marrowscope.export import export_bundle
from marrowscope.fit import fit_classifier
from marrowscope.imaging import sha256_file
from marrowscope.train.bundle_card import BundleDescription
from marrowscope.train.source_counts import DescribedSource, count_sources
from marrowscope.train.training_record import read_finished
from tests.crop_sets import tiny_config, write_crop_set
from tests.onnx_graphs import segmenter_graph
from tests.segment.raw_outputs import raw_outputs

if TYPE_CHECKING:
    from pathlib import Path

ROLES = {"p0": "train", "p1": "train", "p2": "train", "p3": "train", "p4": "validation", "p5": "test"}
REAL = DescribedSource(name="marrow", license="CC-BY-4.0", simulated=False, centers=("c0",))
DRAWN = DescribedSource(name="drawn", license="Apache-2.0", simulated=True, centers=("c1",))
BLAST = "BLA{N,M; mainly N; cblc yes; countable yes}"


def mark(crops: Path, *, known: bool = True) -> None:
    """Say of each crop whether its photograph is simulated (center c1), unless the version did not know."""
    is_blast = (pl.col("center") == "c0") & (pl.col("expert_code") == "N")
    label = pl.when(is_blast).then(pl.lit(BLAST)).otherwise(pl.col("expert_code"))
    cells = pl.read_parquet(crops / "cells.parquet").with_columns(label.alias("expert_code"))
    if known:
        cells = cells.with_columns((pl.col("center") == "c1").alias("simulated"))
    cells.write_parquet(crops / "cells.parquet")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a crop set of photographs (c0) and simulated ones (c1), a segmenter, and a training in ``run``."""
    root = tmp_path_factory.mktemp("sources")
    segmenter = root / "segmenter.onnx"
    segmenter.write_bytes(segmenter_graph(*raw_outputs([(60.0, 50.0, 20.0, 20.0, 0.9)], 32, 32), {"um_per_px": "0.3"}))
    write_crop_set(root / "crops")
    mark(root / "crops")
    prepared = {"crop": {"side_um": 9.6, "size_px": 32}, "segmenter_sha256": sha256_file(segmenter)}
    (root / "crops" / "prepare.json").write_text(json.dumps(prepared), encoding="utf-8")
    lines = [f"{name},{role}" for name, role in ROLES.items()]
    (root / "split.csv").write_text("\n".join(["patient_id,role", *lines]) + "\n", encoding="utf-8")
    fit_classifier(root / "crops", root / "run", tiny_config(), split=root / "split.csv")
    return root


def counted(folder: Path, *described: DescribedSource, crops: str = "crops") -> list[tuple[str, bool, dict[str, int]]]:
    run = folder / "run"
    found = count_sources(described, [(run, read_finished(run))], folder / crops, "CC0-1.0")
    return [(source.name, source.simulated, source.n_cells) for source in found]


EACH = {"N": 4, "N5": 4, "R1": 4, "L": 4, "V": 4}
"""Two training patients a center, ten cells each, five codes."""


def test_training_cells_are_counted_once_by_source_and_label(folder: Path) -> None:
    of_c0 = {BLAST if code == "N" else code: n for code, n in EACH.items()}
    assert counted(folder, REAL, DRAWN) == [("marrow", False, of_c0), ("drawn", True, EACH)]
    assert counted(folder) == [("cells of photographs", False, of_c0), ("simulated cells", True, EACH)]


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ([REAL], r"found center c1 in no source, expected each of c0, c1 in one source"),
        ([REAL, DRAWN, REAL], r"found center c0 twice"),
        ([REAL, DRAWN.model_copy(update={"centers": ("c1", "c9")})], r"found center c9 without a training cell"),
        (
            [REAL, DRAWN.model_copy(update={"simulated": False})],
            r"sources, drawn: found 20 cells of photographs that are simulated, expected none beside simulated = false",
        ),
        (
            [REAL.model_copy(update={"simulated": True}), DRAWN],
            r"sources, marrow: found 20 cells of photographs that are not simulated",
        ),
    ],
)
def test_a_statement_that_does_not_fit_the_cells_is_refused(
    folder: Path, described: list[DescribedSource], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        counted(folder, *described)


def test_a_bundle_states_its_sources_and_its_card_what_only_simulated_cells_taught(
    folder: Path, tmp_path: Path
) -> None:
    described = tmp_path / "described.toml"
    described.write_text(
        "".join(
            f'[[sources]]\nname = "{source.name}"\nlicense = "{source.license}"\n'
            f'simulated = {str(source.simulated).lower()}\ncenters = ["{source.centers[0]}"]\n'
            for source in (REAL, DRAWN)
        ),
        encoding="utf-8",
    )
    description = load_config(BundleDescription, described)
    export_bundle([folder / "run"], folder / "segmenter.onnx", tmp_path / "bundle", description=description)
    bundle = load_bundle(tmp_path / "bundle")
    assert [source.name for source in bundle.spec.sources] == ["marrow", "drawn"]
    assert bundle.learned is not None
    assert bundle.learned.simulated_only == ()
    assert bundle.learned.blasts_not_learned(None) == ("M", "M1", "J")
    card = (tmp_path / "bundle" / "CARD.md").read_text(encoding="utf-8")
    assert "| drawn | Apache-2.0 | yes | L 4, N 4, N5 4, R1 4, V 4 |" in card
    assert "No blast estimate is printed for real photographs: M, M1, J had no real cells." in card


def test_without_the_mark_nothing_is_assumed_and_a_persons_word_counts(folder: Path, tmp_path: Path) -> None:
    write_crop_set(tmp_path / "crops")
    mark(tmp_path / "crops", known=False)
    (tmp_path / "crops" / "prepare.json").write_bytes((folder / "crops" / "prepare.json").read_bytes())
    fit_classifier(tmp_path / "crops", tmp_path / "run", tiny_config(), split=folder / "split.csv")
    assert counted(tmp_path) == []
    assert [name for name, _, _ in counted(tmp_path, REAL, DRAWN)] == ["marrow", "drawn"]
    (tmp_path / "crops").rename(tmp_path / "moved")
    assert counted(tmp_path) == []
    with pytest.raises(InputError, match=r"crops: found no crop set of each member, .* pass its current folder with"):
        counted(tmp_path, REAL, DRAWN)
    assert [name for name, _, _ in counted(tmp_path, REAL, DRAWN, crops="moved")] == ["marrow", "drawn"]
