"""What every test has: float64 by default, strict promotion of dtypes and ranks, a fresh
compilation cache for each module, and one core for each worker of pytest-xdist.

The three settings of JAX are environment variables, so that programs that tests start
inherit them; a variable that is set already stays as it is (`hatch run modes`).

XLA makes a pool of as many threads as it may use cores. A batched LAPACK call that runs
in one of them waits for others of the same pool (`jax::ParallelBatchMap`), and two such
calls at a time can wait for each other for ever; Fourier transforms have done the same.
With one thread there is nobody to wait for, nor do workers take each other's cores.
"""

import gc
import os

import jax
import pytest

SETTINGS = {
    "jax_enable_x64": "true",
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
}
for name, default in SETTINGS.items():
    value = os.environ.setdefault(name.upper(), default)
    jax.config.update(name, {"true": True, "false": False}.get(value, value))

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")  # gw0, gw1, …
if WORKER and hasattr(os, "sched_setaffinity"):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(WORKER[2:]) % len(cores)]})


@pytest.fixture(autouse=True)
def _standard_promotion(request):
    """JAX's own rules of promotion, for tests marked `standard_promotion`."""
    if request.node.get_closest_marker("standard_promotion") is None:
        yield
    else:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            yield


@pytest.fixture(autouse=True, scope="module")
def _fresh_caches():
    """Executables stay in memory until dropped; a whole suite of them does not fit."""
    yield
    jax.clear_caches()
    gc.collect()


def pytest_report_header():
    return f"tests/faults: FAULTS_SEED={os.environ.get('FAULTS_SEED', '0')}"
