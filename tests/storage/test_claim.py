"""One writer a folder: refusal, take-over, heartbeat, loss, and processes that race."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

import storage
from storage import atomic, claim, processes
from tests.storage.flaky import Flaky, failing, put

OWNER = {"program": "build_pairs"}


@pytest.fixture(params=["local", "memory://claims/out", "flaky://bucket/out"])
def folder(request, tmp_path):
    url = str(tmp_path / "out") if request.param == "local" else request.param
    yield url
    for name in storage.tree(url):
        storage.remove(storage.join(url, name))


def _document(folder):
    return json.loads(storage.read_bytes(storage.join(folder, ".claim.json")))


def _foreign(folder, age_s=0.0, **fields):
    """A claim that another machine wrote so long ago."""
    document = {
        "token": "t" * 32,
        "host": "elsewhere",
        "machine": "another",
        "pid": 1,
        "started": "2026-01-01",
        **fields,
    }
    data = json.dumps({**OWNER, **document}).encode()
    url = storage.join(folder, ".claim.json")
    if folder.startswith("flaky"):
        put(url, data, age_s)
    else:
        storage.write_bytes(url, data)
        os.utime(url, (time.time() - age_s,) * 2)


def test_a_claim_is_held_and_given_back(folder):
    with storage.Claim.acquire(folder, OWNER) as held:
        held.check()
        assert storage.claim_token(folder) == held.token
        storage.require_claim(folder, held.token)
        document = _document(folder)
        assert document["program"] == "build_pairs"
        assert (document["pid"], document["token"]) == (os.getpid(), held.token)
        assert {"host", "started"} <= document.keys()
        held.beat()
    assert storage.claim_token(folder) is None
    assert storage.tree(folder) == {}
    held.release()
    with pytest.raises(storage.ClaimLost, match="nobody holds it"):
        storage.require_claim(folder, held.token)


def test_a_second_writer_is_refused_in_one_line_that_says_who_and_since_when(folder):
    with storage.Claim.acquire(folder, OWNER) as held:
        with pytest.raises(
            ValueError, match=r"build_pairs \(host .*, pid \d+\) writes here since .* \d+ s ago"
        ) as refused:
            storage.Claim.acquire(folder, {"program": "relabel"})
        assert isinstance(refused.value, storage.Claimed)
        assert "\n" not in str(refused.value)
        assert folder in str(refused.value)
        held.check()
    with storage.Claim.acquire(folder, OWNER):
        pass


def test_of_many_threads_one_gets_the_claim(folder):
    gate, won, refused = threading.Barrier(6), [], []

    def take():
        gate.wait()
        try:
            won.append(storage.Claim.acquire(folder, OWNER))
        except storage.Claimed as error:
            refused.append(error)

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not folder.startswith("flaky"):  # this store knows no exclusive creation
        assert (len(won), len(refused)) == (1, 5)
    for held in won:
        held.release()


@pytest.mark.parametrize("store", ["local", "flaky"])
@pytest.mark.parametrize("age_s", [5.0, 3600.0])
def test_a_claim_of_another_machine_is_taken_over_when_it_is_silent_for_long(store, age_s, tmp_path):
    folder = str(tmp_path) if store == "local" else "flaky://bucket/out"
    _foreign(folder, age_s)
    if age_s < claim.CLAIMS.stale_s:
        with pytest.raises(storage.Claimed, match="elsewhere"):
            storage.Claim.acquire(folder, OWNER)
    else:
        with storage.Claim.acquire(folder, OWNER) as held:
            assert storage.claim_token(folder) == held.token
        assert storage.tree(folder) == {}


def test_a_heartbeat_keeps_an_old_claim_alive():
    _foreign("flaky://bucket/out", 3600)
    put("flaky://bucket/out/.claim-beat-" + "t" * 32, b"", 5)
    with pytest.raises(storage.Claimed, match="5 s ago"):
        storage.Claim.acquire("flaky://bucket/out", OWNER)


@pytest.mark.parametrize("off_s", [-7200.0, 7200.0])
def test_ages_go_by_the_clock_of_the_store(off_s, monkeypatch):
    plain = atomic._send

    def send(url, content):
        plain(url, content)
        put(url, Flaky.store[url.removeprefix("flaky://")][0], age_s=-off_s)

    monkeypatch.setattr(atomic, "_send", send)
    _foreign("flaky://bucket/live", 5 - off_s)
    _foreign("flaky://bucket/dead", 600 - off_s)
    with pytest.raises(storage.Claimed, match="5 s ago"):
        storage.Claim.acquire("flaky://bucket/live", OWNER)
    storage.Claim.acquire("flaky://bucket/dead", OWNER).release()


_HOLD = """
import sys, time, storage
held = storage.Claim.acquire(sys.argv[1], {"program": "child"})
print("held", flush=True)
time.sleep(60)
"""


def _child(program, *arguments):
    child = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline().strip() in ("held", "ready")
    return child


def test_the_claim_of_a_dead_process_of_this_machine_is_taken_over_at_once(tmp_path):
    folder = str(tmp_path / "out")
    child = _child(_HOLD, folder)
    try:
        with pytest.raises(storage.Claimed, match=rf"child \(host .*, pid {child.pid}\)"):
            storage.Claim.acquire(folder, OWNER)
    finally:
        child.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 5
    while processes.pid_started(child.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)  # a zombie until it is waited for: dead all the same
    with storage.Claim.acquire(folder, OWNER) as held:
        held.check()
    child.wait()
    child.stdout.close()
    assert storage.tree(folder) == {}


def test_a_process_id_that_was_used_again_is_another_process(tmp_path):
    with storage.Claim.acquire(str(tmp_path / "x"), OWNER):
        me = _document(str(tmp_path / "x"))
    _foreign(str(tmp_path), **{**me, "pid": os.getppid(), "pid_started": "1", "token": "t" * 32})
    storage.Claim.acquire(str(tmp_path), OWNER).release()


def test_a_claim_that_was_dropped_in_this_process_does_not_block_it(tmp_path):
    """A notebook: the cell that held it failed, the process lives on."""
    held = storage.Claim.acquire(str(tmp_path), OWNER)
    with pytest.raises(storage.Claimed):
        storage.Claim.acquire(str(tmp_path), OWNER)
    del held
    gc.collect()
    storage.Claim.acquire(str(tmp_path), OWNER).release()


def test_a_claim_that_was_taken_over_is_lost_and_its_release_takes_nothing(folder):
    held = storage.Claim.acquire(folder, OWNER)
    storage.write_bytes(
        storage.join(folder, ".claim.json"), json.dumps({"token": "other", "program": "relabel"}).encode()
    )
    for _ in range(2):
        with pytest.raises(storage.ClaimLost, match="relabel"):
            held.check()
    held.beat()
    held.release()
    assert storage.claim_token(folder) == "other"


def test_a_claim_whose_folder_was_removed_is_lost(folder):
    with storage.Claim.acquire(folder, OWNER) as held:
        storage.remove(storage.join(folder, ".claim.json"))
        with pytest.raises(storage.ClaimLost, match="nobody holds it"):
            held.check()
    assert storage.tree(folder) == {}


def test_an_owner_that_cannot_write_its_heartbeat_stops_in_time(monkeypatch, caplog):
    monkeypatch.setattr(claim.CLAIMS, "beat_s", 0.01)
    monkeypatch.setattr(claim.CLAIMS, "stale_s", 0.3)
    with storage.Claim.acquire("flaky://bucket/out", OWNER) as held:
        time.sleep(0.4)
        held.check()
        failing("open", 10**6, TimeoutError())
        time.sleep(0.5)
        with pytest.raises(storage.ClaimLost, match="no heartbeat"):
            held.check()
        Flaky.fail = staticmethod(lambda name, n: None)
    assert "no heartbeat" in caplog.text


def test_heartbeats_are_written_all_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(claim.CLAIMS, "beat_s", 0.02)
    with storage.Claim.acquire(str(tmp_path), OWNER) as held:
        beat = tmp_path / f".claim-beat-{held.token}"
        deadline = time.monotonic() + 5
        while not beat.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        first = beat.stat().st_mtime_ns
        while beat.stat().st_mtime_ns == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert beat.stat().st_mtime_ns > first
    assert list(tmp_path.iterdir()) == []


def test_a_fork_of_the_owner_neither_holds_nor_releases(tmp_path):
    with storage.Claim.acquire(str(tmp_path), OWNER) as held:
        pid = os.fork()
        if pid == 0:
            held.release()
            os._exit(0 if storage.claim_token(str(tmp_path)) == held.token else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        held.check()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"token": 3}'])
def test_a_damaged_claim_counts_by_its_age(content, tmp_path):
    file = tmp_path / ".claim.json"
    file.write_bytes(content)
    with pytest.raises(storage.Claimed, match="another program"):
        storage.Claim.acquire(str(tmp_path), OWNER)
    os.utime(file, (time.time() - 3600,) * 2)
    storage.Claim.acquire(str(tmp_path), OWNER).release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taker", ["dead", "old", "live"])
def test_a_taker_that_died_on_its_way_is_passed_and_a_live_one_is_not(taker, monkeypatch):
    _foreign("flaky://bucket/out", 3600)
    marker = "flaky://bucket/out/.claim-takeover-" + "t" * 32 + "-0"
    body = {"token": "u" * 32, "machine": "another", "pid": 1}
    if taker == "dead":
        body |= {"machine": processes.machine(), "pid": 2**22 + 1, "pid_started": "1"}
    put(marker, json.dumps(body).encode(), 3600 if taker == "old" else 0)
    monkeypatch.setattr(claim.time, "sleep", lambda s: None)
    if taker == "live":
        with pytest.raises(storage.Claimed, match="taking over"):
            storage.Claim.acquire("flaky://bucket/out", OWNER)
    else:
        storage.Claim.acquire("flaky://bucket/out", OWNER).release()
        assert Flaky.store == {}


_RACE = """
import sys, storage
print("ready", flush=True)
for line in sys.stdin:
    folder = line.strip()
    try:
        held = storage.Claim.acquire(folder, {"program": "racer"})
    except storage.Claimed:
        print("refused", flush=True)
        continue
    print("won", flush=True)
    sys.stdin.readline()
    held.check()
    held.release()
    print("released", flush=True)
"""


@pytest.mark.parametrize("stale", [False, True])
def test_of_two_processes_that_start_together_one_gets_the_claim(stale, tmp_path):
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", _RACE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    assert [r.stdout.readline().strip() for r in racers] == ["ready", "ready"]
    wins = [0, 0]
    for i in range(15):
        folder = tmp_path / str(i)
        if stale:
            folder.mkdir()
            _foreign(str(folder), 3600)
        for racer in racers:
            racer.stdin.write(f"{folder}\n")
            racer.stdin.flush()
        said = [racer.stdout.readline().strip() for racer in racers]
        assert sorted(said) == ["refused", "won"], f"round {i}"
        winner = said.index("won")
        wins[winner] += 1
        racers[winner].stdin.write("release\n")
        racers[winner].stdin.flush()
        assert racers[winner].stdout.readline().strip() == "released"
        assert storage.tree(str(folder)) == {}
    for racer in racers:
        racer.stdin.close()
        racer.wait(10)
        racer.stdout.close()
