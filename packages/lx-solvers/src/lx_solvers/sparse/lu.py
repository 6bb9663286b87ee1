"""SparseLU: P F Q = LU of a sparse matrix, on the host.

Solves square nonsingular systems. Rows and columns are scaled by powers of two, and
ordered for sparse factors. Pivots are chosen among those that keep the factors sparse,
so that elements may grow more than with partial pivoting; what that costs is made good
by iterative refinement (Arioli, Demmel and Duff 1989, doi:10.1137/0610013), and shows
in the residual where not.
"""

import equinox as eqx
from lx_operators import ColouredPattern

from .._checks import check_options, check_state
from .._solver import AbstractLinearSolver
from ..direct import _views as views
from ._protocol import SparseBackend
from ._solve import SparseState, coloured, factorised, solved


class SparseLU(AbstractLinearSolver[SparseState]):
    """LU factorisation of a square, nonsingular `SparseLinearOperator`.

    The factorisation runs on the host: by SuperLU, which comes with SciPy, or by rslab,
    if it is installed (the extra `sparse`). The analysis of a pattern
    is reused for new values, and factors are reused for further vectors, transposes and
    derivatives; both are kept in `sparse_cache`.

    Success means that the residual, computed in JAX, is that of a backward stable
    solution. `singular` means that the operator is singular to working precision,
    however its rows and columns are scaled. `stats["reciprocal_condition"]` is an
    estimate in the 1-norm, for the scaled operator; `stats["unmatched_row"]` and
    `stats["unmatched_column"]` name a row and a column that cannot have pivots whatever
    the values are, or are -1.

    Args:
        backend: `"superlu"`, `"rslab"`, or a `SparseBackend` of your own; by default
            rslab, if it is installed.
        sparsity: for an operator of which only products are known, such as the Jacobian
            that a differential equation solver builds: which of its elements may be
            nonzero, a `SparsityPattern` or `ColouredPattern`. Its matrix then takes one
            product for each colour. Not needed for sparse operators, and Jacobians with
            a `sparsity` of their own.

    ```python
    pattern = lx.SparsityPattern([0, 0, 1, 2], [0, 2, 1, 2], (3, 3))
    operator = lx.SparseLinearOperator(jnp.array([2.0, 1.0, 3.0, 4.0]), pattern)
    solution = lx.linear_solve(operator, jnp.array([3.0, 3.0, 4.0]), lx.SparseLU())
    solution.value  # [1., 1., 1.]
    ```
    """

    backend: str | SparseBackend | None = eqx.field(static=True, default=None)
    sparsity: ColouredPattern | None = eqx.field(converter=coloured, default=None)

    def init(self, operator, options):
        check_options(options, (), "SparseLU")
        return factorised(operator, self.backend, self.sparsity, "general", "SparseLU")

    def compute(self, state, vector, options):
        check_state(state, SparseState, "SparseLU")
        return solved(state, vector)

    def transpose(self, state, options):
        check_state(state, SparseState, "SparseLU")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, SparseState, "SparseLU")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True
