"""What every test has: float64 by default, a fresh compilation cache a module, and one
core for each worker of pytest-xdist.

XLA makes a pool of as many threads as it may use cores. A batched LAPACK call that runs
in one of them waits for others of the same pool (`jax::ParallelBatchMap`), and two such
calls at a time can wait for each other for ever; Fourier transforms have done the same.
With one thread there is nobody to wait for, nor do workers take each other's cores.
"""

import gc
import os

import jax
import pytest

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # gw0, gw1, …
if WORKER and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(WORKER[2:]) % len(cores)]})

jax.config.update("jax_enable_x64", True)


@pytest.fixture(autouse=True, scope="module")
def _fresh_caches():
    """Executables stay in memory until dropped; a whole suite of them does not fit."""
    yield
    jax.clear_caches()
    gc.collect()


def pytest_report_header():
    return f"tests/faults: FAULTS_SEED={os.environ.get('FAULTS_SEED', '0')}"
