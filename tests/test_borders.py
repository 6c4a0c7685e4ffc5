"""Each record that is read from disk, with every key in turn absent and of a wrong type: refused in one sentence.

A key may be absent where the record has a default for it. Nothing but our own errors is raised, each of one line. What
a reader checks beyond that stands with its own tests, and its configuration files with tests/test_config.py.
"""

from __future__ import annotations

import copy
import json
import math
import tomllib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from marrowscope.bundle import load_bundle, write_bundle
from marrowscope.bundle.description import SPEC_NAME
from marrowscope.bundle.spec_file import description_text, read_description
from marrowscope.bundle.toml_writer import to_toml
from marrowscope.cohort.annotations import AnnotatedImage, AnnotationFile, AnnotationFormat
from marrowscope.cohort.folds import read_folds, read_split
from marrowscope.cohort.formats import annotation_formats, read_annotations
from marrowscope.cohort.patients import read_patients
from marrowscope.disk import MARKER_NAME, mark_folder, read_marker
from marrowscope.errors import MarrowscopeError, RunError
from marrowscope.evaluate import write_evaluation
from marrowscope.evaluate.document import read_document
from marrowscope.evaluate.frames import WRITTEN_TABLES
from marrowscope.evaluate.written_tables import read_tables
from marrowscope.imaging import sha256_file
from marrowscope.patient.quantify.quantification import QUANTIFICATION_FILE, Quantification
from marrowscope.records import Annotation
from marrowscope.review.audit import FrameCell, draw_audit
from marrowscope.review.events import GENESIS, Draft, Head, chained
from marrowscope.review.fold import fold
from marrowscope.runs.manifest import MANIFEST_NAME, read_manifest
from marrowscope.runs.parquet import read_table
from marrowscope.runs.parts import RunParts
from marrowscope.runs.schemas import ROWS, required_columns
from marrowscope.runs.shard_record import (
    SHARD_NAME,
    ShardFile,
    ShardPatient,
    ShardRecord,
    read_shard_record,
    write_shard_record,
)
from marrowscope.statistics.temperature import CALIBRATION_NAME, Calibration, HeadCalibration
from marrowscope.studies.reproduce.journal import Journal
from marrowscope.train.config import HEADS
from marrowscope.train.crop_set import open_crop_set
from marrowscope.train.crossfit_record import CROSSFIT_NAME
from marrowscope.train.training_record import EpochRow
from marrowscope.vocabulary import (
    DEFAULT_REFERENCE_RANGES,
    DEFAULT_VOCABULARY,
    MAPPINGS_DIR,
    load_mapping,
    load_reference_ranges,
    load_vocabulary,
)
from tests.bundles import make_bundle, make_full_spec
from tests.crop_sets import tiny_config, write_crop_set
from tests.evaluate.test_scores import expert, make_evaluation, score
from tests.patient.quantify.patients import N5, N, make_rates
from tests.patient.test_assess import THRESHOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from pathlib import Path

    from marrowscope.runs.schemas import TableKind
    from tests.fake_runs import FakeRun

Keys = tuple[str | int, ...]
WRONG: tuple[Any, ...] = ([[]], {"a": {}}, "no such thing", math.nan, -1.5)
"""One of them is of a wrong type for any key."""


def places(document: Any, keys: Keys = ()) -> Iterator[Keys]:  # noqa: ANN401 - whatever JSON holds
    """Give where every value of a document lies; of a list, the first two."""
    items: list[tuple[str | int, Any]] = []
    if isinstance(document, dict):
        items = list(document.items())
    elif isinstance(document, list):
        items = list(enumerate(document[:2]))
    for key, value in items:
        yield (*keys, key)
        yield from places(value, (*keys, key))


def changed(document: Any, keys: Keys, value: object = ...) -> Any:  # noqa: ANN401 - whatever JSON holds
    """Give a copy with another value at a place, or without it."""
    other = copy.deepcopy(document)
    place = other
    for key in keys[:-1]:
        place = place[key]
    if value is ...:
        del place[keys[-1]]
    else:
        place[keys[-1]] = value
    return other


