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
    """Looks at this process and its children's children. What a process spent between the last look and its end is lost.

    running: how many of them the last look saw, without this process; zombies count.
    """

    def __init__(self) -> None:
        self.running = 0
        self._seen: dict[tuple[int, int], float] = {}
        self._kinds: dict[tuple[int, int], str] = {}

    def seconds(self) -> Counter[str]:
        """CPU seconds so far by kind, of processes that still run and of those that ended."""
        return self.between({}, self.look())

    def between(
        self, before: dict[tuple[int, int], float], after: dict[tuple[int, int], float]
    ) -> Counter[str]:
        """CPU seconds from one look to another, by the kinds that the processes have by now.

        A worker of Ray that got its name meanwhile has started, with all its imports, before that: a difference of two
        `seconds` would count the start too, under the new name.
        """
        by_kind: Counter[str] = Counter()
        for process, seconds in after.items():
            by_kind[self._kind(process)] += seconds - before.get(process, 0.0)
        return by_kind

    def look(self) -> dict[tuple[int, int], float]:
        """CPU seconds so far of each process, those that ended with what the last look saw."""
        parents, starts, spent = {}, {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it ended
            pid = int(path.parent.name)
            parents[pid], starts[pid] = int(fields[1]), int(fields[19])
            spent[pid] = (int(fields[11]) + int(fields[12])) / _TICK
        own, self.running = {os.getpid()}, -1
        while own:
            self.running += len(own)
            self._seen |= {(pid, starts[pid]): spent[pid] for pid in own}
            own = {pid for pid, parent in parents.items() if parent in own}
        for process in self._seen:
            self._kind(process)  # while it runs: later there is nothing to read
        return self._seen.copy()

    def _kind(self, process: tuple[int, int]) -> str:
        """By the command line, read anew while it may still change: a worker of Ray gets its name from its first task."""
        pid, _ = process
        if self._kinds.get(process, "idle_workers") == "idle_workers":
            self._kinds.setdefault(process, "others")
            try:
                command = (
                    Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
            except OSError:
                return self._kinds[process]
            self._kinds[process] = kind_of(command)
        return "driver" if pid == os.getpid() else self._kinds[process]


def kind_of(command: str) -> str:
    """The kind of a process by its command line: `read` of "ray::Read.step", `raylet` of Ray's own, else "others"."""
    for mark, kind in _RAY.items():
        if mark in command:
            return kind
    if not command.startswith("ray::"):
        return "others"
    name = re.split(r"[ .(]", command.removeprefix("ray::"))[0].strip("_")
    return "idle_workers" if name in ("", "IDLE") else name.lower()
