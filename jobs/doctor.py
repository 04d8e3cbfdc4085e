"""`regionpairs doctor`: what is installed and what works here, each with the reason and what to do about it."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from jobs.look_commands import add_json

#: Seconds that a Ray head has to answer.
ANSWER_S = 3.0
#: Free space under which a build is likely to fail.
FREE_GB = 1.0
OK, ABSENT, FAULT = "ok", "absent", "fault"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. state: ok | absent (needed only by who asks for it) | fault. todo: what to do."""

    name: str
    state: str
    detail: str
    todo: str = ""


def add_to(commands: Any) -> None:
    """The command, as a parser of `commands` (argparse's subparsers); it sets `run` to its function."""
    command = commands.add_parser("doctor", help="what is installed and what works here, and what to do")
    command.set_defaults(run=doctor)
    command.add_argument("--out", default=".", help="folder or URL to try to write to (default: here)")
    add_json(command)


def doctor(out: str, as_json: bool) -> int:
    """Looks at everything; 0: nothing is at fault; 1: something is."""
    found = list(findings(out))
    if as_json:
        print(json.dumps([asdict(f) for f in found]))
    else:
        for f in found:
            print(f"{f.state:<7} {f.name:<12} {f.detail}" + (f"\n{'':21}-> {f.todo}" if f.todo else ""))
    return 1 if any(f.state == FAULT for f in found) else 0


def findings(out: str) -> Iterator[Finding]:
    """All that is looked at, one after the other. What raises is a fault, and the rest is still looked at."""
    looks: list[Callable[[], Iterator[Finding]]] = [
        _machine, _libraries, _torch, _models, _extras, _ray, lambda: _writing(out),
    ]  # fmt: skip
    for look in looks:
        try:
            yield from look()
        except Exception as e:  # noqa: BLE001 - a look that fails is what the doctor is for
            name = getattr(look, "__name__", "").strip("_") or "look"
            yield Finding(name, FAULT, f"{type(e).__name__}: {' '.join(str(e).split())[:300]}")


def _machine() -> Iterator[Finding]:
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    detail = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("machine", OK, f"{detail}, {cpus} CPUs, {memory:.1f} GiB of memory")


def _requirements() -> Iterator[tuple[str, str]]:
    """(extra, distribution) of the project's own requirements; extra "" is what everybody needs."""
    for text in importlib.metadata.requires("regionpairs") or []:
        name = re.match(r"[\w.-]+", text)
        extra = re.search(r"""extra\s*==\s*['"]([\w.-]+)['"]""", text)
        if name and name[0] != "regionpairs":
            yield (extra[1] if extra else ""), name[0]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _libraries() -> Iterator[Finding]:
    versions = {name: _version(name) for extra, name in _requirements() if not extra}
    if missing := [name for name, version in versions.items() if not version]:
        detail = f"missing: {', '.join(missing)}"
        yield Finding("libraries", FAULT, detail, f"pip install {' '.join(missing)}")
        return
    own = _version("regionpairs")
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield Finding("libraries", OK, f"regionpairs {own}; {listed}")


def _torch() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            memory = torch.cuda.get_device_properties(i).total_memory / 2**30
            yield Finding("gpu", OK, f"cuda:{i} {torch.cuda.get_device_name(i)}, {memory:.0f} GiB")
    elif not torch.version.cuda:
        why = f"torch {torch.__version__} is a CPU-only build; models run on the CPU"
        yield Finding(
            "gpu", ABSENT, why, "for a GPU: install torch as pytorch.org says for your CUDA version"
        )
    elif not shutil.which("nvidia-smi"):
        yield Finding("gpu", ABSENT, "no NVIDIA driver on this machine; models run on the CPU")
    else:
        why = f"a driver is there, and torch {torch.__version__} (CUDA {torch.version.cuda}) finds no device"
        todo = "run nvidia-smi; look at CUDA_VISIBLE_DEVICES; the driver may be older than torch's CUDA"
        yield Finding("gpu", FAULT, why, todo)


