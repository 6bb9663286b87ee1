"""Samples of N(0, A⁻¹).

With A = WWᴴ and z of N(0, I), x = A⁻¹Wz has the covariance A⁻¹ WWᴴ A⁻¹ = A⁻¹. As A
moves, dx = -½ A⁻¹ dA x moves the covariance as it should: that of x + dx is

    (I - ½A⁻¹dA) A⁻¹ (I - ½A⁻¹dA)ᴴ = A⁻¹ - A⁻¹ dA A⁻¹ + O(dA²).

So derivatives of expectations are right, with one solve, and no factor is
differentiated.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Inexact, PRNGKeyArray, PyTree
from lx_operators import AbstractLinearOperator
from lx_operators.internal import common_dtype, complex_to_real_dtype, unravel
from lx_solvers import AbstractLinearSolver, AutoLinearSolver
from lx_solvers.internal import root_of, succeeded

from ._arguments import NO_STATE
from ._compiled import Compiled, is_quick
from ._partition import Static, split
from ._primitive import solve
from ._sharding import on_automatic_axes
from ._slogdet import moved, nonzero, square_problem


def sample_gaussian(
    operator: AbstractLinearOperator,
    key: PRNGKeyArray,
    shape: tuple[int, ...] = (),
    solver: AbstractLinearSolver = AutoLinearSolver(well_posed=True),
    *,
    options: dict[str, Any] | None = None,
    state: Any = NO_STATE,
) -> PyTree[Inexact[Array, "..."]]:
    """Samples from the Gaussian N(0, A⁻¹), which has mean zero and precision matrix A.

    For a complex operator they are circular complex: E[xxᴴ] = A⁻¹, and E[xxᵀ] = 0.

    Derivatives with respect to `operator` are pathwise, in both modes and to any order:
    derivatives of expectations E[f(x)] are correct. They are not the derivatives of one
    sample for a fixed key, because the factor of A is not differentiated.

    Args:
        operator: a positive definite operator of matrix shape `[n, n]`, tagged
            `positive_semidefinite_tag`.
        key: a key of `jax.random`.
        shape: the shape of the batch of samples. They share one factorisation.
        solver: `Cholesky`, `SparseCholesky` or `Diagonal`, or the automatic choice of
            one of these.
        options: as in `linear_solve`.
        state: the state of an earlier solve with this operator and solver, to reuse its
            factors.

    Returns:
        A pytree of the operator's input structure, with `shape` in front of the shape
        of each leaf; NaN if the operator is not definite to working precision.

    Raises:
        ValueError: the operator is not square, or the solver has no square root of it.

    ```python
    matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]])
    operator = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
    x = lx.sample_gaussian(operator, jax.random.key(0), (1000,), lx.Cholesky())
    x.T @ x / 1000  # about [[0.6, -0.2], [-0.2, 0.4]]
    ```
    """
    problem = square_problem(operator, solver, options, state, "a covariance")
    dtype = common_dtype(operator.in_structure(), operator.out_structure())
    n, count = operator.in_size(), math.prod(shape)
    z = _normal(key, (count, n), dtype)
    arrays, static = split((problem, z))
    x = _samples(static, *arrays, quickly=is_quick(operator.in_structure()))
    return jtu.tree_map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), x)


@Compiled
@on_automatic_axes
def _samples(static: Static, *arrays: Array) -> PyTree[Array]:
    problem, z = static.join(arrays)
    held, rest = split(problem)
    return jax.vmap(lambda z: _sample(rest, held, z))(z)


def _normal(key: PRNGKeyArray, shape: tuple[int, ...], dtype: Any) -> Array:
    """Normal variates of variance one; `jax.random` gives complex ones under standard
    promotion only."""
    if not jnp.issubdtype(dtype, jnp.complexfloating):
        return jax.random.normal(key, shape, dtype)
    parts = jax.random.normal(key, (2, *shape), complex_to_real_dtype(dtype))
    return jax.lax.complex(*(parts * 0.5**0.5))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _sample(static: Static, arrays: list[Array], z: Array) -> PyTree[Array]:
    problem = static.join(arrays)
    method = problem.forward
    w = unravel(root_of(method.state, z), problem.operator.out_structure())
    x, result, _ = method.solver.compute(method.state, w, method.options)
    fine = succeeded(result)
    return jtu.tree_map(lambda leaf: jnp.where(fine, leaf, jnp.nan), x)


@_sample.defjvp
def _sample_jvp(static: Static, primals: Any, tangents: Any) -> Any:
    arrays, z = primals
    given, moving = nonzero(tangents[0])
    problem, tangent = moved(static, given, arrays, moving)
    x = _sample(static, arrays, z)
    half = jtu.tree_map(lambda leaf: -leaf / 2, tangent.mv(x))
    dx, _, _ = solve(problem, half, "nan", "tangent")
    return x, dx
