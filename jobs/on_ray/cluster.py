"""The one connection to Ray."""

from __future__ import annotations

import logging
import os

import ray


def connect() -> None:
    """Joins the cluster of this job (or of RAY_ADDRESS); without one, starts Ray on this machine."""
    if ray.is_initialized():
        return
    inside = os.environ.get("RAY_ADDRESS")
    ray.init(address=inside or "local", log_to_driver=True, logging_level=logging.WARNING)
