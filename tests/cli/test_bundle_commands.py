"""Commands that write a bundle: an earlier one is replaced only when asked for, what is not ours never."""

from pathlib import Path

import pytest

from marrowscope.bundle import load_bundle
from marrowscope.bundle.shipped import demonstration_bundle
from marrowscope.cli.main import main
from marrowscope.disk import MARKER_NAME
from marrowscope.networks import capabilities, choose_backend
from tests.bundles import make_bundle


def words_of(command: str, out: Path) -> list[str]:
    """Give a call of ``command`` whose inputs are empty, but for the bundle: ``out`` is looked at first."""
    (out.parent / "nothing").mkdir(exist_ok=True)
    bundle, nothing = str(demonstration_bundle()), str(out.parent / "nothing")
    if command == "export":
        pytest.importorskip("torch", reason="needs the extra train")
        return ["export", nothing, "--segmenter", "demo", "--out", str(out)]
    return [command, bundle, nothing, "--out", str(out)]


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Call the command line, which has to refuse; give its sentence on one line."""
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["export", "quantify", "precision"])
def test_an_earlier_bundle_is_refused_before_any_work_unless_overwrite(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = make_bundle(tmp_path / "bundle").folder
    words = words_of(command, out)
    refused = said(words, capsys)
    assert "found an earlier bundle, expected a new or empty folder; add --overwrite or choose another" in refused
    asked = said([*words, "--overwrite"], capsys)
    assert "earlier bundle" not in asked
    if command != "precision" or {"bf16", "f16"} & set(capabilities(choose_backend("auto", "auto"))):
        assert str(tmp_path / "nothing") in asked  # what is wrong next; here the processor may be it
    (out / MARKER_NAME).unlink()
    foreign = said([*words, "--overwrite"], capsys)
    assert "nothing is removed. It contains CARD.md, bundle.toml, " in foreign
    assert load_bundle(out).spec.name == "test"


def test_a_diagnosis_that_no_patient_has_is_refused_before_anything_is_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    (cohort / "patients.csv").write_text("patient_id,center,diagnosis\np1,A,AML\np2,A,\n", encoding="utf-8")
    words = ["quantify", "demo", str(cohort), "--out", str(tmp_path / "out"), "--aml", "AML-M3"]
    assert f"--aml: found 'AML-M3', expected a diagnosis of the patients in {cohort} (AML" in said(words, capsys)
