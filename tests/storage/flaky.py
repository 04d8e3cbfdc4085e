"""A remote store in memory that fails when told to, and writes down what was asked of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem


class Flaky(AbstractFileSystem):
    """`flaky://bucket/name`. No folders, no rename; an upload is visible when it is complete; `discard` does nothing."""

    protocol = "flaky"
    cachable = False
    store: dict[str, tuple[bytes, datetime]] = {}  # noqa: RUF012  one store for all instances, as a server is
    calls: list[str] = []  # noqa: RUF012
    fail: Callable[[str, int], BaseException | None] = staticmethod(lambda name, n: None)
    cut = 0  # so many answers to come are short

    def _asked(self, name: str) -> None:
        Flaky.calls.append(name)
        error = Flaky.fail(name, Flaky.calls.count(name))
        if error is not None:
            raise error

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        self._asked("info")
        path = self._strip_protocol(path)
        if path in self.store:
            data, time = self.store[path]
            return {
                "name": path,
                "type": "file",
                "size": len(data),
                "LastModified": time,
                "ETag": f'"{hash(data)}"',
            }
        if any(name.startswith(path + "/") for name in self.store):
            return {"name": path, "type": "directory", "size": 0}
        raise FileNotFoundError(path)

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        self._asked("ls")
        root = self._strip_protocol(path) + "/"
        found: dict[tuple[str, str], Any] = {}
        for name, (data, time) in self.store.items():
            if name.startswith(root):
                first, slash, _rest = name[len(root) :].partition("/")
                kind = "directory" if slash else "file"
                found[first, kind] = {
                    "name": root + first,
                    "type": kind,
                    "size": len(data),
                    "LastModified": time,
                }
        if not found:
            raise FileNotFoundError(path)
        return [e if detail else e["name"] for e in found.values()]

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: Any) -> bytes:
        self._asked("cat_file")
        try:
            data = self.store[self._strip_protocol(path)][0][start:end]
        except KeyError as error:
            raise FileNotFoundError(path) from error
        if Flaky.cut:
            Flaky.cut -= 1
            return data[: len(data) // 2]
        return data

    def rm_file(self, path: str) -> None:
        self._asked("rm_file")
        if self.store.pop(self._strip_protocol(path), None) is None:
            raise FileNotFoundError(path)

    def _open(self, path: str, mode: str = "rb", block_size: int = 16, **options: Any) -> Any:
        self._asked("open")
        return _File(self, path, mode, block_size=16, cache_type="none", **options)


class _File(AbstractBufferedFile):
    def _fetch_range(self, start: int, end: int) -> bytes:
        self.fs._asked("fetch")
        data = self.fs.store[self.path][0][start:end]
        if Flaky.cut:
            Flaky.cut -= 1
            return data[: len(data) // 2]
        return data

    def _initiate_upload(self) -> None:
        self.parts: list[bytes] = []

    def _upload_chunk(self, final: bool = False) -> bool:
        self.fs._asked("upload")
        self.buffer.seek(0)
        self.parts.append(self.buffer.read())
        if final:
            self.fs.store[self.path] = (b"".join(self.parts), datetime.now(timezone.utc))
        return True


fsspec.register_implementation("flaky", Flaky, clobber=True)


def put(url: str, data: bytes, age_s: float = 0.0) -> None:
    """An object that somebody else wrote, so long ago."""
    time = datetime.fromtimestamp(datetime.now(timezone.utc).timestamp() - age_s, timezone.utc)
    Flaky.store[url.removeprefix("flaky://")] = (data, time)


def failing(call: str, times: int, error: BaseException) -> None:
    """The next `times` calls of that name raise `error`."""
    Flaky.calls.clear()
    Flaky.fail = staticmethod(lambda name, n: error if name == call and n <= times else None)
