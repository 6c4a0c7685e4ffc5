"""A model bundle: a folder that says everything a prediction needs, every file of it hashed.

    bundle.toml                 BundleSpec
    CARD.md
    segmenter/segmenter.onnx    beside its AGPL-3.0 LICENSE and CARD.md
    classifier-0.onnx ...       the members, in order
    golden.npz                  input and expected output of both networks
    quantification.json         error rates and study threshold, where they were measured
    embeddings.npz              statistics of the training cells' embeddings, where they were computed
    vocabulary.toml             only where it is not the one that ships with the package

Invariant: nothing is opened whose hash was not checked. A file is read once, and what was hashed is what is used: one
that is exchanged after the bundle was loaded is refused, not opened. No file is ever unpickled, and every section was
checked against its model when the bundle was loaded.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from marrowscope.bundle.description import SPEC_NAME, BundleSpec
from marrowscope.bundle.embedding_file import read_embeddings
from marrowscope.bundle.graph_check import check_classifier, check_segmenter
from marrowscope.bundle.graph_names import SEGMENTER_FILE, classifier_files, is_graph
from marrowscope.bundle.precisions import by_network, check_precision, choose_precision
from marrowscope.bundle.spec_file import description_text, read_description
from marrowscope.config import UNREADABLE, parse_json, validate_config
from marrowscope.disk import new_folder, refuse_foreign_folder, write_bytes, write_text, written_whole
from marrowscope.errors import BundleError, ConfigError, VocabularyError
from marrowscope.imaging import sha256_bytes, sha256_file
from marrowscope.imaging.names import path_below
from marrowscope.networks import Graph, Network, open_network, read_graph
from marrowscope.patient.learned import Learned, learned_from
from marrowscope.patient.quantify.quantification import QUANTIFICATION_FILE, Quantification
from marrowscope.patient.quantify.rates import kinds_of
from marrowscope.patient.standing import MeasuredCenter, MeasuredRates
from marrowscope.records import MARROW
from marrowscope.runs.manifest import UsedBundle, UsedVocabulary
from marrowscope.vocabulary import Vocabulary, load_vocabulary, shipped_version
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from marrowscope.cells.embedding import ClassStatistics

GOLDEN_FILE, CARD_FILE = "golden.npz", "CARD.md"
VOCABULARY_FILE = "vocabulary.toml"
_KIND = "bundle"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle on disk whose files are what its specification says."""

    folder: Path
    spec: BundleSpec
    spec_sha256: str
    vocabulary: Vocabulary
    quantification: Quantification | None = None
    """Error rates and study threshold; None where the bundle has none, or where they were left unread."""
    centers: Mapping[str, MeasuredCenter] = field(default_factory=dict)
    """Centers with rates of their own; empty where there are none, or where they were left unread."""
    embeddings: ClassStatistics | None = None
    """Statistics of the training cells' embeddings; None where the bundle has none."""

    @property
    def measured(self) -> MeasuredRates:
        """All error rates, as a patient's standing needs them."""
        return MeasuredRates(self.quantification, self.centers)

    @property
    def learned(self) -> Learned | None:
        """What was learned from real and from simulated cells; None where the bundle does not state its sources."""
        return learned_from(((source.simulated, source.n_cells) for source in self.spec.sources), self.vocabulary)

    @property
    def segmenter_sha256(self) -> str:
        """Hash of the segmenter's graph: it stands in everything made with it."""
        return self.spec.files.get(SEGMENTER_FILE, "")

    @property
    def classifier_files(self) -> tuple[str, ...]:
        """Relative paths of the members, in order."""
        return classifier_files(self.spec.files)

    def open_segmenter(
        self,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "f32",
        *,
        threads: int | None = None,
        streams: int = 1,
    ) -> Network:
        """Load the segmenter in what the choice ``precision`` has for it (``precisions``); see ``open_network``."""
        graph = self._graph(SEGMENTER_FILE)
        return open_network(graph, backend, device, by_network(precision).segmenter, threads=threads, streams=streams)

    def open_classifiers(
        self,
        backend: str = "auto",
        device: str = "auto",
        precision: str = "f32",
        *,
        threads: int | None = None,
        streams: int = 1,
    ) -> list[Network]:
        """Load every member of the ensemble, in order; see ``open_segmenter``."""
        # One after the other: a graph's bytes are in memory once, beside what its runtime made of them.
        computed_in = by_network(precision).classifiers
        return [
            open_network(self._graph(name), backend, device, computed_in, threads=threads, streams=streams)
            for name in self.classifier_files
        ]

    def read_file(self, name: str) -> bytes:
        """Read a file of the bundle; BundleError where it is not there, or not the one that the bundle names."""
        return _read_file(self.folder, name, self.spec.files)

    def resolve_precision(
        self, wanted: str, capabilities: Collection[str], *, backend: str | None = None, device: str | None = None
    ) -> str:
        """Return the precision to compute in: ``auto`` is the fastest whose accuracy gate was passed, else f32.

        ``capabilities`` are those of the device (``networks.capabilities``), ``backend`` the runtime that is used and
        ``device`` what it is asked for, ``auto`` too: a gate measured with another one does not count. A precision
        that was asked for needs no gate; one that the device does not have raises ConfigError.
        """
        if wanted == "auto":
            return choose_precision(
                self.spec.precisions, self.spec.files, capabilities=capabilities, backend=backend, device=device
            )
        check_precision(wanted, capabilities)
        return wanted

    def _graph(self, name: str) -> Graph:
        return _read_graph(self.folder, name, self.spec, self.vocabulary)

    def provenance(self) -> UsedBundle:
        """Return what a manifest says about the bundle: names, versions and hashes."""
        return UsedBundle(
            name=self.spec.name,
            version=self.spec.version,
            purpose=self.spec.purpose,
            demonstration=self.spec.demonstration,
            sha256=self.spec_sha256,
            vocabulary=UsedVocabulary(**self.spec.vocabulary.model_dump()),
            threshold=self.spec.threshold,
            files=self.spec.files,
            error_rates=self.quantification.sentence() if self.quantification else None,
        )


