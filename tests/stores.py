"""An object store on loopback, and a client of its own that puts and reads objects without our code."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import urllib.request
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
            reset = urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")
            urllib.request.urlopen(reset).close()  # noqa: S310 - all stores of a process have the same objects
            client.create_bucket(Bucket=BUCKET)
            yield Bucket(client)
            client.close()
    finally:
        server.stop()


class CuttingProxy:
    """A connection to the store that ends after ``n_bytes`` of an answer, as often as ``n_cuts`` says."""

    def __init__(self, endpoint: str, n_bytes: int, n_cuts: int) -> None:
        host, _, port = endpoint.removeprefix("http://").partition(":")
        self._target, self._n_bytes, self.n_cuts = (host, int(port)), n_bytes, n_cuts
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._pass, args=(client, server, None), daemon=True).start()
            threading.Thread(target=self._pass, args=(server, client, self._n_bytes), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, limit: int | None) -> None:
        n_passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data)
                n_passed += len(data)
                if limit is not None and n_passed > limit and self.n_cuts:
                    self.n_cuts -= 1
                    break
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
