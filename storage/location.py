"""Where a file lies: absolute local paths and URLs, as plain strings.

What a user or a data set writes is parsed here and nowhere else. A local path is a local path whatever characters
it has; a URL is `protocol://...`; nothing is ever a chain of file systems (`zip://a::s3://b`), although fsspec
would take it for one.
"""

from __future__ import annotations

import importlib.util
import os
import re
from typing import Any
from urllib.parse import quote, unquote

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations, registry

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CHAIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)::")
_LOST_SLASH = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):/(?!/)")
_WEB = ("http", "https")
#: Protocols that stand for another file system, an archive or a cache: they only make sense in chains.
_WRAPPERS = frozenset(
    [
        "zip",
        "tar",
        "libarchive",
        "filecache",
        "simplecache",
        "blockcache",
        "cached",
        "dir",
        "reference",
        "async_wrapper",
        "generic",
        "data",
        "jlab",
    ]
)
#: User names in front of a host that are part of the address and no secret.
_ACCOUNT_IN_FRONT = frozenset({"abfs", "abfss", "wasb", "wasbs", "github"})
_SECRET = re.compile(
    r"[?&](x-amz-[^=&]*|x-goog-[^=&]*|awsaccesskeyid|signature|sig|token|access_token|key-pair-id|password|secret"
    r"|api_?key)=",
    re.IGNORECASE,
)
_URL_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"<>)\]}]+")


def protocol(url: str) -> str:
    """The protocol of a URL in lower case; "" for a local path."""
    found = _URL.match(url)
    return found[1].lower() if found else ""


def is_local(url: str) -> bool:
    """Whether `url` is a path on this machine's file systems (`file://` URLs are)."""
    return protocol(url) in ("", "file", "local")


def absolute(url: str) -> str:
    """A local path made absolute (`~` expanded at its start); a `file://` URL as the path it names; any other URL
    as it is.
    """
    name = protocol(url)
    if name in ("file", "local"):
        url = _path_of_file_url(url)
    elif name:
        return url
    return os.path.abspath(os.path.expanduser(url))


def _path_of_file_url(url: str) -> str:
    """`file:///a%20b` is `/a b`, unless a file is really called `a%20b`."""
    path = url.split("://", 1)[1]
    if path.startswith("localhost/"):
        path = path[len("localhost") :]
    return path if os.path.lexists(path) else unquote(path)


def join(base: str, *parts: str) -> str:
    """`base/part/part`, for paths and URLs alike. Below a web address, characters that would end the path are
    quoted, and the query of `base` (a signature) stays at the end.
    """
    query = ""
    if protocol(base) in _WEB:
        base, _, query = base.partition("?")
        names = [_quoted(part) for part in parts]
        joined = [name for name, _ in names]
        query = "&".join(q for q in (query, *(q for _, q in names)) if q)
    else:
        joined = list(parts)
    root = _URL.match(base)
    stripped = base.rstrip("/")
    if root and len(stripped) < root.end():  # "memory://"
        url = root[0] + "/".join(joined)
    else:
        url = "/".join([stripped, *joined]) if joined else stripped or "/"
    return f"{url}?{query}" if query else url


def _quoted(part: str) -> tuple[str, str]:
    """A relative web address as its path, quoted where needed, and its query."""
    path, mark, query = part.partition("?")
    if mark and "=" not in query:  # a question mark in a name
        path, query = part, ""
    path = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", path)
    return quote(path, safe="/%:@!$&'()*+,;=~"), query


def inside(root: str, relative: str) -> str:
    """The address of a file below `root` that data (a table, a JSON) names as `relative`.

    Raises ValueError for anything that could lead elsewhere: `..`, an absolute path, a URL, an empty name.
    """
    shown = redacted(relative)[:200]
    if not relative or "\0" in relative:
        raise ValueError(f"not a file name: {shown!r}")
    if relative.startswith("/") or _URL.match(relative) or (_CHAIN.match(relative) and "://" in relative):
        raise ValueError(f"not a location below {redacted(root)}: {shown!r}")
    web = protocol(root) in _WEB
    segments = relative.split("/")
    if ".." in segments or (web and ".." in unquote(relative).replace("\\", "/").split("/")):
        raise ValueError(f"not a location below {redacted(root)}: {shown!r}")
    kept = [segment for segment in segments if segment != "."]
    if not "".join(kept):
        raise ValueError(f"not a file name: {shown!r}")
    return join(root, "/".join(kept))


