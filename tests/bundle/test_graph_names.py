"""Which files of a bundle are networks, and in which order the members stand."""

import pytest

from marrowscope.bundle.graph_names import SEGMENTER_FILE, classifier_files, is_graph


def test_members_stand_by_number_and_nothing_else_is_one() -> None:
    files = ["classifier-10.onnx", "classifier-2.onnx", SEGMENTER_FILE, "CARD.md", "classifier-0.onnx"]
    assert classifier_files(files) == ("classifier-0.onnx", "classifier-2.onnx", "classifier-10.onnx")
    assert classifier_files([]) == ()


@pytest.mark.parametrize("name", [SEGMENTER_FILE, "classifier-0.onnx", "classifier-12.onnx"])
def test_what_is_opened_is_a_graph(name: str) -> None:
    assert is_graph(name)


@pytest.mark.parametrize(
    "name",
    [
        "segmenter.onnx", "segmenter/segmenter-int8.onnx", "classifier-0-int8.onnx", "classifier-.onnx",
        "old/classifier-0.onnx", "classifier-0.onnx.bak", "bundle.toml",
    ],
)  # fmt: skip
def test_what_is_never_opened_is_none(name: str) -> None:
    assert not is_graph(name)
    assert classifier_files([name]) == ()
