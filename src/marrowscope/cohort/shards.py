"""Shards: the patients of an input divided into blocks, one for each call of an array of calls.

Every call lists the same folders and takes its own block, so that no call has to know of another. A block holds whole
patients in the input's order, and about as many images as any other.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Self

from marrowscope.errors import ConfigError, InputError
from marrowscope.imaging import sha256_bytes
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from marrowscope.cohort.inputs import Inputs

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


def take_shard(inputs: Inputs, shard: Shard) -> Inputs:
    """Return the patients of one shard with their images; faults and what was left out stay those of the whole input.

    A patient stands in the shard that holds the middle of its images in the row of all images. Raises InputError where
    the shard has no image, as with more shards than patients.
    """
    n_images = Counter(image.patient_id for image in inputs.images)
    counts = [n_images[patient.patient_id] for patient in inputs.patients]
    ends = [len(inputs.images) * index / shard.of for index in range(1, shard.of)]
    middles = (end - count / 2 for end, count in zip(accumulate(counts), counts, strict=True))
    places = [bisect_left(ends, middle) + 1 for middle in middles]
    own = tuple(patient for patient, place in zip(inputs.patients, places, strict=True) if place == shard.index)
    names = {patient.patient_id for patient in own}
    images = tuple(image for image in inputs.images if image.patient_id in names)
    if not images:
        message = (
            f"shard {shard}: found no image for it in {count_of(len(inputs.patients), 'patient')}, "
            f"expected at least one; take fewer shards (at most {sum(map(bool, counts))})"
        )
        raise InputError(message)
    return replace(inputs, patients=own, images=images)


def input_digest(inputs: Inputs) -> str:
    """Return a SHA-256 of the names and order of all patients and images: shards of one input have the same."""
    rows = [[patient.patient_id for patient in inputs.patients], [image.field_id for image in inputs.images]]
    return sha256_bytes(json.dumps(rows).encode())
