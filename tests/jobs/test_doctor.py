"""`regionpairs doctor`: every finding has its reason, a fault says what to do, and nothing it looks at can stop it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from jobs import cli, doctor


@pytest.fixture(autouse=True)
def no_ray_address(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def states(look) -> list[tuple[str, str]]:
    return [(f.name, f.state) for f in look]


def test_this_machine_is_well(tmp_path, capsys):
    assert cli.main(["doctor", "--out", str(tmp_path / "new"), "--json"]) == 0
    found = {f["name"]: f for f in json.loads(capsys.readouterr().out)}
    assert {"machine", "libraries", "gpu", "models", "ray", "writing", "[photos]"} <= found.keys()
    assert all(f["detail"] for f in found.values())
    assert "torch" in found["libraries"]["detail"]
    assert not (tmp_path / "new").exists()  # a folder that was not there is not there afterwards
    assert all(f["todo"] for f in found.values() if f["name"].startswith("[") and f["state"] != doctor.OK)


def test_a_folder_that_cannot_be_written_is_a_fault_with_its_reason(tmp_path):
    (tmp_path / "file").write_text("")
    (found,) = doctor._writing(str(tmp_path / "file"))
    assert found.state == doctor.FAULT
    assert found.todo
    assert str(tmp_path) in found.detail


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_a_fault(tmp_path):
    tmp_path.chmod(0o500)
    assert states(doctor._writing(str(tmp_path))) == [("writing", doctor.FAULT)]


def test_writing_leaves_nothing_behind(tmp_path):
    assert states(doctor._writing(str(tmp_path))) == [("writing", doctor.OK)]
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor, "FREE_GB", 1e12)
    assert states(doctor._writing(str(tmp_path))) == [("writing", doctor.FAULT)]


def test_a_cluster_is_asked_for_where_one_is_named(monkeypatch):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        for address in (f"127.0.0.1:{port}", f"ray://127.0.0.1:{port}", f"http://127.0.0.1:{port}"):
            monkeypatch.setenv("RAY_ADDRESS", address)
            assert states(doctor._ray()) == [("ray", doctor.OK)]
    (found,) = doctor._ray()  # nothing listens any more
    assert found.state == doctor.FAULT
    assert str(port) in found.detail
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert states(doctor._ray()) == [("ray", doctor.FAULT)]
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:port")
    assert ("ray", doctor.FAULT) in states(doctor.findings("."))  # no port: the look itself fails


def test_a_look_that_fails_is_a_fault_and_the_others_follow(monkeypatch, tmp_path, capsys):
    def broken():
        raise OSError("the driver\nis odd")

    monkeypatch.setattr(doctor, "_torch", broken)
    assert cli.main(["doctor", "--out", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "fault   broken" in out
    assert "the driver is odd" in out
    assert "writing" in out


def test_missing_libraries_are_faults_and_missing_extras_are_not(monkeypatch):
    version = doctor._version
    monkeypatch.setattr(
        doctor, "_version", lambda n: None if n in ("torch", "ray", "tensorboard") else version(n)
    )
    (libraries,) = doctor._libraries()
    assert (libraries.state, libraries.todo) == (doctor.FAULT, "pip install torch")
    extras = {f.name: f for f in doctor._extras()}
    assert extras["[train]"].state == doctor.ABSENT
    assert "regionpairs[train]" in extras["[train]"].todo
    assert states(doctor._ray()) == [("ray", doctor.ABSENT)]


def test_weights_that_are_pointers_are_a_fault(monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda self: b"version https://git-lfs.github.com/spec/v1")
    assert {f.state for f in doctor._models()} == {doctor.FAULT}
