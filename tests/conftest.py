from __future__ import annotations

import os

import pytest

# Tests compare bytes and share the machine with Ray's processes: one thread each, set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that take minutes each are asked for."""
    if os.environ.get("REGIONPAIRS_LONG"):
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: REGIONPAIRS_LONG=1 runs it"))


@pytest.fixture(scope="session")
def ray_instance():
    """One Ray on this machine for all tests that need it."""
    import ray

    ray.shutdown()  # a test before may have let a job start one
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="warning"
    )
    yield ray
    ray.shutdown()
