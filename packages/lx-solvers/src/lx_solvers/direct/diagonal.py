"""Diagonal: division, or multiplication with the pseudoinverse."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact
from lx_operators import diagonal, is_diagonal
from lx_operators.internal import PackedStructures, pack_structures

from .._checks import check_options, check_square, check_state
from .._gaussian import inverse_diagonal_of, root_of
from .._projection import annihilated
from .._scaling import largest
from .._slogdet import slogdet_of, slogdet_of_factors
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from . import _views as views
from ._factors import judge, rcond_or_default, working_dtype


class _DiagonalState(eqx.Module):
    d: Inexact[Array, " n"]  # as it was: zero where the pseudoinverse takes it for zero
    verdict: RESULTS
    packed: PackedStructures
    view: views.View = eqx.field(static=True, default=views.View())


class Diagonal(AbstractLinearSolver[_DiagonalState]):
    """Division by the diagonal, for diagonal operators.

    Args:
        well_posed: if `True`, the solution is b/d, and a zero on the diagonal is
            reported as `singular`. If `False`, it is the pseudoinverse solution, which
            is 0 where d is negligible.
        rcond: with `well_posed=False`: elements of at most `rcond` times the largest
            are negligible. Default: 2·n·eps.

    ```python
    operator = lx.DiagonalLinearOperator(jnp.array([1.0, 2.0, 0.0]))
    x = lx.linear_solve(operator, jnp.ones(3), lx.Diagonal()).value  # [1, 0.5, 0]
    ```
    """

    well_posed: bool = eqx.field(static=True, default=False)
    rcond: Any = None

    def init(self, operator, options):
        check_options(options, (), "Diagonal")
        check_square(operator, "Diagonal")
        if not is_diagonal(operator):
            raise ValueError(
                "`Diagonal` solves diagonal systems only, but the operator is not "
                f"known to be diagonal: {operator!r}. Tag it with `diagonal_tag`, or "
                "use another solver."
            )
        d = diagonal(operator)
        d = d.astype(working_dtype(d.dtype))
        size = jnp.abs(d)
        most, singular = largest(size), False
        if self.well_posed:
            negligible = size == 0
            singular = jnp.any(negligible)
        else:
            rcond = rcond_or_default(self.rcond, d.size, d.dtype)
            negligible = (size <= rcond * most) | (size == 0)
            d = jnp.where(negligible, jnp.zeros_like(d), d)
        verdict = judge(jnp.isfinite(most), singular=singular)
        return _DiagonalState(d, verdict, pack_structures(operator))

    def compute(self, state, vector, options):
        check_state(state, _DiagonalState, "Diagonal")

        def solve_with(b, adjoint):
            d = state.d.conj() if adjoint else state.d
            if self.well_posed:
                return b / d
            zero = d == 0
            return jnp.where(zero, 0, b / jnp.where(zero, jnp.ones_like(d), d))

        return *views.solve(state, vector, state.d.dtype, solve_with), {}

    def transpose(self, state, options):
        check_state(state, _DiagonalState, "Diagonal")
        return views.transpose(state), {}

    def conj(self, state, options):
        check_state(state, _DiagonalState, "Diagonal")
        return views.conj(state), {}

    def assume_full_rank(self):
        return self.well_posed


@slogdet_of.register
def _(state: _DiagonalState):
    return slogdet_of_factors(state.d, turned=state.view.turned)


@annihilated.register
def _(state: _DiagonalState, vector):
    def project(v, adjoint):
        return jnp.where(state.d == 0, v, 0)

    return views.within(state, vector, state.d.dtype, project)


@inverse_diagonal_of.register
def _(state: _DiagonalState):
    d = state.d.conj() if state.view.turned else state.d
    return jnp.where(d == 0, jnp.nan, 1 / d)


@root_of.register
def _(state: _DiagonalState, z):
    d = state.d.real
    return jax.lax.sqrt(jnp.where(d > 0, d, jnp.nan)).astype(z.dtype) * z
