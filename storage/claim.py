"""One writer a folder: a claim file that is created exclusively, kept alive by a heartbeat, and taken over when stale.

`<folder>/.claim.json` says who writes; it changes only when a claim is taken or given back. Heartbeats go to
`.claim-beat-<token>`, so that an owner that was asleep can never write over its successor's claim. Who takes over the
stale claim T first creates `.claim-takeover-<T>-<k>` exclusively and then looks again whether T still stands: of
several takers one goes on. Ages are differences of the store's own times; no two machines' clocks are compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
import uuid
import weakref
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from storage.atomic import store_clock, write_bytes, write_new
from storage.files import CLAIM, read_bytes, remove, stat
from storage.listings import entries
from storage.location import absolute, join, redacted
from storage.processes import machine, me, pid_started

log = logging.getLogger(__name__)
CLAIM_FILE = f"{CLAIM}.json"


@dataclass
class ClaimSettings:
    """Seconds between heartbeats, and without one until a claim counts as stale."""

    beat_s: float = 15.0
    stale_s: float = 90.0


#: Used by all claims of this process; tests set its fields.
CLAIMS = ClaimSettings()
_HELD: set[tuple[int, str]] = (
    set()
)  # (pid, token) of the claims this process holds or acquires; a fork holds none


class Claimed(ValueError):
    """Another program writes into the folder."""


class ClaimLost(RuntimeError):
    """The claim is no longer ours: nothing may be written any more."""


class Claim:
    """A held claim. Use it as a context manager, or call `release`."""

    def __init__(self, folder: str, token: str) -> None:
        self.folder = folder
        self.token = token
        self._pid = os.getpid()
        self._lost = ""
        self._last_beat = time.monotonic()
        self._stop = threading.Event()
        weakref.finalize(self, _dropped, self._stop, (self._pid, token))
        self._thread = threading.Thread(
            target=_beat, args=(weakref.ref(self), self._stop), name="claim", daemon=True
        )
        self._thread.start()

    @classmethod
    def acquire(cls, folder: str, owner: dict[str, Any]) -> Claim:
        """The claim of `folder`, described by `owner` (JSON values, e.g. the program's name and its settings' hash).

        Raises `Claimed` if a live program holds it. A stale claim is taken over: one without a heartbeat for
        `CLAIMS.stale_s`, or, at once, one whose process on this machine is dead.
        """
        folder = absolute(folder)
        token = uuid.uuid4().hex
        document = {
            **owner,
            **me(),
            "token": token,
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        body = json.dumps(document, indent=2).encode() + b"\n"
        _HELD.add((os.getpid(), token))
        try:
            _obtain(folder, body)
            claim = cls(folder, token)
        except BaseException:
            _HELD.discard((os.getpid(), token))
            raise
        try:
            claim.check()
            _tidy(folder, token)
        except BaseException:
            claim.release()
            raise
        return claim

    def check(self) -> None:
        """Raises `ClaimLost` unless the claim is still ours; one small request."""
        if not self._lost and os.getpid() == self._pid:
            silent = time.monotonic() - self._last_beat
            if silent > CLAIMS.stale_s:
                self._lost = f"no heartbeat could be written for {silent:.0f} s"
        if self._lost:
            raise ClaimLost(f"{redacted(self.folder)}: the claim was lost: {self._lost}")
        try:
            require_claim(self.folder, self.token)
        except ClaimLost as error:
            self._lost = str(error)
            raise

    def beat(self) -> None:
        """One sign of life; the heartbeat's thread calls it."""
        if claim_token(self.folder) != self.token:
            self._lost = "another program has taken it over, or the file was removed"
            self._stop.set()
            return
        write_bytes(join(self.folder, _beat_name(self.token)), b"")
        self._last_beat = time.monotonic()

    def release(self) -> None:
        """Gives the claim back. In a fork of the owner, and the second time, it does nothing."""
        self._stop.set()
        if os.getpid() != self._pid or (self._pid, self.token) not in _HELD:
            return
        if self._thread is not threading.current_thread():
            self._thread.join()
        _HELD.discard((self._pid, self.token))
        if claim_token(self.folder) == self.token:
            remove(join(self.folder, CLAIM_FILE))
        remove(join(self.folder, _beat_name(self.token)))

    def __enter__(self) -> Claim:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _obtain(folder: str, body: bytes) -> None:
    """Writes `body` as the claim of `folder`. Raises `Claimed`."""
    for _ in range(50):
        if write_new(join(folder, CLAIM_FILE), body):
            return
        current = _read(folder)
        if current is None:  # given back a moment ago
            continue
        age = _silence(folder, current)
        if age is not None:
            raise Claimed(_refusal(folder, current, age))
        if _take_over(folder, current["token"], body):
            log.warning("%s: took over the stale claim of %s", redacted(folder), _name(current))
            return
        time.sleep(0.05)
    raise Claimed(f"{redacted(folder)}: another program is taking over the claim; start again in a moment")


