"""Errors of the infrastructure told from definite answers, and tried again.

A time-out, a 503 or a reset connection says nothing about the data: it is tried again with growing pauses, and
then raised as `Unavailable`. A file that is not there, a name that is a folder or a bad argument is an answer.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import http.client
import logging
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from storage.location import is_local, redacted, redacted_text

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


class Unavailable(OSError):
    """The infrastructure failed in every attempt; the data may be perfectly fine."""


class ShortRead(OSError):
    """A file ends before the range that was asked for: it is not the file that was planned with."""


class Changed(OSError):
    """A file was replaced while it was read."""


class Verdict(enum.Enum):
    AGAIN = "the infrastructure's fault"
    ONCE = "tried once more: an expired token, a lost mount"
    MISSING = "not there; looked for once more in a remote store"
    FINAL = "a definite answer"


_FINAL_ERRORS = frozenset(
    getattr(errno, name)
    for name in [
        "ENOENT",
        "EEXIST",
        "EISDIR",
        "ENOTDIR",
        "ENAMETOOLONG",
        "ENOSPC",
        "EDQUOT",
        "EROFS",
        "ELOOP",
        "EINVAL",
        "EXDEV",
        "ENOTEMPTY",
        "ENOSYS",
        "EFBIG",
        "EMSGSIZE",
        "EBADF",
        "EMLINK",
        "ENXIO",
        "EOPNOTSUPP",
    ]
    if hasattr(errno, name)
)
_TRANSIENT_STATUS = frozenset({408, 409, 423, 425, 429})
_TRANSIENT_CODES = frozenset(
    [
        "BadDigest",
        "IncompleteBody",
        "InternalError",
        "RequestTimeout",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "XAmzContentSHA256Mismatch",
        "OperationAborted",
        "ConditionalRequestConflict",
        "RequestThrottled",
        "400",  # botocore's code for an answer to HEAD, which has no body that could tell a time-out from anything else
    ]
)
#: Libraries whose exceptions are no OSErrors although they speak of the network.
_NETWORK = frozenset(
    [
        "aiohttp",
        "aiobotocore",
        "botocore",
        "boto3",
        "urllib3",
        "requests",
        "httpx",
        "httpcore",
        "google",
        "gcsfs",
        "azure",
        "huggingface_hub",
        "paramiko",
        "asyncssh",
    ]
)


def verdict(error: BaseException) -> Verdict:
    """What an exception of a file operation says."""
    if isinstance(error, (Unavailable, ShortRead, Changed)):
        return Verdict.FINAL
    if isinstance(error, FileNotFoundError):
        # fsspec's web file system says so for everything, with the reason as the cause
        reason = verdict(error.__cause__) if error.__cause__ is not None else Verdict.MISSING
        return reason if reason in (Verdict.AGAIN, Verdict.ONCE) else Verdict.MISSING
    if isinstance(error, (FileExistsError, IsADirectoryError, NotADirectoryError)):
        return Verdict.FINAL
    for status, code in _answers(error):
        if (status >= 500 and status != 501) or status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES:
            return Verdict.AGAIN
        if status in (401, 403):
            return Verdict.ONCE
    if isinstance(error, PermissionError):
        return Verdict.ONCE
    if isinstance(error, (TimeoutError, asyncio.TimeoutError, ConnectionError, http.client.HTTPException)):
        return Verdict.AGAIN
    if isinstance(error, ValueError):  # also bad certificates and malformed URLs, which are OSErrors besides
        return Verdict.FINAL
    if isinstance(error, OSError):
        return Verdict.FINAL if error.errno in _FINAL_ERRORS else Verdict.AGAIN
    if type(error).__module__.split(".")[0] in _NETWORK:
        # a server's 4xx is an answer; a body that was cut or garbled (a cause with its own "400") is none
        answer = next(_answers(error, causes=False), (0, ""))[0]
        return Verdict.FINAL if answer and error.__cause__ is None else Verdict.AGAIN
    return _of_a_broken_handler(error)


def _of_a_broken_handler(error: BaseException) -> Verdict:
    """A library may stumble in its own handling of a failure (s3fs: IndexError over an error without a number); then the
    failure that it was handling decides."""
    handled = error.__cause__ or error.__context__
    if handled is None or not isinstance(error, (LookupError, TypeError, AttributeError, RuntimeError)):
        return Verdict.FINAL
    reason = verdict(handled)
    return reason if reason in (Verdict.AGAIN, Verdict.ONCE) else Verdict.FINAL


def _answers(error: BaseException | None, causes: bool = True) -> Iterator[tuple[int, str]]:
    """HTTP status and error code of an exception and of its causes, as the libraries keep them."""
    while error is not None:
        response = getattr(error, "response", None)
        code = ""
        status = (
            getattr(error, "status", None)
            or getattr(error, "status_code", None)
            or getattr(error, "code", None)
        )
        if isinstance(response, dict):  # botocore
            status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
            code = str(response.get("Error", {}).get("Code", ""))
        elif response is not None:  # requests, httpx
            status = getattr(response, "status_code", status)
        if isinstance(status, str) and status.isdigit():
            status = int(status)
        if isinstance(status, int) or code:
            yield status if isinstance(status, int) else 0, code
        error = error.__cause__ if causes else None


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
    shown = redacted(url)
    secret = shown != url
    found = verdict(error)
    statuses = {status for status, _ in _answers(error)}
    if found is Verdict.AGAIN:
        number = error.errno if isinstance(error, OSError) else None
        message = f"{shown}: {described(error)} ({attempts} attempts)"
        unavailable = Unavailable(message)
        unavailable.errno = number
        raise unavailable from (None if secret else error)
    if found is Verdict.ONCE and not isinstance(error, PermissionError):
        raise PermissionError(f"{shown}: {described(error)}") from (None if secret else error)
    if isinstance(error, FileNotFoundError) or statuses & {404, 410}:
        if isinstance(error, FileNotFoundError) and is_local(url):
            raise error
        raise FileNotFoundError(errno.ENOENT, "no such file", shown) from (None if secret else error)
    if secret and isinstance(error, OSError):
        raise type(error)(f"{shown}: {described(error)}") from None
    raise error
