from __future__ import annotations

import os

import pytest

# Tests compare bytes and share the machine with Ray's processes: one thread each, set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def ray_instance():
    """One Ray on this machine for all tests that need it."""
    import ray

    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="warning"
    )
    yield ray
    ray.shutdown()
