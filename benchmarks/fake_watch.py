"""What happens on a cluster of `benchmarks/fake_nodes.py`: its nodes over time, and where actors are."""

from __future__ import annotations

import csv
import logging
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.fake_nodes import wait_until


class Watch:
    """Looks at the cluster's nodes, and where our workers are, twice a second."""

    def __init__(self, environment: dict[str, str]):
        self.rows: list[tuple[float, Counter[str]]] = []
        self.marks: list[tuple[float, str]] = []
        self._environment = environment
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._on_head: set[str] = set()

    def __enter__(self) -> Watch:
        for name in ("RAY_AUTH_MODE", "RAY_raylet_start_wait_time_s"):
            os.environ[name] = self._environment[name]  # Ray reads them while it is imported
        import ray

        wait_until(lambda: _joins(self._environment["RAY_ADDRESS"]), 120)
        self._ray, self._started = ray, time.monotonic()
        self._thread.start()
        wait_until(lambda: self.rows and self.now()["cpu_worker"], 120)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._ray.shutdown()

    @property
    def actors_on_head(self) -> list[str]:
        """The classes of actors that ran on the head."""
        return sorted(self._on_head)

    def now(self) -> Counter[str]:
        return self.rows[-1][1]

    def most(self) -> dict[str, int]:
        return {
            name: max(nodes[name] for _, nodes in self.rows) for name in ("head", "cpu_worker", "gpu_worker")
        }

    def says(self, mark: str) -> None:
        """Something that happens now."""
        self.marks.append((time.monotonic() - self._started, mark))
        print(f"{self.marks[-1][0]:6.1f} s  {mark}", file=sys.stderr, flush=True)

    def nodes_of(self, actor: str, kind: str = "") -> list[dict[str, Any]]:
        """Nodes, of a type, that hold an actor of this class."""
        busy = {
            a["Address"]["NodeID"] for a in _actors() if a["State"] == "ALIVE" and _class(a).endswith(actor)
        }
        return [node for node in self._nodes() if kind in ("", _type(node)) and node["NodeID"] in busy]

    def _nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _look(self) -> None:
        while not self._over.wait(0.5):
            nodes = self._nodes()
            self.rows.append((time.monotonic() - self._started, Counter(map(_type, nodes))))
            heads = {node["NodeID"] for node in nodes if _type(node) == "head"}
            alive = [
                actor for actor in _actors() if actor["State"] == "ALIVE"
            ]  # one that waits has its driver's node
            self._on_head |= {_class(a) for a in alive if a["Address"]["NodeID"] in heads}

    def write(self, folder: Path) -> None:
        """The nodes over time as CSV and as a plot."""
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt

        folder.mkdir(parents=True, exist_ok=True)
        types = list(self.most())
        with (folder / "fake_cluster.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["s", *types])
            last: list[int] = []
            for s, nodes in self.rows:
                if (row := [nodes[name] for name in types]) != last:  # where something changes
                    writer.writerow([round(s, 1), *row])
                last = row
        figure, axes = plt.subplots(figsize=(8, 3))
        for name in types:
            axes.step(
                [s for s, _ in self.rows], [nodes[name] for _, nodes in self.rows], where="post", label=name
            )
        for s, mark in self.marks:
            axes.axvline(s, color="grey", linewidth=0.6)
            axes.annotate(mark, (s, axes.get_ylim()[1]), rotation=30, fontsize=7)
        axes.set_xlabel("s")
        axes.set_ylabel("nodes")
        axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
        figure.savefig(folder / "fake_cluster.png", dpi=100, bbox_inches="tight")


def _joins(address: str) -> bool:
    import ray

    try:
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError):
        time.sleep(1)
        return False
    return True


def _actors() -> list[dict[str, Any]]:
    from ray._private.state import actors

    return list(actors().values())


def _class(actor: dict[str, Any]) -> str:
    return str(actor["ActorClassName"]).rsplit(".", 1)[-1]


def _type(node: dict[str, Any]) -> str:
    """The type of a node, by what it has: the head has no CPUs."""
    resources = node["Resources"]
    return "gpu_worker" if resources.get("GPU") else "cpu_worker" if resources.get("CPU") else "head"
