"""The door to an object store: list, fetch, write and remove objects, each refusal in one sentence.

fsspec and s3fs are imported here alone, and here only when an address was given. Who may read and write is left to
the environment and the files of the AWS tools, as botocore reads them; nothing of it is kept, printed or written.

Invariant: what is fetched is what was listed. A file counts as fetched when it has the listed size and the listed
MD5, or, where the store's tag is no MD5, when the tag is still the listed one afterwards.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from threading import Event
from typing import TYPE_CHECKING, Any, TypeVar

from marrowscope.disk.addresses import at_place
from marrowscope.errors import DependencyError, ImageError, InputError, RunError
from marrowscope.wording import count_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

_AT_A_TIME = 8
"""Objects fetched or written at a time: photographs are small, and a store answers each after many milliseconds."""
_MD5 = re.compile(r"[0-9a-f]{32}")
_TRIES = 3
_NOT_AS_STATED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_T = TypeVar("_T")
_R = TypeVar("_R")
_NOT_AN_MD5 = ("aws:kms", "aws:kms:dsse")
"""Encryptions at rest with which a tag is no MD5 though it looks like one."""


class GoneError(ImageError):
    """An object that was listed is no longer there, or is another one now."""


def gone_sentence(address: str) -> str:
    """Say that an object that was listed is no longer there."""
    return f"{address}: found no object any more, expected the one that was listed; put it back and call again"


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing describes it: ``place`` is bucket and key; ``tag`` is empty where the store gives none."""

    place: str
    n_bytes: int
    tag: str = ""
    modified_s: float = 0.0

    @property
    def address(self) -> str:
        """Where it lies."""
        return at_place(self.place)


