"""Record of a long run's finished steps: one marker per step, written last, with a hash of its inputs.

A folder has reproduce.json (the settings) and steps/<name>.json (inputs, outputs, seconds). A step whose marker has the
same inputs and whose files exist is not repeated; an interrupted step has no marker and starts over, or continues from
what its own stage keeps. Outputs carry the hashes that later steps use as inputs, so later steps cannot build on a
changed beginning.
"""

from __future__ import annotations

import hashlib
import json
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from marrowscope.config import UNREADABLE, FrozenModel, load_record, parse_json
from marrowscope.disk import name_files, write_text
from marrowscope.errors import RunError
from marrowscope.records import JsonDict

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

SETTINGS_NAME, _STEPS_FOLDER = "reproduce.json", "steps"


class _Marker(FrozenModel):
    """What stands in the marker of a step that is done."""

    inputs_sha256: str
    inputs: JsonDict
    outputs: JsonDict
    seconds: float
    finished_utc: str


class Journal:
    """The settings and markers of one folder; raises RunError for a folder with other settings or anything else."""

    def __init__(self, folder: Path, settings: JsonDict) -> None:
        self.folder = folder
        self._settings = json.loads(json.dumps(settings))
        self._check_folder()
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / SETTINGS_NAME).is_file():
            write_json(folder / SETTINGS_NAME, self._settings)
        name_files(folder, "reproduction", [SETTINGS_NAME])

    def step(self, name: str, inputs: JsonDict, files: Sequence[Path], action: Callable[[], JsonDict]) -> JsonDict:
        """Return the outputs of step ``name``: from its marker if it is done, otherwise from ``action``.

        ``files`` are the step's results: where one of them is gone, the step runs again.
        """
        digest = _hash_json(inputs)
        earlier = self._read(name)
        if earlier and earlier.inputs_sha256 == digest and all(path.exists() for path in files):
            return earlier.outputs
        self._marker(name).unlink(missing_ok=True)
        started = time.monotonic()
        outputs = action()
        marker = _Marker(
            inputs_sha256=digest,
            inputs=inputs,
            outputs=outputs,
            seconds=round(time.monotonic() - started, 3),
            finished_utc=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        self._marker(name).parent.mkdir(exist_ok=True)
        write_json(self._marker(name), marker.model_dump())
        return outputs

    def seconds(self) -> dict[str, float]:
        """Seconds of every finished step, by name; for an interrupted step, only those of its last part."""
        names = sorted(path.stem for path in (self.folder / _STEPS_FOLDER).glob("*.json"))
        return {name: marker.seconds for name in names if (marker := self._read(name))}

    def _marker(self, name: str) -> Path:
        return self.folder / _STEPS_FOLDER / f"{name}.json"

    def _read(self, name: str) -> _Marker | None:
        if not self._marker(name).is_file():
            return None
        advice = "remove the file, and its step will run again"
        return load_record(_Marker, self._marker(name), error=RunError, advice=advice)

    def _check_folder(self) -> None:
        """Reject a folder that was started with other settings, or has anything else in it."""
        if not (self.folder / SETTINGS_NAME).is_file():
            if self.folder.exists() and (not self.folder.is_dir() or _holds_something(self.folder)):
                message = (
                    f"{self.folder}: found something other than a reproduction, expected a new or empty folder; "
                    "choose another --out"
                )
                raise RunError(message)
            return
        earlier = read_json(self.folder / SETTINGS_NAME)
        different = _differences(earlier, self._settings)
        if different:
            shown = "; ".join(different[:4]) + (f" and {len(different) - 4} more" if len(different) > 4 else "")  # noqa: PLR2004
            message = (
                f"{self.folder}: found a reproduction with other settings ({shown}), expected equal ones; continue "
                "with the first call's preset and seed, or choose another --out"
            )
            raise RunError(message)


def _holds_something(folder: Path) -> bool:
    """Tell whether a folder has more than the remains of a call killed while writing its first file."""
    return any(path.name != f"{SETTINGS_NAME}.part" for path in folder.iterdir())


def _differences(earlier: JsonDict, now: JsonDict, prefix: str = "") -> list[str]:
    """List every setting that differs, with both values."""
    found = []
    for key in sorted(earlier.keys() | now.keys()):
        one, other = earlier.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            found.append(f"{prefix}{key}: {one} there, {other} here")
    return found


def _hash_json(value: JsonDict) -> str:
    """SHA-256 of canonical JSON: equal values give equal hashes."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def write_json(path: Path, value: JsonDict) -> None:
    """Write JSON atomically; NaN is rejected, since JSON does not have it."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> JsonDict:
    """Read a file of this folder; RunError where it is broken."""
    again = "choose another --out" if path.name == SETTINGS_NAME else "remove the file, and its step will run again"
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, *UNREADABLE) as error:
        message = f"{path}: cannot be read ({error}); {again}"
        raise RunError(message) from error
    if not isinstance(value, dict):
        message = f"{path}: found {type(value).__name__}, expected a JSON object; {again}"
        raise RunError(message)
    return value
