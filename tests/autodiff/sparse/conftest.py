import logging

import pytest
from lx_solvers import sparse_cache


class _Caught(logging.Handler):
    def __init__(self):
        super().__init__(logging.ERROR)
        self.records = []

    def emit(self, record):
        self.records.append(record.getMessage())


@pytest.fixture(autouse=True)
def _no_host_failure():
    """What the host did not expect is logged; here nothing may be."""
    handler, log = _Caught(), logging.getLogger("lx_solvers")
    log.addHandler(handler)
    yield
    log.removeHandler(handler)
    sparse_cache.clear()
    assert not handler.records


@pytest.fixture(autouse=True)
def _fresh_cache():
    sparse_cache.clear()
    yield
    sparse_cache.resize(2 * 2**30)