class ObjectStore:
    """One connection to the store that the environment of this process names.

    Every method raises InputError for what is not there or may not be read, and RunError where the store does not
    answer; DependencyError is raised at once where the extra ``store`` is not installed.
    """

    def __init__(self) -> None:
        try:
            from s3fs import S3FileSystem  # noqa: PLC0415  the extra `store`, needed only here
        except ImportError as error:
            message = (
                "found no module s3fs, which an address of an object store needs; run pip install 'marrowscope[store]'"
            )
            raise DependencyError(message) from error
        self._files: Any = S3FileSystem(skip_instance_cache=True, use_listings_cache=False)

    def close(self) -> None:
        """Close the connection, if one was opened."""
        if self._files._s3 is not None:  # noqa: SLF001  the library closes it only where Python removes it
            self._files.close_session(self._files.loop, self._files._s3)  # noqa: SLF001

    def list_below(self, place: str) -> list[StoredObject]:
        """List every object below ``place``, or the object itself, by key; empty where there is none."""
        with _said(place):
            found: Mapping[str, Mapping[str, Any]] = self._files.find(place, detail=True)
        return _objects(found.values())

    def list_folder(self, place: str) -> list[StoredObject]:
        """List the objects directly in ``place``, without those further down; empty where there is none."""
        with _said(place):
            try:
                found: Sequence[Mapping[str, Any]] = self._files.ls(place, detail=True, refresh=True)
            except FileNotFoundError:
                return []
        return _objects(found)

    def read(self, place: str) -> bytes | None:
        """Return the content of one small object; None where it is not there."""
        with _said(place):
            try:
                content: bytes = self._files.cat_file(place)
            except FileNotFoundError:
                return None
        return content

    def read_starts(self, objects: Sequence[StoredObject], n_bytes: int) -> list[bytes]:
        """Return the first bytes of each object, as many as it has up to ``n_bytes``."""

        def start(item: StoredObject) -> bytes:
            with _said(item.place):
                content: bytes = self._files.cat_file(item.place, start=0, end=min(n_bytes, item.n_bytes))
            return content

        return _at_once(start, objects)

    def fetch(self, wanted: Sequence[tuple[StoredObject, Path]]) -> dict[Path, str]:
        """Copy objects to paths, several at a time; returns the paths without a file, each with its reason.

        An object that is gone, or was changed since it was listed, leaves no file. Raises RunError where one does not
        arrive whole.
        """
        stopped = Event()

        def fetch_one(item: tuple[StoredObject, Path]) -> str | None:
            stored, path = item
            try:
                self._fetch(stored, path, stopped)
            except GoneError as error:
                path.unlink(missing_ok=True)
                return str(error)
            return None

        reasons = _at_once(fetch_one, wanted, stopped)
        return {path: reason for (_, path), reason in zip(wanted, reasons, strict=True) if reason is not None}

    def write(self, files: Sequence[tuple[Path, str]]) -> None:
        """Copy files to places, several at a time, and check the size of each in the store."""

        def write_one(item: tuple[Path, str]) -> None:
            path, place = item
            with _said(place, "written"):
                self._files.put_file(str(path), place)
                found = int(self._files.info(place, refresh=True)["size"])
            if found != (expected := path.stat().st_size):
                message = (
                    f"{at_place(place)}: found {count_of(found, 'byte')}, expected the {expected} written; call "
                    "again as before"
                )
                raise RunError(message)

        _at_once(write_one, files)

    def write_bytes(self, place: str, content: bytes) -> None:
        """Write one small object."""
        with _said(place, "written"):
            self._files.pipe_file(place, content)

    def create(self, place: str, content: bytes) -> str | None:
        """Write one small object where there is none, in one step of the store.

        Returns its tag, None where it was not written.
        """
        return self._write_if(place, content, mode="create")

    def replace(self, place: str, content: bytes, tag: str) -> str | None:
        """Write one small object where the one with ``tag`` is, in one step of the store.

        Returns its tag, None where it was not written.
        """
        return self._write_if(place, content, IfMatch=f'"{tag}"')

    def describe(self, place: str) -> StoredObject | None:
        """Return what the store says of one object now; None where it is not there."""
        with _said(place):
            try:
                found: Mapping[str, Any] = self._files.info(place, refresh=True)
            except FileNotFoundError:
                return None
        return next(iter(_objects([found])), None)

    def age_s(self, place: str) -> float:
        """Return for how many seconds an object is as it is, by the clock of the store; 0 where it is gone."""
        head = self._head(StoredObject(place, 0))
        changed, now = head.get("LastModified"), head.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        return (parsedate_to_datetime(now) - changed).total_seconds() if changed and now else 0.0

    def remove(self, places: Iterable[str]) -> None:
        """Remove objects, several at a time; those that are gone already are no error."""

        def remove_one(place: str) -> None:
            with _said(place, "removed"), suppress(FileNotFoundError):
                self._files.rm_file(place)

        _at_once(remove_one, list(places))

    def _write_if(self, place: str, content: bytes, **condition: str) -> str | None:
        with _said(place, "written"):
            try:
                answer: Mapping[str, Any] = self._files.pipe_file(place, content, **condition)
            except (FileExistsError, FileNotFoundError) as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None
            except OSError as error:
                if _code(error) in _NOT_AS_STATED:
                    return None
                raise
        return str(answer.get("ETag", "")).strip('"')

    def _fetch(self, stored: StoredObject, path: Path, stopped: Event) -> None:
        """Copy one object, and once more where it did not arrive whole."""
        for _ in range(_TRIES):
            try:
                with _said(stored.place):
                    self._files.get_file(stored.place, str(path), callback=_stopping(stopped))
            except InputError as error:
                if isinstance(error.__cause__, FileNotFoundError):
                    raise GoneError(gone_sentence(stored.address)) from error
                raise
            digest, n_bytes = _md5(path), path.stat().st_size
            if n_bytes == stored.n_bytes and digest == stored.tag:
                return
            head = self._head(stored)
            if head.get("ETag", "").strip('"') != stored.tag or head.get("ContentLength") != stored.n_bytes:
                message = (
                    f"{stored.address}: found another content than when it was listed, expected it to stay as it is "
                    "while it is read; call again"
                )
                raise GoneError(message)
            is_md5 = _MD5.fullmatch(stored.tag) and head.get("ServerSideEncryption") not in _NOT_AN_MD5
            if n_bytes == stored.n_bytes and not (is_md5 and "SSECustomerAlgorithm" not in head):
                return
        message = (
            f"{stored.address}: found {n_bytes} of {count_of(stored.n_bytes, 'byte')} or other ones, {_TRIES} times, "
            "expected the object whole; check the connection, then call again as before"
        )
        raise RunError(message)

    def _head(self, stored: StoredObject) -> Mapping[str, Any]:
        """Return what the store says of one object now; empty where it is gone."""
        bucket, _, key = stored.place.partition("/")
        with _said(stored.place):
            try:
                head: Mapping[str, Any] = self._files.call_s3("head_object", Bucket=bucket, Key=key)
            except FileNotFoundError:
                return {}
        return head


