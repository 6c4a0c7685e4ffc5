"""What is fetched is what was listed; each refusal is one sentence, without a word of the credentials."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from marrowscope.cluster.object_store import ObjectStore
from marrowscope.disk.addresses import address_of
from marrowscope.errors import DependencyError, InputError, RunError
from tests.stores import BUCKET, SECRET, CuttingProxy

if TYPE_CHECKING:
    from tests.stores import Bucket


def test_both_spellings_of_an_address_are_read_and_paths_are_none() -> None:
    assert address_of(Path("s3://smears/cohort/P1")) == "s3://smears/cohort/P1"
    assert address_of("s3://smears/cohort/") == "s3://smears/cohort"
    for path in ("cohort", "/data/s3://x", "C:/data", "c:\\data", "./s3:/x", "default"):
        assert address_of(path) is None


def test_other_schemes_and_passwords_in_an_address_are_refused_without_repeating_them() -> None:
    with pytest.raises(InputError, match=r"begins with gs://, expected s3://BUCKET/FOLDER or a path"):
        address_of("gs://smears/cohort")
    with pytest.raises(InputError, match="is not the name of a bucket") as refused:
        address_of("s3://tester:geheim@smears/cohort")
    assert "geheim" not in str(refused.value)


def test_a_missing_extra_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DependencyError, match=r"^found no module s3fs, .* run pip install 'marrowscope\[store\]'$"):
        ObjectStore()


def test_a_listing_has_the_objects_below_an_address_and_no_folders(bucket: Bucket, store: ObjectStore) -> None:
    for key in ("list/b/2.jpg", "list/a.csv", "list/b/", "list2/c.jpg"):
        bucket.put(key, key.encode())
    found = store.list_below("smears/list")
    assert [(item.place, item.n_bytes) for item in found] == [("smears/list/a.csv", 10), ("smears/list/b/2.jpg", 12)]
    assert [item.place for item in store.list_folder("smears/list")] == ["smears/list/a.csv"]
    assert [item.place for item in store.list_below("smears/list/a.csv")] == ["smears/list/a.csv"]
    assert store.list_below("smears/nothing") == []
    assert store.list_folder("smears/nothing") == []
    assert store.read_starts(found, 6) == [b"list/a", b"list/b"]


def test_no_credentials_no_bucket_and_no_store_are_one_sentence_each(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del bucket
    store = ObjectStore()
    with pytest.raises(InputError, match=r"^s3://nowhere/x: found no bucket nowhere in the store, expected it to be"):
        store.list_below("nowhere/x")
    store.close()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    store = ObjectStore()
    with pytest.raises(InputError, match=r"^s3://smears/x: found no credentials for the store, expected some in the"):
        store.list_below("smears/x")
    store.close()
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = ObjectStore()
    store._files.retries = 1
    with pytest.raises(
        RunError, match=r"^s3://smears/x: cannot be read, found no store that answers \(Endpoint"
    ) as away:
        store.list_below("smears/x")
    assert SECRET not in str(away.value)
    store.close()


def test_what_the_store_forbids_is_one_sentence(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbid(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(store._files, "find", forbid)
    with pytest.raises(InputError, match=r"^s3://smears/x: found that the store forbids it to be read"):
        store.list_below("smears/x")


def test_objects_come_whole(bucket: Bucket, store: ObjectStore, tmp_path: Path) -> None:
    contents = {f"fetch/{number}.jpg": os.urandom(1000 * number) for number in range(12)}
    for key, content in contents.items():
        bucket.put(key, content)
    listed = store.list_below("smears/fetch")
    assert store.fetch([(item, tmp_path / Path(item.place).name) for item in listed]) == {}
    assert {f"fetch/{path.name}": path.read_bytes() for path in tmp_path.iterdir()} == contents


def test_an_object_that_is_gone_or_changed_since_it_was_listed_leaves_no_file(
    bucket: Bucket, store: ObjectStore, tmp_path: Path
) -> None:
    for name in ("gone", "larger", "equally_large", "kept"):
        bucket.put(f"changes/{name}.jpg", b"before")
    listed = store.list_below("smears/changes")
    bucket.remove("changes/gone.jpg")
    bucket.put("changes/larger.jpg", b"afterwards")
    bucket.put("changes/equally_large.jpg", b"after_")
    reasons = store.fetch([(item, tmp_path / Path(item.place).name) for item in listed])
    assert [path.name for path in tmp_path.iterdir()] == ["kept.jpg"]
    assert "found no object any more, expected the one that was listed" in reasons[tmp_path / "gone.jpg"]
    for name in ("larger", "equally_large"):
        assert reasons[tmp_path / f"{name}.jpg"].startswith(f"s3://smears/changes/{name}.jpg: found another content")


@pytest.mark.parametrize("content", [b"whol", b"other", b""], ids=["cut", "damaged", "empty"])
def test_what_does_not_arrive_whole_is_tried_again_and_then_refused(
    bucket: Bucket, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    bucket.put("cut/1.jpg", b"whole")
    listed = store.list_below("smears/cut")
    get, answers = store._files.get_file, [content]

    def get_cut(place: str, path: str, **options: object) -> None:
        get(place, path, **options)
        if answers:
            Path(path).write_bytes(answers.pop())

    monkeypatch.setattr(store._files, "get_file", get_cut)
    assert store.fetch([(listed[0], tmp_path / "1.jpg")]) == {}
    assert (tmp_path / "1.jpg").read_bytes() == b"whole"
    answers[:] = [content] * 9
    with pytest.raises(RunError, match=r"^s3://smears/cut/1.jpg: found \d of 5 bytes or other ones, 3 times, expected"):
        store.fetch([(listed[0], tmp_path / "1.jpg")])


@pytest.mark.parametrize("n_cuts", [2, 1000])
def test_a_connection_that_breaks_off_is_taken_up_again_and_then_refused(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_cuts: int
) -> None:
    content = os.urandom(400_000 if n_cuts == 2 else 4_000_000)
    bucket.put("far/1.jpg", content)
    proxy = CuttingProxy(os.environ["AWS_ENDPOINT_URL"], 100_000, n_cuts)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.address)
    store = ObjectStore()
    store._files.retries = 4
    try:
        listed = store.list_below("smears/far")
        if n_cuts == 2:
            assert store.fetch([(listed[0], tmp_path / "1.jpg")]) == {}
            assert (tmp_path / "1.jpg").read_bytes() == content
            assert proxy.n_cuts == 0
        else:
            with pytest.raises(RunError, match=r"^s3://smears/far/1.jpg: cannot be read, found no store that answers"):
                store.fetch([(listed[0], tmp_path / "1.jpg")])
    finally:
        store.close()
        proxy.close()


def test_a_tag_that_is_no_md5_is_compared_with_the_one_listed(
    bucket: Bucket, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("kms/1.jpg", b"whole")
    listed = store.list_below("smears/kms")
    monkeypatch.setattr("marrowscope.cluster.object_store._md5", lambda _: "0" * 32)
    head = store._head

    def of_kms(item: Any) -> dict[str, object]:  # noqa: ANN401
        return {**head(item), "ServerSideEncryption": "aws:kms"}

    with pytest.raises(RunError):
        store.fetch([(listed[0], tmp_path / "1.jpg")])
    monkeypatch.setattr(store, "_head", of_kms)
    assert store.fetch([(listed[0], tmp_path / "1.jpg")]) == {}


def test_writes_on_a_condition_are_done_or_not(bucket: Bucket, store: ObjectStore) -> None:
    tag = store.create("smears/conditions/one", b"1")
    found = store.describe("smears/conditions/one")
    assert found is not None
    assert tag == found.tag != ""
    assert store.create("smears/conditions/one", b"2") is None
    assert store.replace("smears/conditions/one", b"3", "0" * 32) is None
    assert store.replace("smears/conditions/absent", b"3", tag) is None
    assert bucket.get("conditions/one") == b"1"
    assert store.replace("smears/conditions/one", b"4", tag) not in {None, tag}
    assert bucket.get("conditions/one") == b"4"
    assert 0 <= store.age_s("smears/conditions/one") < 60
    store.remove(["smears/conditions/one", "smears/conditions/absent"])
    assert bucket.keys("conditions") == []
    assert BUCKET == "smears"
