"""SparseLDL: LDLᵀ of a sparse symmetric or Hermitian indefinite matrix, on the host.

D has blocks of one or two rows (Bunch and Kaufman 1977,
doi:10.1090/S0025-5718-1977-0428694-0), chosen among those that keep L sparse. Their
eigenvalues have the signs of those of A (Sylvester's law of inertia).
"""

import equinox as eqx
import jax.numpy as jnp
from lx_operators import ColouredPattern, is_hermitian, is_symmetric

from .._checks import check_options, check_state
from .._solver import AbstractLinearSolver
from ..direct import _views as views
from ._protocol import SparseBackend
from ._solve import SparseState, coloured, factorised, solved


class SparseLDL(AbstractLinearSolver[SparseState]):
    """Factorisation of a sparse operator tagged symmetric or Hermitian, which may be
    indefinite, as for a saddle point problem or a Helmholtz equation.

    Needs rslab (the extra `sparse`); SuperLU has no such factorisation,
    so use `SparseLU` without it. `stats` is as for `SparseLU`; `stats["inertia"]` has
    the numbers of positive, negative and zero eigenvalues (-1 for a complex symmetric
    operator, whose eigenvalues have no sign).

    Args:
        backend, sparsity: as for `SparseLU`.

    Raises:
        ValueError: the operator is not sparse, not square, or not tagged; or there is
            no backend.

    ```python
    pattern = lx.SparsityPattern([0, 0, 1], [0, 1, 0], (2, 2))
    values = jnp.array([2.0, 1.0, 1.0])
    operator = lx.SparseLinearOperator(values, pattern, lx.symmetric_tag)
    solution = lx.linear_solve(operator, jnp.array([3.0, 1.0]), lx.SparseLDL())
    solution.stats["inertia"]  # [1, 1, 0]
    ```
    """

    backend: str | SparseBackend | None = eqx.field(static=True, default=None)
    sparsity: ColouredPattern | None = eqx.field(converter=coloured, default=None)

    def init(self, operator, options):
        check_options(options, (), "SparseLDL")
        symmetric = is_symmetric(operator)
        if not symmetric and not is_hermitian(operator):
            raise ValueError(
                "`SparseLDL` solves symmetric and Hermitian systems only, but the "
                f"operator is not known to be one: {operator!r}. Tag it with "
                "`symmetric_tag` or `hermitian_tag`, or use `SparseLU`."
            )
        kind = "symmetric" if symmetric else "hermitian"
        return factorised(operator, self.backend, self.sparsity, kind, "SparseLDL")

    def compute(self, state, vector, options):
        check_state(state, SparseState, "SparseLDL")
        x, result, stats = solved(state, vector)
        return x, result, stats | {"inertia": jnp.asarray(state.inertia)}

    def transpose(self, state, options):
        check_state(state, SparseState, "SparseLDL")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, SparseState, "SparseLDL")
        return views.conj(state), {}

    def assume_full_rank(self):
        return True