def relative(root: str, url: str) -> str:
    """What `inside(root, ...)` needs to give `url`. Raises ValueError if `url` does not lie below `root`."""
    start = join(root.partition("?")[0] if protocol(root) in _WEB else root, "")
    if not url.startswith(start) or len(url) == len(start) or ".." in url[len(start) :].split("/"):
        raise ValueError(f"{redacted(url)} does not lie below {redacted(root)}")
    return url[len(start) :]


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of `url`, one that keeps no listings, and the path in it.

    Unlike fsspec's own parser it never takes `::` for a chain.
    """
    url = absolute(url)
    name = protocol(url)
    if not name:
        return LocalFileSystem(), url
    url = name + url[len(name) :]
    kind = fsspec.get_filesystem_class(name)
    options = kind._get_kwargs_from_urls(url)
    path = kind._strip_protocol(url)
    if name == "memory":  # its own parser leaves a name with :: in it as it is
        path = "/" + url.split("://", 1)[1].strip("/")
    try:
        return kind(use_listings_cache=False, **options), path
    except TypeError:  # a file system that takes no options
        return kind(**options), path


def location(text: object, key: str = "", *, write: bool = False) -> str:
    """What a user gave for the setting `key`, as an absolute path or a URL.

    Raises ValueError with one line that begins with the key: for nothing, for chains, for protocols that are
    unknown or whose package is not installed, and (`write`) for web addresses, which cannot be written to.
    """
    url = os.fspath(text) if isinstance(text, os.PathLike) else text
    start = f"{key}: " if key else ""
    if not isinstance(url, str) or not url.strip():
        raise ValueError(f"{start}expected a path or a URL, got {url!r}")
    if "\0" in url:
        raise ValueError(f"{start}a path cannot hold a NUL character")
    shown = redacted(url)
    name = protocol(url)
    if not name:
        _refuse_what_looks_like_a_url(url, start)
    elif name in _WRAPPERS:
        raise ValueError(
            f"{start}{shown}: archives, caches and chains of file systems are not read ({name}://)"
        )
    elif name not in ("file", "local"):
        _refuse_unknown(name, f"{start}{shown}")
        if write and name in _WEB:
            raise ValueError(f"{start}{shown}: nothing can be written to a web address")
        if not url[len(name) + 3 :].strip("/") and name != "memory":
            raise ValueError(f"{start}{shown}: names no bucket or host")
        return name + url[len(name) :]
    return absolute(url)


def local_folder(text: object, key: str = "") -> str:
    """Like `location`, for what must be a folder on this machine (a memory map, a lock, a checkpoint)."""
    url = location(text, key)
    if not is_local(url):
        start = f"{key}: " if key else ""
        raise ValueError(f"{start}{redacted(url)} is a URL; a folder on this machine is needed here")
    if os.path.exists(url) and not os.path.isdir(url):
        start = f"{key}: " if key else ""
        raise ValueError(f"{start}{url} is a file; a folder is needed here")
    return url


def _refuse_what_looks_like_a_url(path: str, start: str) -> None:
    """Local paths may hold anything, but `s3:/bucket` and `simplecache::s3://b` are mistakes unless they exist."""
    if os.path.lexists(os.path.expanduser(path)):
        return
    chain, lost = _CHAIN.match(path), _LOST_SLASH.match(path)
    if chain and _is_known(chain[1]):
        raise ValueError(f"{start}{redacted(path)}: chains of file systems (::) are not read")
    if lost and _is_known(lost[1]):
        raise ValueError(f"{start}{redacted(path)}: a slash is missing after {lost[1]}:/")


def _is_known(name: str) -> bool:
    return name.lower() in registry or name.lower() in known_implementations


def _refuse_unknown(name: str, shown: str) -> None:
    if name in registry:  # registered by hand, or imported before
        return
    known = known_implementations.get(name)
    if known is None:
        raise ValueError(f"{shown}: unknown protocol {name}://")
    package = "aiohttp" if name in _WEB else known["class"].split(".")[0]
    if importlib.util.find_spec(package) is None:
        raise ValueError(f"{shown}: {known.get('err', f'the package for {name}:// is not installed')}")


def redacted(url: str) -> str:
    """A location without what may be secret: the user and password before a host, and of web addresses the query
    and the fragment. Other names keep `?` and `#`, unless what follows looks like a signature.
    """
    found = _URL.match(url)
    name = found[1].lower() if found else ""
    if name in _WEB or name == "ftp":
        url = re.split(r"[?#]", url, maxsplit=1)[0]
    elif secret := _SECRET.search(url):
        url = url[: url.index("?") if "?" in url[: secret.start() + 1] else secret.start()]
    if found:
        host, slash, rest = url[found.end() :].partition("/")
        user, at, server = host.rpartition("@")
        if at and not (name in _ACCOUNT_IN_FRONT and (name == "github" or ":" not in user)):
            url = found[0] + server + slash + rest
    return url


def redacted_values(value: Any) -> Any:
    """A document of dicts, lists and texts (settings) with every text redacted, for a file that others may read."""
    if isinstance(value, dict):
        return {key: redacted_values(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted_values(item) for item in value]
    return redacted(value) if isinstance(value, str) else value


def redacted_text(text: str) -> str:
    """A message with every URL in it redacted."""
    return _URL_IN_TEXT.sub(lambda found: redacted(found[0]), text)
