"""The laws: derivatives of a solve, and of a closed form."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree
from lx_operators.internal import ravel, unravel
from lx_solvers import AbstractLinearSolver

from .._linear_solve import linear_solve
from ._problems import ProblemClass, random


def _jvp(fn: Callable, x: Any, dx: Any) -> tuple[Any, Any]:
    return jax.jvp(fn, x, dx)


def _vjp(fn: Callable, x: Any, y: Any) -> tuple[Any, Any]:
    value, pullback = jax.vjp(fn, *x)
    return value, pullback(y)


# Second derivatives, with the first ones that come along: {law: pytree}.


def _jvp_jvp(fn: Callable, x: Any, dx: Any, y: Any) -> dict[str, Any]:
    (value, first), (_, second) = _jvp(lambda *x: _jvp(fn, x, dx), x, dx)
    return {"value": value, "jvp": first, "jvp of jvp": second}


def _vjp_jvp(fn: Callable, x: Any, dx: Any, y: Any) -> dict[str, Any]:
    def tangent(*x: Any) -> tuple[Any, Any]:
        value, first = _jvp(fn, x, dx)
        return first, value

    first, pullback, value = jax.vjp(tangent, *x, has_aux=True)
    return {"value": value, "jvp": first, "vjp of jvp": pullback(y)}


def _jvp_vjp(fn: Callable, x: Any, dx: Any, y: Any) -> dict[str, Any]:
    (value, first), (moved, second) = _jvp(lambda *x: _vjp(fn, x, y), x, dx)
    return {"value": value, "jvp": moved, "vjp": first, "jvp of vjp": second}


_SECOND = {"jvp of jvp": _jvp_jvp, "vjp of jvp": _vjp_jvp, "jvp of vjp": _jvp_vjp}


def _batched(law: Callable, fn: Callable, *arguments: Any) -> Any:
    return jax.vmap(functools.partial(law, fn))(*map(_stacked, arguments))


def _stacked(tree: PyTree[Array]) -> PyTree[Array]:
    return jtu.tree_map(lambda leaf: jnp.stack([leaf, 2 * leaf]), tree)


# The derivatives that must agree with the truth's: (fn, x, dx, y) -> pytree.
LAWS: dict[str, Callable] = {
    "value": lambda fn, x, dx, y: fn(*x),
    "jvp": lambda fn, x, dx, y: _jvp(fn, x, dx)[1],
    "vjp": lambda fn, x, dx, y: _vjp(fn, x, y)[1],
    "jvp of jvp": lambda fn, x, dx, y: _jvp_jvp(fn, x, dx, y)["jvp of jvp"],
    "vjp of jvp": lambda fn, x, dx, y: _vjp_jvp(fn, x, dx, y)["vjp of jvp"],
    "jvp of vjp": lambda fn, x, dx, y: _jvp_vjp(fn, x, dx, y)["jvp of vjp"],
}
LAWS |= {
    f"vmap of {name}": lambda fn, x, dx, y, law=law: _batched(law, fn, x, dx, y)
    for name, law in LAWS.items()
}


def check_derivatives(
    solver: AbstractLinearSolver,
    problem: ProblemClass,
    dtype: Any,
    *,
    seed: int = 0,
    rtol: float = 1e-7,
    laws: tuple[str, ...] = tuple(LAWS),
    scale: float | Sequence[float] = 1.0,
    **options: Any,
) -> None:
    """Compare every derivative of a solve with that of a closed form.

    At another `scale` s the truth is that at scale 1: the solution of (sA, sb) is that
    of (A, b), and s times its gradient is the gradient at scale 1.

    Args:
        solver: the solver to test; it must handle the problem class.
        problem: one of `PROBLEMS`, or one's own.
        dtype: float64 or complex128; with a larger `rtol`, float32 or complex64.
        seed: of the random parameters, vectors and directions.
        rtol: the largest difference allowed, relative to the truth's largest element.
        laws: which of `LAWS` to check.
        scale: a power of two, which multiplies parameters, vector and directions. The
            operator must be linear in the parameters, unless it is 1. Several are
            checked with one compilation.
        options: keyword arguments of `linear_solve`.

    Raises:
        AssertionError: names every law that fails, and by how much.
    """

    def solve(parameters: PyTree[Array], vector: Array) -> Array:
        operator = problem.operator(parameters)
        vector = unravel(vector, operator.out_structure())
        return ravel(linear_solve(operator, vector, solver, **options).value)

    arguments = _arguments(problem, dtype, seed)

    @compiled
    def at_scale(arguments: tuple, scale: Array) -> dict[str, Any]:
        x, dx, y = arguments
        x, dx = _multiplied(x, scale), _multiplied(dx, scale)
        out = all_laws(laws, solve, (x, dx, y))
        # gradients are of the size of 1 / scale
        return {k: _multiplied(v, scale) if "vjp" in k else v for k, v in out.items()}

    theirs = _truth(problem, dtype, seed, laws)
    wrong = []
    for each in np.atleast_1d(scale):
        # as arguments: XLA would merge the factors of constants
        ours = at_scale(arguments, np.asarray(each, jnp.finfo(dtype).dtype))
        for name in laws:
            far = _distance(ours[name], theirs[name])
            if not far <= rtol:
                wrong.append(f"  {name}, at scale {each:.0e}: {far:.1e}")
    if wrong:
        table = "\n".join(wrong)
        raise AssertionError(
            f"{solver!r} on {problem.name!r} in {dtype}: relative errors over {rtol}\n"
            f"{table}"
        )


def _multiplied(tree: PyTree[Array], factor: Array) -> PyTree[Array]:
    return jtu.tree_map(lambda x: x * factor.astype(x.dtype), tree)


def _arguments(problem: ProblemClass, dtype: Any, seed: int) -> tuple[Any, Any, Any]:
    """Where the derivatives are taken, in which direction, and a cotangent."""
    rng = np.random.default_rng(seed)
    parameters = problem.parameters(rng, dtype)
    m, n = problem.matrix(parameters).shape
    x = (parameters, random(rng, dtype, m))
    dx = jtu.tree_map(lambda leaf: random(rng, dtype, *leaf.shape), x)
    return x, dx, random(rng, dtype, n)


# These programs run once: little is spent on making them fast.
compiled = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def all_laws(laws: tuple[str, ...], fn: Callable, arguments: tuple) -> dict[str, Any]:
    """The derivatives that the laws speak of. What a second derivative computes on its
    way is not computed again."""
    prefix = "vmap of "
    single = {name for name in laws if not name.startswith(prefix)}
    batched = {name.removeprefix(prefix) for name in laws if name.startswith(prefix)}
    out = _derivatives(single, fn, *arguments)
    if batched:
        law = functools.partial(_derivatives, batched)
        many = _batched(law, fn, *arguments)
        out |= {f"{prefix}{name}": value for name, value in many.items()}
    return out


def _derivatives(laws: set[str], fn: Callable, *arguments: Any) -> dict[str, Any]:
    out = {}
    for name, derivative in _SECOND.items():
        if name in laws:
            out |= derivative(fn, *arguments)
    out |= {name: LAWS[name](fn, *arguments) for name in laws - out.keys()}
    return {name: out[name] for name in sorted(laws)}


@functools.cache
def _truth(
    problem: ProblemClass, dtype: Any, seed: int, laws: tuple[str, ...]
) -> dict[str, Any]:
    def truth(parameters: PyTree[Array], vector: Array) -> Array:
        return problem.pseudoinverse(parameters) @ vector

    arguments = _arguments(problem, dtype, seed)
    return compiled(lambda: all_laws(laws, truth, arguments))()


def _distance(ours: PyTree[Array], truth: PyTree[Array]) -> float:
    """The largest difference, relative to the largest element of the truth."""
    pairs = list(zip(jtu.tree_leaves(ours), jtu.tree_leaves(truth), strict=True))
    scale = max(float(jnp.max(jnp.abs(b))) for _, b in pairs)
    return max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs) / scale
