"""Stores to test against: one that fails when told to, and an S3 server on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import storage
from tests.storage.flaky import Flaky


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    monkeypatch.setattr(storage.RETRIES, "base_s", 0.0)


@pytest.fixture(autouse=True)
def flaky() -> Iterator[type[Flaky]]:
    Flaky.store.clear()
    Flaky.calls.clear()
    Flaky.fail, Flaky.cut = staticmethod(lambda name, n: None), 0
    yield Flaky
    Flaky.fail, Flaky.cut = staticmethod(lambda name, n: None), 0


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of an S3 server of this process."""
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    server = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(scope="session")
def s3_client(s3_server: str) -> Any:
    """What other programs use."""
    import boto3

    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "us-east-1"}
    return boto3.client("s3", endpoint_url=s3_server, **keys)


@pytest.fixture
def s3(s3_server: str, s3_client: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A boto3 client, and an empty bucket called `bucket`, for this process and its children."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    s3_client.create_bucket(Bucket="bucket")
    yield s3_client
    for found in s3_client.list_objects_v2(Bucket="bucket").get("Contents", []):
        s3_client.delete_object(Bucket="bucket", Key=found["Key"])
    s3_client.delete_bucket(Bucket="bucket")
