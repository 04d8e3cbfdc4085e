"""The one connection to Ray, and the one look at what its nodes have installed."""

from __future__ import annotations

import logging
import os
import platform
import time
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, NodeDiedError, TaskUnschedulableError, WorkerCrashedError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline import fingerprint

log = logging.getLogger("regionpairs")

#: Seconds in which every node of a cluster must say what it has installed.
ANSWER_S = 120


class NoRay(OSError):
    """Ray could not be started or joined. advice: what to do."""

    def __init__(self, what: str, advice: str = ""):
        super().__init__(what)
        self.advice = advice


def connect(address: str | None = None, without: str = "--runtime=local") -> None:
    """Joins the cluster at `address`, else the one of RAY_ADDRESS (Ray sets it inside a submitted job), else starts a
    private Ray on this machine, without a dashboard. A cluster that it was not told of is never joined.

    Raises ValueError for the address `auto`, which means "any cluster that is found", and for a node whose libraries
    are not this process' own; NoRay, whose advice names the flag `without` that needs no Ray, where Ray does not start or
    cannot be reached. A second call does nothing.
    """
    if ray.is_initialized():
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    if address == "auto":
        raise ValueError("RAY_ADDRESS: 'auto' joins any cluster that is found; name one, or unset it")
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, log_to_driver=True, logging_level=logging.WARNING, **options)
    except (ValueError, ImportError):
        raise  # an address or a setting of Ray's that is wrong
    except Exception as e:
        # Ray has no class of its own for this: GetTimeoutError, ConnectionError, RuntimeError, a bare Exception
        why = " ".join(f"{type(e).__name__}: {e}".split())[:600]
        what = "Ray did not start on this machine" if address == "local" else f"no Ray answers at {address}"
        advice = f"the same command tries again; {without} does the work in this process, without Ray"
        raise NoRay(f"{what}: {why}", advice) from e
    if address != "local":
        check_versions()


def most_resources() -> dict[str, float]:
    """What the cluster has of each resource, or what its autoscaler may bring it to, where Ray tells."""
    found = dict(ray.cluster_resources())
    try:
        from ray._private.state import state

        limits = state.get_max_resources_from_cluster_config() or {}
    except Exception:  # noqa: BLE001 - not part of Ray's public interface, and only a better guess
        limits = {}
    for name, amount in limits.items():
        found[name] = max(found.get(name, 0.0), min(float(amount), 1e6))
    return found


def check_versions() -> None:
    """Asks every node of the cluster for its `versions`. Raises ValueError naming each node and what differs on it.

    A node that goes meanwhile, as an autoscaler takes away what is idle, is left out: workers look for themselves anyway
    (`check_here`).
    """
    task = ray.remote(num_cpus=0, max_retries=0)(versions)
    nodes = [node for node in ray.nodes() if node["Alive"]]
    answers = [
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote()
        for node in nodes
    ]
    ours = versions()
    lines = []
    deadline = time.monotonic() + ANSWER_S
    for node, answer in zip(nodes, answers, strict=True):
        try:
            theirs = ray.get(answer, timeout=max(0.0, deadline - time.monotonic()))
        except GetTimeoutError as e:
            where = f"node {node['NodeManagerAddress']}"
            raise NoRay(
                f"{where} did not say in {ANSWER_S} s what it has installed", "is it overloaded?"
            ) from e
        except (TaskUnschedulableError, NodeDiedError, WorkerCrashedError) as e:
            log.info("node %s went while it was asked for its versions: %s", node["NodeID"], e)
            continue
        lines += [f"node {node['NodeManagerAddress']}: {line}" for line in differences(theirs, ours)]
    if lines:
        raise ValueError("; ".join(lines))


def check_here(driver: dict[str, str | None]) -> None:
    """For a worker of a node that may have joined later: raises ValueError unless `versions` are the driver's."""
    if lines := differences(versions(), driver):
        raise ValueError(f"node {platform.node()}: {'; '.join(lines)}")


def versions() -> dict[str, str | None]:
    """What changes bytes on this machine: Python, the libraries of the fingerprint, and this project's own code."""
    return {"code": fingerprint.code_hash(), **fingerprint.libraries()}


def differences(theirs: dict[str, str | None], ours: dict[str, str | None]) -> list[str]:
    """One line for each version that differs: "torch is 2.6.0, the driver's is 2.7.1"."""
    return [
        f"{name} is {theirs.get(name) or 'missing'}, the driver's is {ours.get(name) or 'missing'}"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    ]