def outcome(read: Callable[[Any], object], document: Any) -> str:  # noqa: ANN401 - whatever JSON holds
    """Read; gives "read", "refused", or what is wrong about the way it was refused."""
    try:
        read(document)
    except MarrowscopeError as error:
        text = str(error)
        return "refused" if "\n" not in text and len(text) < 2000 else f"not one sentence: {text[:200]}"
    except Exception as error:  # noqa: BLE001 - any other is what we look for
        return f"{type(error).__name__}: {error}"[:200]
    return "read"


def faults_of(document: Any, read: Callable[[Any], object], free: Collection[str] = ()) -> list[str]:  # noqa: ANN401
    """Say where a document with a key absent or of a wrong type is not read or refused as it should be.

    ``free`` are the keys below which anything may stand.
    """
    assert outcome(read, document) == "read"
    found = []
    for keys in (keys for keys in places(document) if not set(keys) & set(free)):
        name = ".".join(map(str, keys))
        outcomes = {str(value): outcome(read, changed(document, keys, value)) for value in WRONG}
        if "refused" not in outcomes.values():
            found.append(f"{name} takes anything")
        outcomes["absent"] = outcome(read, changed(document, keys))
        found += [f"{name} = {value}: {what}" for value, what in outcomes.items() if what not in {"read", "refused"}]
    return found + [f"{value} is {what}" for value in (*WRONG, None) if (what := outcome(read, value)) != "refused"]


def json_faults(path: Path, read: Callable[[], object], free: Collection[str] = ()) -> list[str]:
    """Say what is wrong with the way the JSON file ``path``, which is as it should be, is read."""

    def written(document: Any) -> object:  # noqa: ANN401 - whatever JSON holds
        path.write_text(json.dumps(document), encoding="utf-8")
        return read()

    def raw(data: bytes) -> object:
        path.write_bytes(data)
        return read()

    found = faults_of(json.loads(path.read_text(encoding="utf-8")), written, free)
    return found + [f"{data!r} is {what}" for data in (b"", b"{", b"\xff") if (what := outcome(raw, data)) != "refused"]


def toml_faults(path: Path, text: str, read: Callable[[], object]) -> list[str]:
    """Say what is wrong with the way the TOML file ``path`` is read, whose right content is ``text``."""

    def written(document: Any) -> object:  # noqa: ANN401 - whatever TOML holds
        try:
            path.write_text(to_toml(document) if isinstance(document, dict) else str(document), encoding="utf-8")
        except (TypeError, ValueError):
            message = "no TOML can be written of it"
            raise MarrowscopeError(message) from None
        return read()

    return faults_of(tomllib.loads(text), written)


def table_faults(
    path: Path, read: Callable[[], object], needed: Collection[str], metadata: dict[str, str] | None = None
) -> list[str]:
    """Say what is wrong with the way the Parquet table ``path``, which is as it should be, is read."""
    table = pl.read_parquet(path)
    found = []
    for name in table.columns:
        # A list of words is of a wrong type in any column.
        others = {
            "absent": table.drop(name),
            "words": table.with_columns(pl.Series(name, [[["a"]]] * len(table))),
            "a wrong type": table.with_columns(pl.lit(0.5 if table[name].dtype == pl.String() else "word").alias(name)),
        }
        for what, other in others.items():
            other.write_parquet(path, metadata=metadata)
            seen = outcome(lambda _: read(), None)
            wanted = {"refused"} if what != "absent" or name in needed else {"read", "refused"}
            if seen not in wanted:
                found.append(f"{name} {what}: {seen}")
    for data in (b"", b"PAR1", b"no table"):
        path.write_bytes(data)
        if (seen := outcome(lambda _: read(), None)) != "refused":
            found.append(f"{data!r}: {seen}")
    return found


def test_bundle_toml(tmp_path: Path) -> None:
    path = tmp_path / "bundle.toml"
    text = description_text(make_full_spec())
    assert toml_faults(path, text, lambda: read_description(path.read_bytes(), path)) == []


