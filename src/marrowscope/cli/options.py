"""Options that several commands share: their values, ranges, defaults and help texts, written once.

A number's range and a word's choices stand in the type, so that ``--help`` shows them and a wrong value is refused
before anything is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_SEED = 1_000_000_000
_LEAST_NM = 50
"""From here on a number is read as nanometers per pixel: 96 is 0.096, where 15 is rather 0.15."""


def parse_um_per_px(text: str | float) -> float:
    """Read micrometers per pixel as typed: ``0.15`` or ``0,15``. Raises ConfigError for what is no plausible scale."""
    from marrowscope.errors import ConfigError
    from marrowscope.imaging.scale import PLAUSIBLE_UM_PER_PX

    low, high = PLAUSIBLE_UM_PER_PX
    try:
        value = float(str(text).strip().replace(",", "."))
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        message = (
            f"--um-per-px: found {str(text)!r}, expected micrometers per pixel from {low} to {high}; "
            f"{_likely_scale(value) or 'a 100x objective has about 0.1'}"
        )
        raise ConfigError(message)
    return value


def _likely_scale(value: float) -> str:
    """Ask for what a number above every scale may stand for: a lost ``0.``, nanometers, or pixels per micrometer."""
    from marrowscope.imaging.scale import PLAUSIBLE_UM_PER_PX

    high = PLAUSIBLE_UM_PER_PX[1]
    longest = 1000
    if not high < value < longest:
        return ""
    shifted = value / 1000 if value >= _LEAST_NM else value
    while shifted >= 1:
        shifted /= 10
    meanings = [f"{shifted:g}"]
    if value <= 1 / PLAUSIBLE_UM_PER_PX[0]:
        meanings.append(f"{1 / value:.2g} if it is pixels per micrometer")
    return f"did you mean {', or '.join(meanings)}?"


Backend = Literal["auto", "openvino", "onnxruntime"]
Precision = Literal["auto", "f32", "bf16", "bf16-segmenter", "f16"]

ScaleOption = Annotated[
    float | None,
    typer.Option(
        parser=parse_um_per_px,
        metavar="<number>",
        show_default="none",
        help="Micrometers per pixel (0.01 to 2) of images that do not state their scale.",
    ),
]
DEFAULT, DEMO = "default", "demo"
"""The shipped bundles; bundle/shipped.py finds them, and is too heavy to import for a help text."""
SEGMENTER_HELP = f"Segmenter (.onnx), or `{DEFAULT}` or `{DEMO}` for that of the shipped bundle"
BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        "-b",
        show_default=DEFAULT,
        help="Model bundle, or `default` (real cells) or `demo` (simulated cells).",
    ),
]
BackendOption = Annotated[
    Backend, typer.Option(help="Inference runtime; auto is the one that `marrowscope doctor` names.")
]
DeviceOption = Annotated[str, typer.Option(help="auto, or a device of the backend (see `marrowscope doctor`).")]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        help="Number format of the networks; auto is the fastest that passed the bundle's accuracy gate, and "
        "bf16-segmenter keeps the classifiers in f32."
    ),
]
ThreadsOption = Annotated[int | None, typer.Option(min=1, show_default="all available", help="CPU cores to use.")]
ProcessesOption = Annotated[
    int | None,
    typer.Option(min=1, show_default="one per core from 300 images on", help="Worker processes, one core each."),
]
MorphologyOption = Annotated[
    bool,
    typer.Option(
        "--morphology/--no-morphology", help="Measure each cell's morphology; takes about a fifth of the time."
    ),
]
VocabularyOption = Annotated[
    Path | None,
    typer.Option("--vocabulary", show_default="the built-in one", help="Your own vocabulary file (TOML)."),
]
MappingOption = Annotated[
    str | None,
    typer.Option(
        "--mapping", show_default="none", help="Mapping from another label scheme: a built-in name or a TOML file."
    ),
]
MappingsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mapping",
        metavar="<[center=]mapping>",
        show_default="none",
        help="Mapping from another label scheme: a built-in name or a TOML file; repeat it for each center.",
    ),
]
ReaderOption = Annotated[
    str,
    typer.Option(
        "--reader",
        metavar="<name>",
        show_default="the only one",
        help="Whose annotations to take where images have those of several readers.",
    ),
]
BootstrapSeedOption = Annotated[
    int, typer.Option(min=0, max=MAX_SEED, help="Random seed for the bootstrap over patients.")
]
AmlOption = Annotated[
    list[str] | None,
    typer.Option(metavar="<name>", show_default="AML", help="A diagnosis that counts as AML; repeat for several."),
]


def check_aml(option: str, names: Collection[str] | None, cohort: Path, diagnoses: Collection[str | None]) -> None:
    """Hold the diagnoses named as AML against those of the cohort's patients, before anything dear is done.

    A name that no patient has would silently make its patients "not AML". Raises ConfigError if none has any of the
    names; says so of a name that is there in vain beside others. Nothing is checked where the option was not given.
    """
    from marrowscope.errors import ConfigError

    known = {text.strip().casefold(): text.strip() for text in sorted({text or "" for text in diagnoses})}
    vain = [name for name in names or () if name.strip().casefold() not in known]
    if not vain:
        return
    listed = ", ".join(repr(name) for name in vain)
    found = ", ".join(text for text in known.values() if text) or "none"
    if len(vain) == len(names or ()):
        message = (
            f"{option}: found {listed}, expected a diagnosis of the patients in {cohort} ({found}); correct the name"
        )
        raise ConfigError(message)
    typer.echo(f"{option}: no patient in {cohort} has the diagnosis {listed}; theirs are {found}.", err=True)
