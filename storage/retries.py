"""Errors of the infrastructure told from definite answers, and tried again.

A time-out, a 503 or a reset connection says nothing about the data: it is tried again with growing pauses, and
then raised as `Unavailable`. Neither does a server that refuses (403, 451, a certificate that nobody trusts), which is
raised as `Refusal` at once. A file that is not there, a name that is a folder or a bad argument is an answer.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import http.client
import logging
import random
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from storage.location import is_local, protocol, redacted, redacted_text

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


class Refusal(Unavailable):
    """A server refuses, and asking again is of no use: its status is 4xx or 501 (404 and 410 are a FileNotFoundError), or
    its certificate is not trusted. The data may be perfectly fine."""


class ShortRead(OSError):
    """A file ends before the range that was asked for: it is not the file that was planned with."""


class Changed(OSError):
    """A file was replaced while it was read."""


class Verdict(enum.Enum):
    AGAIN = "the infrastructure's fault"
    ONCE = "tried once more: an expired token, a lost mount"
    REFUSED = "a server's no, which says nothing about the data"
    MISSING = "not there; looked for once more in a remote store"
    FINAL = "a definite answer"


#: What is no word about whether a file is there.
NO_ABSENCE = (Verdict.AGAIN, Verdict.ONCE, Verdict.REFUSED)
#: HTTP statuses that say that nothing is there.
GONE = (404, 410)
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
        return reason if reason in NO_ABSENCE else Verdict.MISSING
    if isinstance(error, (FileExistsError, IsADirectoryError, NotADirectoryError)):
        return Verdict.FINAL
    for status, code in _answers(error):
        if (status >= 500 and status != 501) or status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES:
            return Verdict.AGAIN
        if status in (401, 403):
            return Verdict.ONCE
    if _is_untrusted(error):
        return Verdict.REFUSED
    if isinstance(error, PermissionError):
        return Verdict.ONCE
    if isinstance(error, (TimeoutError, asyncio.TimeoutError, ConnectionError, http.client.HTTPException)):
        return Verdict.AGAIN
    if isinstance(error, ValueError):  # also malformed URLs, which are network errors besides
        return Verdict.FINAL
    if isinstance(error, OSError):
        return Verdict.FINAL if error.errno in _FINAL_ERRORS else Verdict.AGAIN
    if _of_a_network_library(error):
        # a server's 4xx is an answer; a body that was cut or garbled (a cause with its own "400") is none
        answer = next(_answers(error, causes=False), (0, ""))[0]
        if not answer or error.__cause__ is not None:
            return Verdict.AGAIN
        return Verdict.FINAL if answer in GONE else Verdict.REFUSED
    return _of_a_broken_handler(error)


def _of_a_broken_handler(error: BaseException) -> Verdict:
    """A library may stumble in its own handling of a failure (s3fs: IndexError over an error without a number); then the
    failure that it was handling decides."""
    handled = error.__cause__ or error.__context__
    if handled is None or not isinstance(error, (LookupError, TypeError, AttributeError, RuntimeError)):
        return Verdict.FINAL
    reason = verdict(handled)
    return reason if reason in NO_ABSENCE else Verdict.FINAL


def _is_untrusted(error: BaseException) -> bool:
    """Whether TLS does not trust the server's certificate; libraries wrap that error each in their own way."""
    return isinstance(error, ssl.SSLCertVerificationError) or (
        (isinstance(error, OSError) or _of_a_network_library(error))
        and "CERTIFICATE_VERIFY_FAILED" in str(error)
    )


def _of_a_network_library(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in _NETWORK


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
    if isinstance(error, FileNotFoundError) or {status for status, _ in _answers(error)} & set(GONE):
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
    if _is_untrusted(error):
        why = getattr(error, "verify_message", "") or getattr(
            getattr(error, "certificate_error", None), "verify_message", ""
        )
        return (
            f"the server's certificate is not trusted: {why or described(error)} "
            "(SSL_CERT_FILE may name a file of certificates that are)"
        )
    status = next((status for status, _ in _answers(error) if status), 0)
    if not status:
        return described(error)
    phrase = http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else ""
    return f"the server answers {status} {phrase}".rstrip()