def test_quantification_json(tmp_path: Path) -> None:
    rates = make_rates({N: 0.9, N5: 0.05})
    found = Quantification(source="a test", rates=rates, threshold=THRESHOLD)
    small = make_bundle(tmp_path / "small")
    files = {name: small.folder / name for name in small.spec.files} | {QUANTIFICATION_FILE: found.as_json()}
    bundle = write_bundle(tmp_path / "bundle", small.spec, files)
    path = bundle.folder / QUANTIFICATION_FILE

    def read() -> object:
        """Read it as a file whose hash is right."""
        hashed = bundle.spec.model_copy(update={"files": bundle.spec.files | {path.name: sha256_file(path)}})
        (bundle.folder / SPEC_NAME).write_text(description_text(hashed), encoding="utf-8")
        return load_bundle(bundle.folder, verify=False)

    assert json_faults(path, read) == []


def test_calibration_json(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from marrowscope.train.ensemble import find_members

    head = HeadCalibration(
        temperature=1.5,
        n_cells=9,
        n_left_out=0,
        nested_temperatures={"0": 1.5},
        nll_before=0.5,
        nll_after=None,
        ece_before=0.1,
        ece_after=0.1,
    )
    calibration = Calibration(source="expert", n_patients=2, members={"fold-0": "ab"}, heads={"cblc": head})
    (tmp_path / CROSSFIT_NAME).write_text("{}", encoding="utf-8")
    path = tmp_path / CALIBRATION_NAME
    path.write_text(calibration.model_dump_json(), encoding="utf-8")
    assert json_faults(path, lambda: find_members([tmp_path], calibrate=True)) == []


def test_manifest_json(fake_run: Callable[..., FakeRun]) -> None:
    run = fake_run().folder
    assert json_faults(run / MANIFEST_NAME, lambda: read_manifest(run), free=("config",)) == []


def test_shard_json(tmp_path: Path) -> None:
    patient = ShardPatient(
        patient_id="P1", center="A", diagnosis="AML", specimen="marrow", age_group=None, um_per_px=0.1, extra={"a": "b"}
    )
    copy_of = ShardFile(field_id="P1/a", patient_id="P1", path="P1/a.jpg", is_predicted=True)
    record = ShardRecord(
        index=1,
        of=2,
        inputs_sha256="ab",
        processor="x86",
        patients=(patient,),
        fingerprints={"P1/a": "0f"},
        input_faults=("a fault",),
        left_out_of_input=0,
        faults=("another",),
        copies=((copy_of, copy_of),),
    )
    write_shard_record(tmp_path, record)
    assert json_faults(tmp_path / SHARD_NAME, lambda: read_shard_record(tmp_path)) == []


def test_the_event_of_a_drawn_audit() -> None:
    cells = [FrameCell(f"c{i}", called_cblc=i % 2 == 0, called_countable=i < 9, p_cblc=0.5) for i in range(12)]
    audit = draw_audit([*cells, replace(cells[0], cell_id="r", reviewed=True)], "seed", (5, 10))
    value = {"audit": audit.model_dump(mode="json"), "fields": ["P1/a"], "named": {"r": None}}

    def read(new: object) -> object:
        draft = Draft("reader", "P1", "audit_drawn", new=new)
        return fold("P1", [], [chained(draft, Head(0, GENESIS), "2026-01-01T00:00:00.000Z")])

    assert faults_of(value, read) == []
    no_look = changed(changed(value, ("audit", "sizes"), []), ("audit", "strata", 0, "n_by_look"), [])
    assert outcome(read, no_look) == "refused"


def test_metrics_json_and_the_tables_beside_it(tmp_path: Path) -> None:
    write_evaluation(make_evaluation(score([expert("N", "N"), expert("N5", None)])), tmp_path)
    for name, columns in WRITTEN_TABLES.items():
        whole = (tmp_path / name).read_bytes()
        lines = whole.decode().splitlines()
        for data in (b"", b"\xff\xfe", b"a,b\n1,2\n", "\n".join(line.partition(",")[2] for line in lines).encode()):
            (tmp_path / name).write_bytes(data)
            assert outcome(read_tables, tmp_path) == "refused", (name, data)
        number = next(column for column, dtype in columns.items() if dtype.is_numeric())
        (tmp_path / name).write_text(",".join(columns) + "\n" + ",".join(["word"] * len(columns)), encoding="utf-8")
        assert outcome(read_tables, tmp_path) == "refused", (name, number)
        (tmp_path / name).write_bytes(whole)
    assert outcome(read_tables, tmp_path) == "read"
    assert json_faults(tmp_path / "metrics.json", lambda: read_document(tmp_path), free=("bundle",)) == []


@pytest.mark.parametrize("kind", ["fields", "cells", "patients"])
def test_tables_of_a_run(fake_run: Callable[..., FakeRun], kind: TableKind) -> None:
    path = fake_run().folder / f"{kind}.parquet"
    metadata = {key: value for key, value in pl.read_parquet_metadata(path).items() if key.startswith("marrowscope")}
    with pytest.raises(RunError, match=f"found table {kind} of schema version"):
        read_table(path, "regions")
    needed = required_columns(ROWS[kind])
    assert table_faults(path, lambda: read_table(path, kind), needed, metadata) == []


def test_files_of_a_crop_set(tmp_path: Path) -> None:
    folder = write_crop_set(tmp_path / "crops", patients=2)
    vocabulary = load_vocabulary()

    def read(_: object = None) -> object:
        return open_crop_set(folder, vocabulary)

    for name in ("crops.npy", "masks.npy"):
        whole = (folder / name).read_bytes()
        array = np.load(folder / name)
        for other in (array.astype(np.float32), array[:3], array[:, :, 0], array[..., :2]):
            np.save(folder / name, other)
            assert outcome(read, None) == "refused", (name, other.shape, other.dtype)
        np.savez(tmp_path / "archive.npz", array)
        for data in (b"", b"no array", (tmp_path / "archive.npz").read_bytes()):
            (folder / name).write_bytes(data)
            assert outcome(read, None) == "refused", (name, data[:20])
        (folder / name).write_bytes(whole)
    needed = ("cell_id", "field_id", "patient_id", "center", "diagnosis", "image_sha256", "source", "expert_code")
    assert json_faults(folder / "prepare.json", read) == []
    write_crop_set(folder, patients=2)
    assert table_faults(folder / "cells.parquet", read, (*needed, "match_iou", "um_per_px")) == []


def test_tables_of_a_cross_fit(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from marrowscope.train.left_out_cells import read_left_out, read_missed

    words = dict.fromkeys(("field_id", "patient_id", "center", "diagnosis", "source", "expert_code"), "a")
    heads = {"fold": 0, **{f"label_{h}": 0 for h in HEADS}, **{f"logp_{h}": [0.0, 1.0] for h in HEADS}}
    left_out, missed = tmp_path / "oof.parquet", tmp_path / "missed.parquet"
    pl.DataFrame([words | heads | {"cut": False}]).write_parquet(left_out)
    pl.DataFrame([{"field_id": "a", "expert_code": "N", "shape_index": 0, "cut": True}]).write_parquet(missed)
    assert table_faults(left_out, lambda: read_left_out(left_out), (*words, *heads)) == []
    assert table_faults(missed, lambda: read_missed(missed), ("field_id", "expert_code")) == []


@pytest.mark.parametrize(
    ("read", "columns", "row"),
    [
        (read_patients, ("patient_id", "center", "diagnosis"), "P1,A,AML"),
        (read_split, ("patient_id", "role"), "P1,train"),
        (read_folds, ("patient_id", "center", "diagnosis", "fold"), "P1,A,AML,0\nP2,A,AML,1"),
    ],
)
def test_tables_of_patients(tmp_path: Path, read: Callable[[Path], object], columns: tuple[str, ...], row: str) -> None:
    path = tmp_path / "patients.csv"
    header = ",".join(columns)
    place = tmp_path if read is read_patients else path
    path.write_text(f"{header}\n{row}\n", encoding="utf-8")
    assert outcome(read, place) == "read"
    without = header.replace("patient_id", "name")
    wrong = [b"", b"\xff\xfe", header.encode("utf-16"), f"{without}\n{row}\n".encode()]
    wrong += [f'{header}\n"{row}\n'.encode(), f"{header}\n{'9' * 200_000}{row}\n".encode()]
    if read is not read_patients:
        wrong += [f"{header}\n{line}\n".encode() for line in ("P1", ",,,", f"P1,A,A,{'9' * 5000}", "P1,A,A,-1")]
    for data in wrong:
        path.write_bytes(data)
        assert outcome(read, place) == "refused", data[:60]


@pytest.mark.parametrize(
    ("path", "read"),
    [
        (DEFAULT_VOCABULARY, load_vocabulary),
        (MAPPINGS_DIR / "munich-marrow-21.toml", load_mapping),
        (DEFAULT_REFERENCE_RANGES, load_reference_ranges),
    ],
    ids=lambda value: value.stem if hasattr(value, "stem") else "",
)
def test_vocabulary_mapping_and_ranges(tmp_path: Path, path: Path, read: Callable[[Path], object]) -> None:
    copied = tmp_path / "copied.toml"
    assert toml_faults(copied, path.read_text(encoding="utf-8"), lambda: read(copied)) == []


_OF_JSON = [item for item in annotation_formats() if item.suffixes[0].endswith("json")]


@pytest.mark.parametrize("annotation_format", _OF_JSON, ids=lambda item: item.name)
def test_annotations_raise_nothing(tmp_path: Path, annotation_format: AnnotationFormat) -> None:
    """A cell that cannot be taken is a fault of its image, and every other cell stays."""
    shapes = tuple(Annotation("N", np.array([[x, 2.0], [x + 9, 4.0], [x, 40.0]]), i) for i, x in enumerate((1.0, 50.0)))
    path = tmp_path / f"f{annotation_format.suffixes[0]}"
    annotation_format.write(path, [AnnotatedImage("P1/f.png", 100, 80, shapes)])
    document = json.loads(path.read_text(encoding="utf-8"))
    for keys in places(document):
        for value in (*WRONG, None, True, math.inf, 10**400, ...):
            path.write_text(json.dumps(changed(document, keys, value)), encoding="utf-8")
            found = read_annotations(AnnotationFile(path))
            faulty = any(image.faults for image in found)
            assert faulty or sum(len(image.shapes) for image in found) >= len(shapes) - (value is ...), (keys, value)


def test_journals_and_markers(tmp_path: Path) -> None:
    """A marker or journal that cannot be read is none: nothing is ours, and no run goes on."""
    mark_folder(tmp_path, "run")

    def read(_: object = None) -> None:
        if read_marker(tmp_path) is None:
            message = "no marker of ours"
            raise MarrowscopeError(message)

    assert json_faults(tmp_path / MARKER_NAME, read) == []
    parts = tmp_path / "run.part"
    for data in (b"", b"\xff", b"[]", b"{"):
        RunParts(parts, {"bundle": "b"})
        (parts / "parts" / "left").write_bytes(b"")
        (parts / "journal.json").write_bytes(data)
        RunParts(parts, {"bundle": "b"})
        assert not (parts / "parts" / "left").exists()


def test_the_journal_of_a_reproduction(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "out", {"seed": 1})
    journal.step("one", {}, [], dict)
    path = tmp_path / "out" / "steps" / "one.json"
    assert json_faults(path, journal.seconds, free=("inputs", "outputs")) == []
    settings = tmp_path / "out" / "reproduce.json"
    assert json_faults(settings, lambda: Journal(tmp_path / "out", {"seed": 1})) == []


def test_weights(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from marrowscope.train.checkpoint import save_tensors
    from marrowscope.train.classifier_graph import load_classifier
    from tests.train.stages import stage_inputs, tiny_model

    config = tiny_config()
    inputs = stage_inputs(write_crop_set(tmp_path / "crops"), config)
    epoch = {name: 0.5 for name in EpochRow.model_fields if name not in {"epoch", "train_losses"}} | {"epoch": 1}
    meta = {"info": inputs.info.model_dump(mode="json"), "epoch": epoch}
    state = tiny_model(config).state_dict()
    path = tmp_path / "classifier.safetensors"

    def read(document: Any) -> object:  # noqa: ANN401 - whatever JSON holds
        save_tensors(path, state, document)
        return load_classifier(path)

    assert faults_of(meta, read) == []
    name = next(iter(state))
    for tensors in ({}, state | {"more": state[name].clone()}, state | {name: state[name][:1].clone()}):
        save_tensors(path, tensors, meta)
        assert outcome(load_classifier, path) == "refused"
