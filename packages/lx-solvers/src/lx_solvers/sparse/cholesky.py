"""SparseCholesky: LDLᴴ of a sparse Hermitian definite matrix, on the host.

The square roots of Cholesky's LLᴴ are not needed: A = LDLᴴ with a positive diagonal D,
without exchanges, is as stable (Higham, "Accuracy and Stability of Numerical
Algorithms", 2nd ed., 2002, section 10.1, doi:10.1137/1.9780898718027). SuperLU computes
it as LU with pivots on the diagonal, rslab as LDLᵀ. Rows and columns are scaled alike
by powers of two, for a diagonal near one.
"""

import equinox as eqx
from lx_operators import (
    ColouredPattern,
    is_negative_semidefinite,
    is_positive_semidefinite,
)

from .._checks import check_options, check_state
from .._solver import AbstractLinearSolver
from ..direct import _views as views
from ._protocol import SparseBackend
from ._solve import SparseState, coloured, factorised, solved


class SparseCholesky(AbstractLinearSolver[SparseState]):
    """Factorisation of a sparse operator tagged positive or negative semidefinite that
    is nonsingular.

    Works like `SparseLU`, but with an ordering and pivots for such matrices, which at
    best take half the memory and time. Reports `not_definite` when a pivot is not
    positive, and `singular` when the operator is not definite to working precision.

    Both triangles of the matrix are stored and used. `stats` is as for `SparseLU`.

    Args:
        backend, sparsity: as for `SparseLU`.

    Raises:
        ValueError: the operator is not sparse, not square, or not tagged.

    ```python
    pattern = lx.SparsityPattern([0, 0, 1, 1], [0, 1, 0, 1], (2, 2))
    values = jnp.array([2.0, 1.0, 1.0, 2.0])
    operator = lx.SparseLinearOperator(values, pattern, lx.positive_semidefinite_tag)
    solution = lx.linear_solve(operator, jnp.array([3.0, 3.0]), lx.SparseCholesky())
    solution.value  # [1., 1.]
    ```
    """

    backend: str | SparseBackend | None = eqx.field(static=True, default=None)
    sparsity: ColouredPattern | None = eqx.field(converter=coloured, default=None)

    def init(self, operator, options):
        check_options(options, (), "SparseCholesky")
        positive = is_positive_semidefinite(operator)
        if not positive and not is_negative_semidefinite(operator):
            raise ValueError(
                "`SparseCholesky` solves definite systems only, but the operator is "
                f"not known to be semidefinite: {operator!r}. Tag it with "
                "`positive_semidefinite_tag` or `negative_semidefinite_tag`, or use "
                "`SparseLU` or, if it is Hermitian, `SparseLDL`."
            )
        asked = operator, self.backend, self.sparsity, "definite", "SparseCholesky"
        return factorised(*asked, negative=not positive)

    def compute(self, state, vector, options):
        check_state(state, SparseState, "SparseCholesky")
        return solved(state, vector)

    def transpose(self, state, options):
        check_state(state, SparseState, "SparseCholesky")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, SparseState, "SparseCholesky")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True
