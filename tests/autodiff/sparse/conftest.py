from tests.solvers.sparse.conftest import (
    _fresh_cache as _fresh_cache,
    _no_host_failure as _no_host_failure,
)
