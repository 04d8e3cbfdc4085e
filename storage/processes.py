"""Which process on which machine, so that another one can tell whether it is still alive."""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from typing import Any


def me() -> dict[str, Any]:
    """This process, as JSON values."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "machine": machine(), "pid": pid, "pid_started": pid_started(pid)}


def machine() -> str:
    """One boot of one machine, and one space of process ids on it (containers have their own)."""
    with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    return f"{socket.gethostname()} {uuid.getnode()}"


def pid_started(pid: int) -> str | None:
    """When a process started, in ticks since the boot; None if it is not there, "" where the system does not say."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, *rest = file.read().rsplit(")", 1)[1].split()
        return None if state in "ZX" else rest[18]
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return None
    except (OSError, IndexError):
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return ""
