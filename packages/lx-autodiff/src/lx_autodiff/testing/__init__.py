"""The conformance suite for derivatives: any solver, any operator, against dense truth.

A third party names a solver and a problem class and inherits every law:

```python
import pytest
from lx_autodiff.testing import LAWS, PROBLEMS, check_derivatives


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_my_solver(dtype):
    check_derivatives(MySolver(), PROBLEMS["square"], dtype)
```

The truth is a closed form of A†b by normal equations, differentiated by JAX: it shares
nothing with this library. It needs x64.
"""

from ._laws import LAWS, check_derivatives
from ._problems import PROBLEMS, ProblemClass

__all__ = ["LAWS", "PROBLEMS", "ProblemClass", "check_derivatives"]