def _models() -> Iterator[Finding]:
    """The weights that ship with the package: a checkout without them (git-lfs pointers, say) is of no use."""
    from importlib import resources

    for package in ("pipeline.localizers", "pipeline.teachers"):
        folder = resources.files(package)
        files = [
            *folder.iterdir(),
            *((folder / "weights").iterdir() if (folder / "weights").is_dir() else []),
        ]
        weights = [f for f in files if f.name.endswith(".safetensors")]
        small = [f.name for f in weights if len(f.read_bytes()) < 1000]
        if not weights or small:
            detail = f"{package}: {', '.join(small) or 'no weights'}"
            yield Finding("models", FAULT, detail, "install the package again, or `git lfs pull`")
        else:
            yield Finding("models", OK, f"{package}: {', '.join(sorted(f.name for f in weights))}")


def _extras() -> Iterator[Finding]:
    extras: dict[str, list[str]] = {}
    for extra, name in _requirements():
        if extra not in ("", "all", "dev"):
            extras.setdefault(extra, []).append(name)
    for extra, names in extras.items():
        versions = {name: _version(name) for name in names}
        missing = [name for name, version in versions.items() if not version]
        if missing:
            todo = f"if you need it: pip install 'regionpairs[{extra}]'"
            yield Finding(f"[{extra}]", ABSENT, f"missing: {', '.join(missing)}", todo)
        else:
            yield Finding(f"[{extra}]", OK, ", ".join(f"{n} {v}" for n, v in versions.items()))


def _ray() -> Iterator[Finding]:
    if not _version("ray"):
        yield Finding(
            "ray", ABSENT, "not installed; --runtime local needs none", "pip install 'regionpairs[ray]'"
        )
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        detail = "RAY_ADDRESS is not set: a job starts a private Ray on this machine"
        yield Finding("ray", OK, detail)
        return
    if address == "auto":
        todo = "set RAY_ADDRESS to the head's address, or unset it"
        yield Finding("ray", FAULT, "RAY_ADDRESS is 'auto', which joins any cluster that is found", todo)
        return
    host, port = _place(address)
    try:
        socket.create_connection((host, port), timeout=ANSWER_S).close()
        yield Finding("ray", OK, f"something answers at RAY_ADDRESS {address}")
    except OSError as e:
        todo = "is the head running (`ray status`)? Is the port open? Else unset RAY_ADDRESS"
        yield Finding("ray", FAULT, f"RAY_ADDRESS {address} does not answer: {e}", todo)


def _place(address: str) -> tuple[str, int]:
    """Host and port of 10.0.0.1:6379, ray://10.0.0.1:10001 or http://10.0.0.1:8265."""
    parsed = urllib.parse.urlsplit(address if "://" in address else f"//{address}")
    ports = {"http": 8265, "https": 443, "ray": 10001}
    return parsed.hostname or "", parsed.port or ports.get(parsed.scheme, 6379)


def _writing(out: str) -> Iterator[Finding]:
    """Whether a small file can be written, read and removed at `out`, and how much room there is."""
    import storage

    url = storage.absolute(out)
    name = storage.join(url, f"{storage.TEMPORARY}doctor-{os.getpid()}")
    there = storage.exists(url)
    try:
        storage.write_bytes(name, b"regionpairs")
        same = storage.read_bytes(name) == b"regionpairs"
        storage.remove(name)
    except (OSError, ValueError, ImportError) as e:
        todo = "choose another --out, or ask for the right to write there"
        yield Finding("writing", FAULT, f"{url}: {type(e).__name__}: {' '.join(str(e).split())[:300]}", todo)
        return
    if not same:
        yield Finding("writing", FAULT, f"{url}: what was written is not what is read")
        return
    if not storage.is_local(url):
        yield Finding("writing", OK, f"{url}: written, read and removed")
        return
    free = shutil.disk_usage(url).free / 1e9
    if not there:
        os.rmdir(url)
    todo = "" if free >= FREE_GB else "make room: an image takes its own size and about 20 kB"
    yield Finding("writing", OK if free >= FREE_GB else FAULT, f"{url}: writable, {free:.1f} GB free", todo)
