"""An S3 server on loopback, one that fails, and the same small input in a folder and in a bucket."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest

import storage
from pipeline.sources.settings import SourceSettings
from tests import pictures
from tests.pipeline import worlds
from tests.reliability.faulty_s3 import FaultyS3
from tests.storage.conftest import s3, s3_client, s3_server  # noqa: F401  fixtures

#: Tars of the input, and samples in each.
TARS, SAMPLES = 2, 6


logging.getLogger("werkzeug").setLevel(logging.ERROR)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly any pause between attempts, and more of them: an operation of three requests, of which a third fails, takes
    a second attempt in two cases of three."""
    monkeypatch.setattr(storage.RETRIES, "base_s", 0.005)
    monkeypatch.setattr(storage.RETRIES, "attempts", 15)
    monkeypatch.setattr(storage.RETRIES, "longest_s", 0.2)


@pytest.fixture
def input_folder(tmp_path: Path) -> Path:
    """Two tars of six pictures in two folders; both have the same base name, and so do their members."""
    for part in range(TARS):
        folder = tmp_path / "input" / f"part{part}"
        folder.mkdir(parents=True)
        samples = []
        for i in range(SAMPLES):
            word, thing = worlds.WORDS[i % 3], worlds.THINGS[i % 3]
            image = pictures.encode(pictures.photo(40, 30, seed=SAMPLES * part + i))
            samples.append((f"{i:06d}", "jpg", image, f"a {word} {thing} on a table"))
        worlds.tar_file(folder / "00000.tar", samples)
    return tmp_path / "input"


def source_at(root: str) -> SourceSettings:
    return SourceSettings(kind="webdataset", urls=[f"{root}/part{i}/00000.tar" for i in range(TARS)])


def upload(client: Any, folder: Path, prefix: str) -> str:
    """A copy of a folder in the bucket; its URL."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.put_object(
                Bucket="bucket", Key=f"{prefix}/{path.relative_to(folder)}", Body=path.read_bytes()
            )
    return f"s3://bucket/{prefix}"


def objects(client: Any, prefix: str, folder: str = "") -> dict[str, bytes]:
    """Name below the prefix -> bytes, past every layer of ours."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=f"{prefix}/{folder}")
    names = [o["Key"] for page in pages for o in page.get("Contents", [])]
    return {n[len(prefix) + 1 :]: client.get_object(Bucket="bucket", Key=n)["Body"].read() for n in names}


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


#: Written once a run with the time it took or the place where it lies: not compared byte for byte.
VARIABLE = (
    "settings.yaml",
    "summary.json",
    "plan/units.parquet",
    "plan/plan.json",
    "plan/units/",
    "manifest/",
)


def comparable(found: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in found.items() if not name.startswith(VARIABLE)}


@pytest.fixture
def faulty(
    s3_server: str,  # noqa: F811
    s3: Any,  # noqa: F811
    quick: None,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[..., FaultyS3]]:
    """`faulty(seed, share)`: from now on this process and its children speak to a server that fails.

    Neither botocore nor s3fs tries anything again: all of it reaches the storage layer.
    """
    import s3fs

    running: list[FaultyS3] = []

    def start(seed: int = 0, share: float = 0.25, stall_share: float = 0.01) -> FaultyS3:
        running.append(FaultyS3(s3_server, seed, share, stall_share))
        monkeypatch.setenv("AWS_ENDPOINT_URL", running[-1].url)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        monkeypatch.setenv("FSSPEC_S3", '{"config_kwargs": {"read_timeout": 1}}')
        monkeypatch.setitem(fsspec.config.conf, "s3", {"config_kwargs": {"read_timeout": 1}})
        monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
        s3fs.S3FileSystem.clear_instance_cache()
        return running[-1]

    yield start
    for server in running:
        server.close()
    s3fs.S3FileSystem.clear_instance_cache()