def _objects(found: Iterable[Mapping[str, Any]]) -> list[StoredObject]:
    """Return the objects of a listing, by key, without folders and the empty objects that stand for some."""
    objects = []
    for item in found:
        if item.get("type") == "directory" or str(item["name"]).endswith("/"):
            continue
        modified: datetime | None = item.get("LastModified")
        tag = str(item.get("ETag") or "").strip('"')
        objects.append(
            StoredObject(str(item["name"]), int(item["size"] or 0), tag, modified.timestamp() if modified else 0.0)
        )
    return sorted(objects, key=lambda item: item.place)


def _at_once(work: Callable[[_T], _R], items: Sequence[_T], stopped: Event | None = None) -> list[_R]:
    """Do ``work`` on several items at a time; an error, or a request to end, keeps the others from beginning."""
    pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="store")
    try:
        tasks = [pool.submit(work, item) for item in items]
        return [task.result() for task in tasks]
    finally:
        if stopped:
            stopped.set()
        pool.shutdown(cancel_futures=True)


def _stopping(stopped: Event) -> Any:  # noqa: ANN401  fsspec has no types here
    """Return what ends a download between two pieces of it once ``stopped`` is set."""
    from fsspec.callbacks import Callback  # noqa: PLC0415  the extra `store`

    class Stopping(Callback):  # type: ignore[misc]
        def relative_update(self, inc: int = 1) -> None:
            del inc
            if stopped.is_set():
                raise InterruptedError

    return Stopping()


@contextmanager
def _said(place: str, verb: str = "read") -> Iterator[None]:
    """Turn whatever the libraries raise into one sentence of ours, without their words: some name keys or hosts."""
    from aiohttp import ClientError  # noqa: PLC0415  the extra `store`
    from botocore.exceptions import (  # noqa: PLC0415  the extra `store`
        BotoCoreError,
        NoCredentialsError,
        PartialCredentialsError,
    )

    address = at_place(place)
    try:
        yield
    except FileNotFoundError as error:
        is_bucket = _code(error) == "NoSuchBucket"
        found = f"no bucket {place.partition('/')[0]}" if is_bucket else "nothing"
        message = f"{address}: found {found} in the store, expected it to be there; check the address"
        raise InputError(message) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        message = (
            f"{address}: found no credentials for the store, expected some in the environment or in the files of the "
            "AWS tools; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
        raise InputError(message) from error
    except PermissionError as error:
        message = (
            f"{address}: found that the store forbids it to be {verb} ({_code(error) or 'no permission'}), expected "
            "the right to; check the credentials and the rights of the bucket"
        )
        raise InputError(message) from error
    except (BotoCoreError, ClientError, TimeoutError, ConnectionError) as error:
        message = (
            f"{address}: cannot be {verb}, found no store that answers ({type(error).__name__}), expected one; check "
            "the connection and AWS_ENDPOINT_URL, then call again as before"
        )
        raise RunError(message) from error
    except OSError as error:
        if (code := _code(error)) is None:  # the disk's, not the store's
            raise
        message = f"{address}: cannot be {verb}, the store answered {code}; see its logs, then call again as before"
        raise RunError(message) from error


def _code(error: BaseException) -> str | None:
    """Return the code of a refusal of the store, such as NoSuchBucket; None where it was another's."""
    response = getattr(error.__cause__, "response", None)
    if not isinstance(response, dict):
        return None
    code = str(response.get("Error", {}).get("Code", ""))
    return code if re.fullmatch(r"\w{1,60}", code) else "an error"


def _md5(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
