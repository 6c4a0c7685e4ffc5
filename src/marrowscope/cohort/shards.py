"""Shards: the patients of an input divided into blocks, one for each call of an array of calls.

Every call lists the same folders and takes its own block, so that no call has to know of another. A block holds whole
patients in the input's order, and about as many images as any other.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from itertools import accumulate, islice, pairwise
from typing import TYPE_CHECKING, Self

from marrowscope.cohort.inputs import Inputs
from marrowscope.errors import ConfigError, InputError
from marrowscope.imaging import sha256_bytes
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from marrowscope.records import InputImage

_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True, slots=True)
class Shard:
    """Block ``index`` of ``of``, counted from 1."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``3/16``; raises ConfigError for anything else."""
        found = _SHARD.fullmatch(text.strip())
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or not 1 <= shard.index <= shard.of:
            message = f"--shard: found {text!r}, expected i/n with i from 1 to n, such as 3/16; correct it"
            raise ConfigError(message)
        return shard

    def __str__(self) -> str:
        """Return it as it is written on the command line."""
        return f"{self.index}/{self.of}"


@dataclass(frozen=True, slots=True)
class Block:
    """The patients of one shard with their images, and what its run states of the whole input.

    ``inputs`` has neither faults nor a number of what was left out: the merged run says those of the whole, which are
    in ``whole_faults``, a sentence each, and ``whole_left_out``.
    """

    shard: Shard
    inputs: Inputs
    whole_sha256: str
    whole_faults: tuple[str, ...]
    whole_left_out: int


def take_shard(inputs: Inputs, shard: Shard) -> Block:
    """Return one block of ``divide``. Raises InputError with more shards than patients with an image."""
    return next(islice(divide(inputs, shard.of), shard.index - 1, None))


def divide(inputs: Inputs, n: int) -> Iterator[Block]:
    """Yield the ``n`` blocks of an input, in order; one at a time is in memory beside the input.

    Every block has a patient with an image. Each ends where its share of all images is reached, or earlier so that the
    later ones keep one; patients without an image go with those before them. Raises InputError with more shards than
    patients with an image.
    """
    n_images = Counter(image.patient_id for image in inputs.images)
    counts = [n_images[patient.patient_id] for patient in inputs.patients]
    with_images = [place for place, count in enumerate(counts) if count]
    if n > len(with_images):
        message = (
            f"found {count_of(len(with_images), 'patient')} with an image, expected some for each of "
            f"{count_of(n, 'shard')}; take at most {len(with_images)}"
        )
        raise InputError(message)
    images_of: defaultdict[str, list[InputImage]] = defaultdict(list)
    for image in inputs.images:
        images_of[image.patient_id].append(image)
    whole_sha256 = input_digest(inputs)
    faults = tuple(fault.sentence() for fault in inputs.faults)
    begins = [0, *_begins(list(accumulate(counts)), with_images, n), len(counts)]
    for index, (begin, end) in enumerate(pairwise(begins), start=1):
        patients = inputs.patients[begin:end]
        images = tuple(image for patient in patients for image in images_of[patient.patient_id])
        yield Block(Shard(index, n), Inputs(patients, images), whole_sha256, faults, inputs.n_left_out)


def _begins(ends: Sequence[int], with_images: Sequence[int], n: int) -> list[int]:
    """Return the first patient of every shard but the first, each of them a patient with an image."""
    begins: list[int] = []
    earliest = 1  # places in ``with_images``
    for index in range(1, n):
        wanted = ends[-1] * index / n
        place = next(
            (place for place, patient in enumerate(with_images) if ends[patient] > wanted), len(with_images) - 1
        )
        place = min(max(place, earliest), len(with_images) - (n - index))
        begins.append(with_images[place])
        earliest = place + 1
    return begins


def input_digest(inputs: Inputs) -> str:
    """Return a SHA-256 of all patients, with what is known of them, and of all images; shards of one input agree."""
    patients = [asdict(patient) | {"extra": dict(patient.extra)} for patient in inputs.patients]
    images = [[image.field_id, image.um_per_px] for image in inputs.images]
    return sha256_bytes(json.dumps([patients, images], sort_keys=True).encode())
