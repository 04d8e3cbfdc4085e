"""Errors of the infrastructure told from definite answers, and tried again.

A time-out, a 503 or a reset connection says nothing about the data: it is tried again with growing pauses, and
then raised as `Unavailable`. Neither does a server that refuses (403, 451, a certificate that nobody trusts), which is
raised as `Refusal` at once. A file that is not there, a name that is a folder or a bad argument is an answer.
"""

from __future__ import annotations

import errno
import http
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from storage.location import is_local, protocol, redacted, redacted_text
from storage.verdicts import (
    GONE,
    NO_ABSENCE,
    Changed,
    Refusal,
    ShortRead,
    Unavailable,
    Verdict,
    answers,
    is_untrusted,
    verdict,
)

T = TypeVar("T")
log = logging.getLogger(__name__)


@dataclass
class RetrySettings:
    """How often something is tried, and how long the pauses are: base, twice base, four times base ..."""

    attempts: int = 6
    base_s: float = 0.5
    longest_s: float = 20.0


#: Used by all operations of this process; tests set its fields.
RETRIES = RetrySettings()
_JITTER = random.SystemRandom()  # leaves seeded generators alone


def retried(operation: Callable[[], T], url: str) -> T:
    """The result of `operation`, tried again where the infrastructure failed.

    Raises what `operation` raised if that is a definite answer (without the secrets of `url`), else `Unavailable`.
    """
    pause = Pause(url)
    while True:
        try:
            return operation()
        except Exception as error:  # noqa: BLE001  `verdict` decides, and what is not the network's is raised
            pause.after(error)


class Pause:
    """Counts the attempts at one thing, and sleeps between them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.attempts = 0
        self._seen: set[Verdict] = set()

    def after(self, error: Exception) -> None:
        """Returns, after a pause, if one more attempt makes sense; raises otherwise."""
        self.attempts += 1
        found = verdict(error)
        again = found is Verdict.AGAIN or (found is Verdict.ONCE and found not in self._seen)
        if found is Verdict.MISSING and not is_local(self.url) and found not in self._seen:
            self._seen.add(found)
            return
        self._seen.add(found)
        if not again or self.attempts >= RETRIES.attempts:
            raise_final(error, self.url, self.attempts)
        delay = min(RETRIES.longest_s, RETRIES.base_s * 2 ** (self.attempts - 1)) * _JITTER.uniform(0.5, 1.0)
        log.warning("%s: %s; tried again in %.1f s", redacted(self.url), described(error), delay)
        time.sleep(delay)


def described(error: BaseException) -> str:
    """`TypeName: message` on one line of bounded length, without secrets."""
    text = " ".join(redacted_text(str(error)).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__


def raise_final(error: Exception, url: str, attempts: int) -> None:
    """Raises `error` as callers should see it: naming the file, and without the secrets of its URL."""
    if isinstance(error, (Unavailable, ShortRead, Changed)):
        raise error
    shown = redacted(url)
    web = protocol(url) in ("http", "https")
    # a web server may have sent the request on to a signed address, which the library's message has
    hidden = web or shown != url
    cause = None if hidden else error
    found, reason = verdict(error), _reason(error)
    if found is Verdict.AGAIN:
        unavailable = Unavailable(f"{shown}: {described(reason)} ({attempts} attempts)")
        unavailable.errno = error.errno if isinstance(error, OSError) else None
        raise unavailable from cause
    if found is Verdict.REFUSED or (found is Verdict.ONCE and not is_local(url)):
        raise Refusal(f"{shown}: {_refusal(reason)}") from cause
    if found is Verdict.ONCE and not isinstance(error, PermissionError):
        raise PermissionError(f"{shown}: {described(error)}") from cause
    if web and isinstance(reason, ValueError):
        raise ValueError(f"{shown}: {described(reason)}") from cause  # an address that is none
    if isinstance(error, FileNotFoundError) or {status for status, _ in answers(error)} & set(GONE):
        if isinstance(error, FileNotFoundError) and is_local(url):
            raise error
        raise FileNotFoundError(errno.ENOENT, "no such file", shown) from cause
    if hidden and isinstance(error, OSError):
        raise _plain_type(error)(f"{shown}: {described(error)}") from cause
    raise error


def _plain_type(error: OSError) -> type[Exception]:
    """The first of an error's types that takes a text: those of libraries have constructors of their own."""
    return next(t for t in type(error).__mro__ if t.__module__ == "builtins")


def _reason(error: BaseException) -> BaseException:
    """What an error stands for: its cause, where fsspec's web file system said "not found" for whatever failed."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or cause is None:
        return error
    return cause if verdict(cause) in NO_ABSENCE or isinstance(cause, ValueError) else error


def _refusal(error: BaseException) -> str:
    """A server's refusal in words."""
    if is_untrusted(error):
        why = getattr(error, "verify_message", "") or getattr(
            getattr(error, "certificate_error", None), "verify_message", ""
        )
        return (
            f"the server's certificate is not trusted: {why or described(error)} "
            "(SSL_CERT_FILE may name a file of certificates that are)"
        )
    status = next((status for status, _ in answers(error) if status), 0)
    if not status:
        return described(error)
    phrase = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else ""
    return f"the server answers {status} {phrase}".rstrip()
