"""The laws of linear solvers, as a test suite that any solver can inherit.

Define a factory, and list the classes of problems that the solver claims; pytest does
the rest.

```python
from lx_solvers.testing import SolverLaws

class TestMySolver(SolverLaws):
    problems = ("square", "tall", "indefinite")

    def make(self, dtype):
        return MySolver(rtol=self.tolerance(dtype))
```

Laws of values run for every dtype, on every class; laws of programs (batches, pytrees,
sizes) for one dtype. Laws ask only what the solver claims. The truth comes from NumPy,
in at least twice single precision. Without pytest, `SolverLaws.check()` runs all laws.
"""

from ._laws import SolverLaws
from ._preconditioner_laws import PreconditionerLaws
from ._problems import ProblemClass
from ._structured import PROBLEMS
from ._truth import backward_error

__all__ = [
    "PROBLEMS",
    "PreconditionerLaws",
    "ProblemClass",
    "SolverLaws",
    "backward_error",
]
