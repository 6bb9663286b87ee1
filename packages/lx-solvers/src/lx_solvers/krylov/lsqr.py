"""LSQR: least squares with monotone ‖r‖."""

from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike
from lx_operators.internal import two_norm

from .._solver import AbstractLinearSolver
from ..preconditioners._adapted import as_preconditioner
from . import _driver as driver
from ._damping import check_damping
from ._least_squares import least_squares, rotation
from ._right_factors import prepare, transposed_problem
from ._tolerances import Norm, check_aims, takes_rtol_and_atol


class _Numbers(NamedTuple):
    """The letters of Paige and Saunders."""

    t: Any
    f: Any
    ρ_bar: Any
    φ_bar: Any

    @property
    def normal(self) -> Array:
        return jnp.abs(self.φ_bar * self.ρ_bar)  # eq. 5.3

    @classmethod
    def start(cls, β: Any, α: Any) -> "_Numbers":
        return cls(t=0, f=0, ρ_bar=α, φ_bar=β)

    def step(self, β: Array, α: Array) -> tuple["_Numbers", Array, Array]:
        c, s, ρ = rotation(self.ρ_bar, β)
        θ, ρ_bar = s * α, -c * α
        φ, φ_bar = c * self.φ_bar, s * self.φ_bar
        return _Numbers(θ / ρ, jnp.zeros_like(φ), ρ_bar, φ_bar), φ / ρ, ρ


@takes_rtol_and_atol
class LSQR(AbstractLinearSolver[driver.KrylovState]):
    """LSQR, for operators of any shape and rank: the least-squares solution, of least
    norm where there are several. Its residual decreases in every step. With `LSMR`, the
    residual of the normal equations does, so `LSMR` can usually stop earlier.

    Paige and Saunders 1982, doi:10.1145/355984.355989, algorithm of section 4. Beyond
    the textbook method, the residual is carried along as a vector; damping adds rows to
    the operator; and before success is claimed, b - A x and Aᴴ (b - A x) are
    recomputed, in the same way as at the start.

    A step is one product with the operator and one with its adjoint (and one each with
    the preconditioner and its adjoint); the start is one more of each, and so is a
    check. b, r, u, a direction's image and the product are kept, five vectors of the
    size of b; and x, v, a direction and the adjoint product, four of the size of x.

    Args:
        rtol, atol, norm, max_steps, conlim, damp: as for `LSMR`.
        preconditioner, criterion, history, progress: as for `LSMR`.

    What counts as success, the options, the statistics and the errors are those of
    `LSMR`.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    solution = lx.linear_solve(operator, jnp.ones(3), lx.LSQR(rtol=1e-6, atol=1e-6))
    ```
    """

    rtol: ArrayLike | None = None
    atol: ArrayLike | None = None
    norm: Norm = eqx.field(static=True, default=two_norm)
    max_steps: int | None = None
    conlim: ArrayLike = 1e8
    damp: ArrayLike = eqx.field(default=0.0, kw_only=True)
    preconditioner: Any = eqx.field(
        default=None, kw_only=True, converter=as_preconditioner
    )
    criterion: str = eqx.field(static=True, default="elementwise", kw_only=True)
    history: int | bool = eqx.field(static=True, default=False, kw_only=True)
    progress: bool = eqx.field(static=True, default=False, kw_only=True)

    def __check_init__(self):
        check_aims(self, "LSQR")
        check_damping(self.damp, self.conlim, "LSQR")

    def init(self, operator, options):
        return prepare(operator, options, self.damp, "LSQR", self.preconditioner)

    def compute(self, state, vector, options):
        return least_squares(
            self, "LSQR", state, vector, options, _Numbers, barred=False
        )

    def transpose(self, state, options):
        return transposed_problem(state, options, "LSQR")

    def conj(self, state, options):
        return driver.conjugated_state(state, options)

    def assume_full_rank(self):
        return False
