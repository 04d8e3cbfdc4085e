from __future__ import annotations

import os

import pytest

# Tests compare bytes and share the machine with Ray's processes: one thread each, set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Ray runs its workers at nice 15: beside the tests of another process they would hardly move.
os.environ.setdefault("RAY_worker_niceness", "0")


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that take minutes each are asked for. With several processes the tests of Ray are one process's."""
    for item in items:
        if item.get_closest_marker("long") and not os.environ.get("REGIONPAIRS_LONG"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: REGIONPAIRS_LONG=1 runs it"))
        group = "ray" if item.get_closest_marker("ray") else item.path.as_posix()
        item.add_marker(pytest.mark.xdist_group(group))


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