def load_bundle(path: Path, *, verify: bool = True, with_rates: bool = True) -> Bundle:
    """Read ``path`` (the folder), check every file's hash and look through the graphs.

    ``verify=False`` checks only that the files are there; each is checked when it is opened all the same.
    ``with_rates=False`` leaves the error rates unread, so that rates of another version can be replaced. Raises
    BundleError naming the file, what was found and what was expected.
    """
    spec_path = path / SPEC_NAME
    if not spec_path.is_file():
        message = f"{path}: found no {SPEC_NAME}, expected a model bundle; check its path, or name default or demo"
        raise BundleError(message)
    data = spec_path.read_bytes()
    spec = read_description(data, spec_path)
    if SEGMENTER_FILE not in spec.files or not classifier_files(spec.files):
        message = (
            f"{spec_path}: [files] names {sorted(spec.files)}, expected {SEGMENTER_FILE} and classifier-0.onnx; "
            "export the bundle again"
        )
        raise BundleError(message)
    for section, name in spec.files_named().items():
        if name not in spec.files:
            message = f"{spec_path}: {section} names {name!r}, expected a file that [files] names too; copy it again"
            raise BundleError(message)
    for name, expected in spec.files.items():
        _check_file(path, name, expected, verify=verify and not is_graph(name))  # a graph's is, with its content, below
    own = path / VOCABULARY_FILE if VOCABULARY_FILE in spec.files else None
    shipped = None if own else shipped_version(spec.vocabulary.sha256)
    vocabulary = shipped or load_vocabulary(own)
    if vocabulary.sha256 != spec.vocabulary.sha256:
        trained, here = spec.vocabulary, vocabulary
        message = (
            f"{spec_path}: trained with vocabulary {trained.name} {trained.version} ({trained.sha256[:12]}), "
            f"found {here.name} {here.version} ({here.sha256[:12]}); "
            "use the version of marrowscope it was made with, or export it again"
        )
        raise BundleError(message)
    for name in spec.files if verify else ():
        if is_graph(name):
            _read_graph(path, name, spec, vocabulary)
    _check_sources(spec, vocabulary, spec_path)
    embeddings = _read_embeddings(path, spec, vocabulary)
    if not with_rates:
        return Bundle(path, spec, sha256_bytes(data), vocabulary, embeddings=embeddings)
    pooled = _read_quantification(path, QUANTIFICATION_FILE, spec, vocabulary)
    centers = {
        center: MeasuredCenter(found, stated.n_patients, stated.n_outside, stated.specimen or MARROW)
        for center, stated in spec.rates_by_center.items()
        if (found := _read_quantification(path, stated.file, spec, vocabulary))
    }
    return Bundle(path, spec, sha256_bytes(data), vocabulary, pooled, centers, embeddings)


def _check_sources(spec: BundleSpec, vocabulary: Vocabulary, path: Path) -> None:
    """Refuse a source with cells of a label that the bundle's vocabulary does not have."""
    for source in spec.sources:
        for label in source.n_cells:
            try:
                vocabulary.read_label(label, f"{path}, sources, {source.name}")
            except VocabularyError as error:
                raise BundleError(str(error)) from error


