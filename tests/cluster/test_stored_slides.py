"""A slide in a store: fetched to this disk, predicted by regions as a local one, and its copy goes in any case."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from typer.testing import CliRunner

from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cli.main import app
from marrowscope.cluster.mirror import Mirror
from marrowscope.predict import PredictConfig, Prediction, predict
from marrowscope.slides import SlideCache
from marrowscope.streaming.worker import Worker
from tests.slides.pyramids import scanner, smear, write_pyramid

if TYPE_CHECKING:
    from tests.stores import Bucket

UM_PER_PX = 0.25
CONFIG = PredictConfig(backend="onnxruntime", threads=1, morphology=False)
pytestmark = pytest.mark.usefixtures("scratch")

OPTIONS = ("--bundle", "demo", "--backend", "onnxruntime", "--threads", "1", "--no-morphology", "--no-report")
TABLES = ("fields", "cells", "patients", "regions")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory, bucket: Bucket) -> Path:
    """One patient with a tiled slide in levels; the same in the store."""
    folder = tmp_path_factory.mktemp("slides") / "archive"
    (folder / "P1").mkdir(parents=True)
    write_pyramid(folder / "P1" / "slide.tif", smear(2, scanner(2, UM_PER_PX), 70, 1500, 1000), UM_PER_PX)
    bucket.put_folder(folder, "archive")
    return folder


@pytest.fixture(scope="module")
def whole(slides: Path) -> Prediction:
    return predict([slides], demonstration_bundle(), slides.parent / "whole", config=CONFIG)


def call(*words: str) -> Any:  # noqa: ANN401  a result of typer
    return CliRunner().invoke(app, list(words))


def assert_the_run_of_the_local_slide(found: Path, whole: Prediction, slides: Path) -> None:
    """Compare every table to the byte, once the address stands where the path of the local file would."""
    for name in TABLES:
        if name in {"cells", "patients"}:
            assert (found / f"{name}.parquet").read_bytes() == (whole.folder / f"{name}.parquet").read_bytes(), name
            continue
        table = pl.read_parquet(found / f"{name}.parquet")
        assert set(table["path"]) == {"s3://smears/archive/P1/slide.tif"}
        back = pl.col("path").str.replace("s3://smears/archive", str(slides), literal=True)
        assert table.with_columns(back).equals(pl.read_parquet(whole.folder / f"{name}.parquet"), null_equal=True), name
    for path in found.iterdir():
        assert b"marrowscope-store-" not in path.read_bytes(), path


def test_a_slide_from_a_store_gives_the_tables_of_the_local_file(
    slides: Path, whole: Prediction, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All regions are read from one copy below the temporary folder, of the size of the object."""
    read, places = SlideCache.slide, set[tuple[Path, int]]()

    def watched(self: SlideCache, path: Path) -> Any:  # noqa: ANN401
        places.add((path, path.stat().st_size))
        return read(self, path)

    monkeypatch.setattr(SlideCache, "slide", watched)
    result = call("predict", "s3://smears/archive", "--out", str(tmp_path / "run"), *OPTIONS)
    assert result.exit_code == 0, result.output
    ((path, size),) = places
    assert path.is_relative_to(scratch)
    assert size == (slides / "P1" / "slide.tif").stat().st_size
    assert whole.fields.height == 6
    assert whole.fields["region_x_px"].null_count() == 0
    assert_the_run_of_the_local_slide(tmp_path / "run", whole, slides)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_the_copy_of_a_slide_goes_after_a_failure_and_the_same_call_goes_on(
    slides: Path, whole: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """The folder ``scratch`` is empty after each call."""
    find, found = Worker._find_field, list[str]()

    def failing(self: Worker, item: Any) -> Any:  # noqa: ANN401
        found.append(item.field_id)
        if len(found) == 4:
            assert item.path.is_relative_to(tempfile.gettempdir())
            raise failure
        return find(self, item)

    words = ("predict", "s3://smears/archive", "--out", str(tmp_path / "run"), *OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "_find_field", failing)
        result = call(*words)
    assert isinstance(result.exception, SystemExit | type(failure)), result.output
    assert result.exit_code != 0
    assert not (tmp_path / "run").exists()
    assert list(Path(tempfile.gettempdir()).iterdir()) == []
    result = call(*words)
    assert result.exit_code == 0, result.output
    assert "Continued an interrupted prediction" in result.output
    assert_the_run_of_the_local_slide(tmp_path / "run", whole, slides)


def test_a_slide_that_is_gone_when_it_is_fetched_is_a_field_that_says_so(
    slides: Path, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_folder(slides, "going")
    fetched = Mirror.fetched

    def remove_first(self: Mirror, inputs: Any) -> Any:  # noqa: ANN401
        bucket.remove("going/P1/slide.tif")
        return fetched(self, inputs)

    monkeypatch.setattr(Mirror, "fetched", remove_first)
    result = call("predict", "s3://smears/going", "--out", str(tmp_path / "run"), *OPTIONS)
    assert result.exit_code == 1, result.output
    (error,) = pl.read_parquet(tmp_path / "run" / "fields.parquet")["error"]
    assert error == (
        "s3://smears/going/P1/slide.tif: found no object any more, expected the one that was listed; put it back and "
        "call again"
    )
