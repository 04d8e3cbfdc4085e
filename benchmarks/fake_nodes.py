"""Ray's autoscaler with its fake multi-node provider on one machine: a head, and nodes that are processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from jobs.demo import free_port

ROOT = Path(__file__).resolve().parents[1]
OBJECT_STORE = 128 * 2**20
#: Seconds of nothing after which the autoscaler takes a node away: more than a job needs to start, so that the next one
#: finds it.
IDLE_S = 20.0
#: Times that the head may fail to start.
TRIES = 3


@contextlib.contextmanager
def cluster() -> Iterator[dict[str, str]]:
    """A head with an autoscaler, on ports and in a folder of its own; the environment of its clients."""
    folder = tempfile.mkdtemp(prefix="rp-", dir="/tmp")  # a short path: Ray puts unix sockets below it
    address = f"127.0.0.1:{free_port()}"
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        "RAY_raylet_start_wait_time_s": "120", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    environment.pop("RAY_ADDRESS", None)
    config = Path(folder, "cluster.yaml")
    config.write_text(yaml.safe_dump(configuration(address)))
    command = [
        "ray",
        "start",
        "--head",
        "--block",
        "--include-dashboard=false",
        "--num-cpus=0",
        "--num-gpus=0",
    ]
    command += [
        f"--object-store-memory={OBJECT_STORE}",
        "--temp-dir",
        folder,
        f"--autoscaling-config={config}",
    ]
    command += ["--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}"]
    command += [f"--{name}={free_port()}" for name in ("ray-client-server-port", "metrics-export-port")]
    try:
        with _started(command, environment, Path(folder, "head.log")):
            yield {**environment, "RAY_ADDRESS": address}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _started(command: list[str], environment: dict[str, str], log: Path) -> Iterator[None]:
    """The head, up, and ended afterwards, also where this program is told to stop while it starts. Ray gives its
    processes 30 seconds, which a busy machine may need more than once."""
    for _ in range(TRIES):
        with log.open("w") as file:
            head = subprocess.Popen(
                command, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )
        try:
            wait_until(partial(_is_up, head, log), 180)
            if head.poll() is None:
                yield
                return
        finally:
            _end(head, str(log.parent))
    raise RuntimeError(f"the head does not start: {log.read_text()[-2000:]}")


def _end(head: subprocess.Popen[bytes], folder: str) -> None:
    """`ray start --block` ends what it started, and nothing else; one that is still starting leaves some of it behind."""
    head.send_signal(signal.SIGTERM)
    try:
        head.wait(30)
    except subprocess.TimeoutExpired:
        head.kill()  # it starts nothing more
        head.wait()
    end_what_is_left(folder)


def _is_up(head: subprocess.Popen[bytes], log: Path) -> bool:
    """Whether it is up, or has given up."""
    return head.poll() is not None or "will now block" in log.read_text()


def configuration(address: str) -> dict[str, Any]:
    """The node types of `ray_cluster.yaml` with two CPUs a node, at most two nodes a type."""
    types: dict[str, Any] = {}
    for name, kind in yaml.safe_load((ROOT / "ray_cluster.yaml").read_text())["available_node_types"].items():
        resources = {key: min(2, amount) for key, amount in kind["resources"].items()}
        types[name] = {"resources": resources, "node_config": {}, "max_workers": 0}
        if name != "head":
            resources["object_store_memory"] = OBJECT_STORE
            types[name] |= {"min_workers": kind["min_workers"], "max_workers": min(2, kind["max_workers"])}
    types["ray.head.default"] = types.pop("head")  # the provider's name for it
    provider = {
        "type": "fake_multinode", "disable_node_updaters": True, "disable_launch_config_check": True,
        "gcs_address": address, "use_node_id_as_ip": True,
    }  # fmt: skip
    return {
        "cluster_name": "fake", "max_workers": 4, "upscaling_speed": 1.0, "idle_timeout_minutes": IDLE_S / 60,
        "provider": provider, "auth": {}, "available_node_types": types, "head_node_type": "ray.head.default",
        "file_mounts": {}, "cluster_synced_files": [], "file_mounts_sync_continuously": False, "rsync_exclude": [],
        "rsync_filter": [], "initialization_commands": [], "setup_commands": [], "head_setup_commands": [],
        "worker_setup_commands": [], "head_start_ray_commands": [], "worker_start_ray_commands": [], "docker": {},
    }  # fmt: skip


def end_what_is_left(folder: str) -> None:
    """Ends processes that belong to the cluster in this folder: its worker nodes live without the head for a while. Looks
    again until there are none: a process may have started another meanwhile."""

    def none_left() -> bool:
        found = [
            pid
            for pid, words in processes()
            if any(f"{folder}/session_" in word for word in words) and pid != os.getpid()
        ]
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return not found

    wait_until(none_left, 30)


def raylet_of(node: dict[str, Any]) -> int:
    """The process id of a node's raylet, by the name of its socket."""
    for pid, words in processes():
        if Path(words[0]).name == "raylet" and any(node["RayletSocketName"] in word for word in words):
            return pid
    raise LookupError(f"no raylet of node {node['NodeID']}")


def processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            yield int(entry.name), (entry / "cmdline").read_bytes().decode().split("\0")


def wait_until(condition: Callable[[], Any], seconds: float) -> None:
    """Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(0.2)
