"""The golden sample apart: the same result, the same sentences, and an end."""

import sys
import time
from pathlib import Path

import pytest

from marrowscope.bundle.golden import check_golden
from marrowscope.bundle.golden_process import check_golden_apart
from marrowscope.errors import BundleError, ConfigError, RunError
from tests.bundles import make_bundle


def test_apart_is_as_here(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    assert check_golden_apart(bundle, "onnxruntime") == check_golden(bundle, "onnxruntime")
    with pytest.raises(ConfigError, match="precision 'bf16': ONNX Runtime computes in f32 here"):
        check_golden_apart(bundle, "onnxruntime", precision="bf16")
    (bundle.folder / "golden.npz").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"golden\.npz: found SHA-256"):
        check_golden_apart(bundle, "onnxruntime")
    toml = bundle.folder / "bundle.toml"
    toml.write_text(toml.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    with pytest.raises(BundleError, match=r"found another bundle\.toml than before, expected the same"):
        check_golden_apart(bundle, "onnxruntime")


def test_what_does_not_end_ends_in_a_sentence(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    started = time.monotonic()
    with pytest.raises(
        BundleError, match=r"golden sample on onnxruntime f32 took more than 0\.05 s, expected a result"
    ):
        check_golden_apart(bundle, "onnxruntime", seconds=0.05)
    assert time.monotonic() - started < 20


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX's")
@pytest.mark.parametrize("how", ["os.kill(os.getpid(), 9)", "raise MemoryError('Unable to allocate 9 GiB')"])
def test_a_process_without_memory_is_no_fault_of_the_bundle(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (tmp_path / "numpy.py").write_text(f"import os\n{how}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(RunError, match=r"on onnxruntime f32 found too little memory, expected room for it; free some"):
        check_golden_apart(bundle, "onnxruntime")


def test_a_process_that_dies_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_bundle(tmp_path / "bundle")
    (tmp_path / "numpy.py").write_text("import os\nos._exit(7)\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(BundleError, match=r"on onnxruntime f32 ended its process with code 7 \(\), expected a result"):
        check_golden_apart(bundle, "onnxruntime")
