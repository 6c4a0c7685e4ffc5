"""An object store on loopback, and a client of its own that puts and reads objects without our code."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from tests.required import STORE, skip_without

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUCKET = "smears"
SECRET = "not-to-be-printed"  # noqa: S105 - of a store that lives as long as a test


@dataclass(frozen=True)
class Bucket:
    """One bucket and its client."""

    client: Any
    name: str = BUCKET

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=content)

    def put_folder(self, folder: Path, key: str) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{key}/{path.relative_to(folder).as_posix()}", path.read_bytes())

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return content

    def get_folder(self, key: str, folder: Path) -> Path:
        for name in self.keys(f"{key}/"):
            path = folder / name.removeprefix(f"{key}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.get(name))
        return folder

    def remove(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def keys(self, prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix)
        return [item["Key"] for item in found.get("Contents", ())]


def bucket_on_loopback() -> Iterator[Bucket]:
    """Start the store, and let the environment name it; skips where the extra or moto is missing."""
    if missing := [name for name in ("s3fs", "moto", "flask", "flask_cors") if find_spec(name) is None]:
        skip_without(STORE, f"{missing[0]} is not installed here; it comes with the group dev")
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
            patch.setenv("AWS_ACCESS_KEY_ID", "tester")
            patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            patch.setenv("AWS_MAX_ATTEMPTS", "1")
            client = boto3.client("s3")
            client.create_bucket(Bucket=BUCKET)
            yield Bucket(client)
            client.close()
    finally:
        server.stop()
