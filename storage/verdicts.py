"""What an error of a file operation says: the infrastructure's fault, a server's no, nothing there, or an answer."""

from __future__ import annotations

import asyncio
import enum
import errno
import http.client
import ssl
from collections.abc import Iterator


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
    for status, code in answers(error):
        if (status >= 500 and status != 501) or status in _TRANSIENT_STATUS or code in _TRANSIENT_CODES:
            return Verdict.AGAIN
        if status in (401, 403):
            return Verdict.ONCE
    if is_untrusted(error):
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
        answer = next(answers(error, causes=False), (0, ""))[0]
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


def is_untrusted(error: BaseException) -> bool:
    """Whether TLS does not trust the server's certificate; libraries wrap that error each in their own way."""
    return isinstance(error, ssl.SSLCertVerificationError) or (
        (isinstance(error, OSError) or _of_a_network_library(error))
        and "CERTIFICATE_VERIFY_FAILED" in str(error)
    )


def _of_a_network_library(error: BaseException) -> bool:
    return type(error).__module__.split(".")[0] in _NETWORK


def answers(error: BaseException | None, causes: bool = True) -> Iterator[tuple[int, str]]:
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
