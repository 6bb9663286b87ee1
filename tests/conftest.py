"""What every test has: float64 by default, and a fresh compilation cache a module."""

import gc
import os

import jax
import pytest

jax.config.update("jax_enable_x64", True)


@pytest.fixture(autouse=True, scope="module")
def _fresh_caches():
    """Executables stay in memory until dropped; a whole suite of them does not fit."""
    yield
    jax.clear_caches()
    gc.collect()


def pytest_report_header():
    return f"tests/faults: FAULTS_SEED={os.environ.get('FAULTS_SEED', '0')}"
