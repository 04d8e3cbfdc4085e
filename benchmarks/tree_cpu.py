"""CPU seconds of this process and of all that it started, by kind of process: what a job on Ray costs, and where."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
#: What the command line of a process of Ray's own holds -> its kind. A worker is `ray::` and the class or function that it
#: is or was last; one that nothing was asked of is `ray::IDLE`.
_RAY = {
    "gcs_server": "gcs",
    "/raylet": "raylet",
    "DashboardAgent": "agents",
    "RuntimeEnvAgent": "agents",
    "dashboard/agent.py": "agents",
    "runtime_env/agent": "agents",
    "dashboard/dashboard.py": "dashboard",
    "log_monitor.py": "log_monitor",
    "monitor.py": "autoscaler",
    "default_worker.py": "idle_workers",
}


class TreeCpu:
    """Looks at this process and its children's children. What a process spent between the last look and its end is lost."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._kinds: dict[int, str] = {}

    def seconds(self) -> Counter[str]:
        """CPU seconds so far by kind, of processes that still run and of those that ended."""
        parents, spent = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended
            pid = int(path.parent.name)
            parents[pid], spent[pid] = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICK
        own = {os.getpid()}
        while own:
            self._seen |= {pid: spent[pid] for pid in own}
            own = {pid for pid, parent in parents.items() if parent in own}
        by_kind: Counter[str] = Counter()
        for pid, seconds in self._seen.items():
            by_kind[self._kind(pid)] += seconds
        return by_kind

    def _kind(self, pid: int) -> str:
        """By the command line, read anew while it may still change: a worker of Ray gets its name from its first task."""
        if self._kinds.get(pid, "idle_workers") == "idle_workers":
            self._kinds.setdefault(pid, "others")
            try:
                command = (
                    Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                return self._kinds[pid]
            self._kinds[pid] = kind_of(command)
        return "driver" if pid == os.getpid() else self._kinds[pid]


def kind_of(command: str) -> str:
    """The kind of a process by its command line: `read` of "ray::Read.step", `raylet` of Ray's own, else "others"."""
    for mark, kind in _RAY.items():
        if mark in command:
            return kind
    if not command.startswith("ray::"):
        return "others"
    name = re.split(r"[ .(]", command.removeprefix("ray::"))[0].strip("_")
    return "idle_workers" if name in ("", "IDLE") else name.lower()