def refuse_bundle_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise BundleError where a bundle may not be written: see ``disk.refuse_foreign_folder``."""
    refuse_foreign_folder(folder, _KIND, overwrite=overwrite, error=BundleError)


def write_bundle(
    folder: Path, spec: BundleSpec, files: Mapping[str, Path | bytes], *, overwrite: bool = False
) -> Bundle:
    """Write a bundle beside ``folder`` and move it there when it loads; ``spec.files`` is filled in.

    ``files`` maps a relative path to its content or to the file to copy. With ``overwrite`` an earlier bundle of ours
    is replaced; anything else in the way raises BundleError.
    """
    with new_folder(folder, _KIND, overwrite=overwrite, error=BundleError) as complete:
        hashes = {name: _write_file(complete / name, source) for name, source in sorted(files.items())}
        write_text(complete / SPEC_NAME, description_text(spec.model_copy(update={"files": hashes})))
        written = load_bundle(complete)
    return replace(written, folder=folder)


def _write_file(target: Path, source: Path | bytes) -> str:
    """Write one file of a bundle; gives its SHA-256."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, bytes):
        write_bytes(target, source)
    else:
        with written_whole(target) as temporary:
            shutil.copyfile(source, temporary)
    return sha256_file(target)


def _read_quantification(folder: Path, name: str, spec: BundleSpec, vocabulary: Vocabulary) -> Quantification | None:
    """Read error rates of a bundle; None where it has no file ``name``.

    Raises BundleError where they are of another version or of other kinds of cells.
    """
    if name not in spec.files:
        return None
    content, path = _read_file(folder, name, spec.files), folder / name
    try:
        values = parse_json(content.decode("utf-8"))
        found = validate_config(Quantification, values, where=name)
    except (*UNREADABLE, ConfigError) as error:
        message = f"{path}: no readable error rates ({error}); measure them again with `marrowscope quantify`"
        raise BundleError(message) from error
    expected = kinds_of(vocabulary)
    if found.rates.kinds != expected:
        message = (
            f"{path}: found rates of {count_of(len(found.rates.kinds), 'kind')} of cells, expected the "
            f"{len(expected)} of "
            f"vocabulary {vocabulary.name}; measure them again with `marrowscope quantify`"
        )
        raise BundleError(message)
    return found


def _read_embeddings(folder: Path, spec: BundleSpec, vocabulary: Vocabulary) -> ClassStatistics | None:
    """Read the statistics of embeddings; None where the bundle has none."""
    if (stated := spec.embeddings) is None:
        return None
    content = _read_file(folder, stated.file, spec.files)
    return read_embeddings(content, folder / stated.file, stated, len(vocabulary.categories))


def _read_graph(folder: Path, name: str, spec: BundleSpec, vocabulary: Vocabulary) -> Graph:
    """Read a graph whose hash and content are right, and that fits the bundle; BundleError otherwise."""
    graph = read_graph(folder / name, _expected(folder, name, spec.files))
    if name == SEGMENTER_FILE:
        check_segmenter(graph)
    else:
        described = spec.embeddings if name == classifier_files(spec.files)[0] else None
        check_classifier(
            graph,
            vocabulary,
            spec.crop.size_px,
            predicts_plasma=spec.predicts_plasma,
            n_dimensions=described.n_dimensions if described else None,
        )
    return graph


def _read_file(folder: Path, name: str, files: Mapping[str, str]) -> bytes:
    """Read a file once and check the hash of what was read."""
    expected = _expected(folder, name, files)
    try:
        data = (folder / name).read_bytes()
    except OSError as error:
        message = f"{folder / name}: cannot be read ({error.strerror}); check the file and its permissions"
        raise BundleError(message) from error
    _check_hash(folder / name, sha256_bytes(data), expected)
    return data


def _expected(folder: Path, name: str, files: Mapping[str, str]) -> str:
    """Return the hash that a file must have; BundleError where the bundle does not name it."""
    if name not in files:
        message = f"{folder / SPEC_NAME}: [files] names no {name}, expected it there; export the bundle again"
        raise BundleError(message)
    return files[name]


def _check_hash(path: Path, found: str, expected: str) -> None:
    if found != expected:
        message = f"{path}: found SHA-256 {found}, expected {expected}; the file was changed, copy the bundle again"
        raise BundleError(message)


def _check_file(folder: Path, name: str, expected: str, *, verify: bool) -> None:
    target = path_below(folder, name, where=f"{folder / SPEC_NAME}, [files]", error=BundleError)
    if not target.is_file():
        message = f"{target}: not found, expected a file with SHA-256 {expected}; copy the bundle again"
        raise BundleError(message)
    if not verify:
        return
    _check_hash(target, sha256_file(target), expected)
