"""The whole way on this machine: starts Ray, submits the build, verifies the dataset, stops what it started."""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from jobs.page import page_url
from pipeline.dataset.layout import Layout

#: The checkout that this file is a part of, or, where the project is installed, the folder of its packages.
ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_S = 120


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="runs/demo", help="folder of the dataset (default: %(default)s)")
    parser.add_argument("--config", default="demo", help="settings (default: %(default)s)")
    arguments, overrides = parser.parse_known_args()
    for number in (signal.SIGTERM, signal.SIGHUP):  # so that Ray ends with it
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    started = time.monotonic()
    out = Path(arguments.out).resolve()
    # A checkout travels with the job; an installed project is there already.
    upload = ["--working-dir", str(ROOT)] if (ROOT / "pyproject.toml").is_file() else []
    # In a file, no colours, and no time and source line before each of Ray's sentences.
    plain = [] if sys.stdout.isatty() else ["--log-color", "false", "--log-style", "pretty"]
    with head() as (address, environment):
        job = [
            "python",
            "-m",
            "jobs.build_pairs",
            "--config",
            arguments.config,
            "--out",
            str(out),
            *overrides,
        ]
        command = ["ray", "job", "submit", "--address", address, *plain, *upload, "--", *job]
        print("$", " ".join(command), flush=True)
        code = subprocess.run(command, env=environment, cwd=ROOT, check=False).returncode
    if code:
        return code
    print("$ regionpairs verify", out, flush=True)
    cli = [sys.executable, "-m", "jobs.cli"]
    if code := subprocess.run([*cli, "verify", str(out)], cwd=ROOT, check=False).returncode:
        return code
    picture = out.with_name(out.name + ".png")
    view = [*cli, "view", str(out), "--out", str(picture)]
    subprocess.run(view, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    layout = Layout(str(out))
    print(f"all in all {time.monotonic() - started:.0f} s")
    page = Path(page_url(str(out)))
    print(f"report     {page if page.exists() else 'none; the log above says why'}")
    print(f"picture    {picture}")
    print(f"look       {Path(sys.executable).parent / 'regionpairs'} view {out}")
    print(f"           {Path(sys.executable).parent / 'regionpairs'} pool show {layout.pool}")
    return 0


@contextlib.contextmanager
def head() -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray head of our own on free ports: its dashboard address and the environment of its clients."""
    folder = tempfile.mkdtemp(prefix="rp-", dir="/tmp")  # a short path: Ray puts unix sockets below it
    dashboard = free_port()
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DEDUP_LOGS": "0",
        # .gitignore and .rayignore say what stays here; Ray's own list would be a warning for each entry of it
        "RAY_OVERRIDE_RUNTIME_ENV_DEFAULT_EXCLUDES": "",
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("RAY_ADDRESS", None)
    ports = {
        "--port": free_port(),
        "--dashboard-port": dashboard,
        "--ray-client-server-port": free_port(),
        "--dashboard-agent-listen-port": free_port(),
        "--dashboard-agent-grpc-port": free_port(),
        "--metrics-export-port": free_port(),
    }
    command = ["ray", "start", "--head", "--block", "--include-dashboard=true", "--temp-dir", folder]
    command += ["--node-ip-address=127.0.0.1", *(f"{k}={v}" for k, v in ports.items())]
    log = Path(folder, "head.log").open("w")  # noqa: SIM115 - closed below, after the process that writes it
    process = subprocess.Popen(
        command, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        print(f"starting Ray on this machine (its files: {folder})", flush=True)
        wait_for(dashboard, process, Path(folder, "head.log"))
        yield f"http://127.0.0.1:{dashboard}", environment
    finally:
        process.send_signal(signal.SIGTERM)  # `ray start --block` ends what it started, and nothing else
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    """Returns once something listens on the port. Raises RuntimeError if the process ends or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.5)
    raise RuntimeError(f"Ray did not start:\n{log.read_text()[-2000:]}")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


if __name__ == "__main__":
    raise SystemExit(main())
