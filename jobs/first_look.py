"""What a job can say about its settings before it loads torch, which takes many seconds: is there what they name, and may
the job write where they say?"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable


def look(datasets: Iterable[str] = (), files: Iterable[tuple[str, str | None]] = (), out: str = "") -> None:
    """Raises what the job itself would raise later.

    datasets: folders or URLs of datasets; only whether one is there, in this program's format. files: (key, location) of
    files or folders; nothing given is no fault, and a web server is not asked: it need not show a folder whose files it
    serves. out: where the job writes.
    """
    import storage
    from pipeline.dataset import check_format
    from pipeline.dataset.layout import Layout

    for url in datasets:
        check_format(Layout(storage.absolute(url)))
    for key, named in files:
        on_the_web = named and storage.protocol(named) in ("http", "https")
        if named and not on_the_web and not storage.exists(storage.absolute(named)):
            raise FileNotFoundError(f"{key}: no such file: {storage.redacted(named)}")
    if out and storage.is_local(out):
        _check_writable(storage.absolute(out))


def _check_writable(path: str) -> None:
    """Raises NotADirectoryError or PermissionError for a place where this user can make no file."""
    folder = path
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if os.path.isfile(folder):
        if folder != path:
            raise NotADirectoryError(errno.ENOTDIR, "is a file; a folder is needed", folder)
        folder = os.path.dirname(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "this user may not write there", folder)