def claim_token(folder: str) -> str | None:
    """The token of the claim on `folder`; None if nobody holds it. Cheap: for workers, before they commit."""
    current = _read(folder)
    return None if current is None else current["token"]


def require_claim(folder: str, token: str) -> None:
    """Raises `ClaimLost` unless the claim on `folder` has this token."""
    current = _read(folder)
    if current is None or current["token"] != token:
        who = "nobody" if current is None else _name(current)
        raise ClaimLost(f"{redacted(folder)}: the claim was lost: {who} holds it now")


def _read(folder: str) -> dict[str, Any] | None:
    """The claim file's document; one that is damaged gets a token made of its bytes."""
    try:
        data = read_bytes(join(folder, CLAIM_FILE))
    except FileNotFoundError:
        return None
    try:
        document = json.loads(data)
        if isinstance(document, dict) and isinstance(document.get("token"), str):
            return document
    except ValueError:
        pass
    return {"token": hashlib.sha256(data).hexdigest()[:32]}


def _silence(folder: str, current: dict[str, Any]) -> float | None:
    """Seconds since the holder's last sign of life; None if the claim is stale."""
    if _is_dead(current):
        return None
    times = []
    for name in (CLAIM_FILE, _beat_name(current["token"])):
        with contextlib.suppress(FileNotFoundError):
            times.append(stat(join(folder, name)).modified)
    known = [t for t in times if t == t]
    if not known:
        return 0.0 if times else None
    age = max(0.0, store_clock(folder) - max(known))
    return age if age <= CLAIMS.stale_s else None


def _take_over(folder: str, stale: str, body: bytes) -> bool:
    """Replaces the stale claim of that token by `body`; False if another program was faster."""
    for k in range(100):
        marker = join(folder, f"{CLAIM}-takeover-{stale}-{k}")
        if write_new(marker, body):
            break
        try:  # a taker that died on its way may be passed
            other = json.loads(read_bytes(marker))
            age = store_clock(folder) - stat(marker).modified
        except (FileNotFoundError, ValueError):
            return False
        if not _is_dead(other) and not age > CLAIMS.stale_s:
            return False
    current = _read(folder)
    if current is None or current["token"] != stale:
        remove(marker)
        return False
    write_bytes(join(folder, CLAIM_FILE), body)
    return True


def _tidy(folder: str, token: str) -> None:
    """Removes what earlier claims left."""
    for name in entries(folder):
        if name.startswith(f"{CLAIM}-") and token not in name:
            remove(join(folder, name))


def _dropped(stop: threading.Event, held: tuple[int, str]) -> None:
    """A claim that nobody refers to any more: no more heartbeats, and this process no longer holds it."""
    stop.set()
    _HELD.discard(held)


def _beat(claim: weakref.ref[Claim], stop: threading.Event) -> None:
    while not stop.wait(CLAIMS.beat_s):
        held = claim()
        if held is None:
            return
        try:
            held.beat()
        except Exception as error:  # noqa: BLE001  the next beat may succeed; `check` knows how long none did
            log.warning("%s: no heartbeat: %s", redacted(held.folder), error)
        del held


def _beat_name(token: str) -> str:
    return f"{CLAIM}-beat-{token}"


def _name(document: dict[str, Any]) -> str:
    program = document.get("program", "another program")
    return f"{program} (host {document.get('host', 'unknown')}, pid {document.get('pid', 'unknown')})"


def _refusal(folder: str, current: dict[str, Any], age: float) -> str:
    since = f" since {current['started']}" if "started" in current else ""
    beat = f"last sign of life {age:.0f} s ago"
    return f"{redacted(folder)}: {_name(current)} writes here{since}, {beat}; wait for it, or stop it first"


def _is_dead(document: dict[str, Any]) -> bool:
    """Whether the process that wrote `document` ran on this machine and is no more, or forgot its claim."""
    pid = document.get("pid")
    if document.get("machine") != machine() or not isinstance(pid, int):
        return False
    if pid == os.getpid() and document.get("pid_started") == pid_started(pid):
        return (pid, document["token"]) not in _HELD
    started = pid_started(pid)
    return started is None or started != document.get("pid_started")
