"""Files of one place as files of another."""

from __future__ import annotations

import contextlib
import os
import shutil

from storage.atomic import atomic_write, temporary_name
from storage.location import absolute, is_local
from storage.reading import open_read

_CHUNK = 8 << 20


def link_or_copy(source: str, target: str) -> None:
    """A file under another name, whole or not at all: a second name of the same bytes where one file system holds both.

    Files that this program writes are replaced, never changed, so a second name is as good as a copy.
    """
    if is_local(source) and is_local(target) and _linked(absolute(source), absolute(target)):
        return
    with open_read(source) as file, atomic_write(target) as copy:
        shutil.copyfileobj(file, copy, _CHUNK)


def _linked(source: str, target: str) -> bool:
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    temporary = os.path.join(folder, temporary_name(name))
    try:
        os.link(source, temporary)
        os.replace(temporary, target)  # does nothing where both are names of one file already
        return True
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without links
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
