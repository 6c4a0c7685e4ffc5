"""`marrowscope train segmenter`: what is wrong with its small inputs is said in a sentence."""

from pathlib import Path

import pytest

from marrowscope.cli.train import _read_names
from marrowscope.errors import InputError


def test_a_list_of_patients_has_one_name_a_line_and_names_may_hold_blanks(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    path.write_text("P 1\n\n  P2  \n", encoding="utf-8")
    assert _read_names(path) == {"P 1", "P2"}
    with pytest.raises(InputError, match=r"nowhere\.txt: the list of patients cannot be read .*one patient_id a line"):
        _read_names(tmp_path / "nowhere.txt")
