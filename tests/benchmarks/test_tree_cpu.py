"""CPU seconds by kind of process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.tree_cpu import TreeCpu, kind_of


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        ("ray::Read.step", "read"),
        ("ray::FreeAnnotate", "freeannotate"),
        ("ray::_apply()", "apply"),
        ("ray::IDLE", "idle_workers"),
        ("/bin/python -u /lib/ray/_private/workers/default_worker.py --node-ip-address=1", "idle_workers"),
        ("/lib/ray/core/src/ray/raylet/raylet --raylet_socket_name=/tmp/x", "raylet"),
        ("/lib/ray/core/src/ray/gcs/gcs_server --log_dir=/tmp/x", "gcs"),
        ("/bin/python -u /lib/ray/dashboard/agent.py --node-ip-address=1", "agents"),
        ("ray::DashboardAgent     ", "agents"),
        ("/bin/sh -c something", "others"),
    ],
)
def test_a_process_is_known_by_its_command(command, kind):
    assert kind_of(command) == kind


def test_seconds_of_a_child_count_while_it_runs_and_after_it_ended():
    cpu = TreeCpu()
    before = cpu.seconds()
    work = "import sys; sum(range(10**7)); print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        child.stdout.readline()
        during = cpu.seconds() - before
    assert during["others"] >= 0.05
    assert (cpu.seconds() - before)["others"] >= during["others"]
    assert "driver" in cpu.seconds()


def test_what_a_worker_spent_before_it_had_its_name_is_not_counted_under_it(monkeypatch):
    cpu = TreeCpu()
    kinds = {(7, 1): "idle_workers", (8, 1): "raylet"}
    monkeypatch.setattr(cpu, "_kind", kinds.__getitem__)
    before, after = {(7, 1): 2.0, (8, 1): 0.5}, {(7, 1): 2.25, (8, 1): 0.75, (9, 1): 0.5}
    kinds |= {(7, 1): "read", (9, 1): "read"}  # it is called so now; another one was started since
    assert cpu.between(before, after) == {"read": 0.75, "raylet": 0.25}
