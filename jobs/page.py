"""The page that every build ends with: `<dataset>.report.html`, beside the dataset's folder."""

from __future__ import annotations

import logging
import time

import storage

log = logging.getLogger("regionpairs")


def page_url(out: str) -> str:
    """Where the page about the dataset at `out` lies: beside the folder, since a folder holds the dataset alone."""
    return storage.absolute(out).rstrip("/") + ".report.html"


def write_page(out: str, anew: bool = True) -> str:
    """Writes the page; returns its URL, "" where it could not be made. A failure is a warning and never more: the dataset
    is whole without it.

    anew: also where there is one already.
    """
    url = page_url(out)
    started = time.perf_counter()
    try:
        if not anew and storage.exists(url):
            return url
        from pipeline.dataset import Dataset
        from reports.html_report import html_report

        storage.write_bytes(url, html_report(Dataset.open(out)).encode())
    except Exception as e:  # noqa: BLE001 - whatever goes wrong with a page, the dataset is there
        log.warning(
            "no report (%s: %s); the dataset is whole, and `regionpairs report %s` tries again",
            type(e).__name__, " ".join(str(e).split())[:300], out,
        )  # fmt: skip
        return ""
    log.info("report in %.1f s: %s", time.perf_counter() - started, url)
    return url
