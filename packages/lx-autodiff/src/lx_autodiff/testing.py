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

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree
from lx_operators import (
    AbstractLinearOperator,
    DiagonalLinearOperator,
    FunctionLinearOperator,
    JacobianLinearOperator,
    MatrixLinearOperator,
    PyTreeLinearOperator,
    TridiagonalLinearOperator,
    hermitian_tag,
    lower_triangular_tag,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
    upper_triangular_tag,
)
from lx_operators.internal import ravel, unravel
from lx_solvers import AbstractLinearSolver

from ._linear_solve import linear_solve

__all__ = ["LAWS", "PROBLEMS", "ProblemClass", "check_derivatives"]


class ProblemClass(NamedTuple):
    """A family of systems: parameters, and from them the operator and the truth. The
    operator may be between any pytrees; the matrix is between these raveled."""

    name: str
    parameters: Callable[[np.random.Generator, Any], PyTree[Array]]
    operator: Callable[[PyTree[Array]], AbstractLinearOperator]
    matrix: Callable[[PyTree[Array]], Array]
    pseudoinverse: Callable[[PyTree[Array]], Array]


def _random(rng: np.random.Generator, dtype: Any, *shape: int) -> Array:
    x = rng.standard_normal(shape)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        x = x + 1j * rng.standard_normal(shape)
    return jnp.asarray(x, dtype)


def _adjoint(a: Array) -> Array:
    return a.conj().T


def _inverse(a: Array) -> Array:
    return jnp.linalg.solve(a, jnp.eye(a.shape[0], dtype=a.dtype))


def _left_inverse(a: Array) -> Array:
    return _inverse(_adjoint(a) @ a) @ _adjoint(a)


def _right_inverse(a: Array) -> Array:
    return _adjoint(a) @ _inverse(a @ _adjoint(a))


def _well_conditioned(rng: np.random.Generator, dtype: Any, m: int, n: int) -> Array:
    u, _, vh = np.linalg.svd(_random(rng, dtype, m, n), full_matrices=False)
    return jnp.asarray((u * np.linspace(1, 3, min(m, n))) @ vh, dtype)


def _dense(name: str, m: int, n: int, inverse: Callable, *tags: Any) -> ProblemClass:
    return ProblemClass(
        name,
        lambda rng, dtype: _well_conditioned(rng, dtype, m, n),
        lambda a: MatrixLinearOperator(a, tags),
        lambda a: a,
        inverse,
    )


def _gram(sign: int, shift: float, tag: Any, name: str) -> ProblemClass:
    """± XᴴX + shift·diag(±1): Hermitian by construction, in every direction."""

    def matrix(x: Array) -> Array:
        signs = jnp.where(jnp.arange(x.shape[0]) % 2 == 0, 1, -1).astype(x.dtype)
        return sign * (_adjoint(x) @ x) + shift * jnp.diag(signs)

    return ProblemClass(
        name,
        lambda rng, dtype: _well_conditioned(rng, dtype, 4, 4),
        lambda x: MatrixLinearOperator(matrix(x), tag),
        matrix,
        lambda x: _inverse(matrix(x)),
    )


def _deficient(name: str, m: int, n: int, tag: Any = ()) -> ProblemClass:
    """A = B C of rank 2 in every direction: A† = C†B† (Greville 1966)."""

    def parameters(rng: np.random.Generator, dtype: Any) -> tuple[Array, Array]:
        b, c = (_well_conditioned(rng, dtype, *s) for s in ((m, 2), (2, n)))
        return b, c

    def operator(bc: tuple[Array, Array]) -> AbstractLinearOperator:
        b, c = bc
        return MatrixLinearOperator(b @ c, tag)

    return ProblemClass(
        name,
        parameters,
        operator,
        lambda bc: bc[0] @ bc[1],
        lambda bc: _right_inverse(bc[1]) @ _left_inverse(bc[0]),
    )


def _semidefinite(name: str, tag: Any) -> ProblemClass:
    """A = B Bᴴ of rank 2 in every direction."""

    def operator(b: Array) -> AbstractLinearOperator:
        return MatrixLinearOperator(b @ _adjoint(b), tag)

    return ProblemClass(
        name,
        lambda rng, dtype: _well_conditioned(rng, dtype, 4, 2),
        operator,
        lambda b: b @ _adjoint(b),
        lambda b: _adjoint(_left_inverse(b)) @ _left_inverse(b),
    )


def _structured(name: str, masked: Callable, operator: Callable) -> ProblemClass:
    """A square matrix of which only some elements count."""

    def parameters(rng: np.random.Generator, dtype: Any) -> Array:
        return _random(rng, dtype, 4, 4) + 4 * jnp.eye(4, dtype=dtype)

    return ProblemClass(
        name, parameters, operator, masked, lambda a: _inverse(masked(a))
    )


def _bands(a: Array) -> Array:
    return jnp.triu(jnp.tril(a, 1), -1)


class _Rotation(AbstractLinearOperator):
    """A third party's operator, with the methods that it must define and no more: the
    cyclic shift by one, plus a matrix."""

    matrix: Array

    def mv(self, vector):
        return jnp.roll(vector, 1) + self.matrix @ vector

    def as_matrix(self):
        return jax.vmap(self.mv, out_axes=1)(jnp.eye(4, dtype=self.matrix.dtype))

    def transpose(self):
        def fn(vector):
            return jnp.roll(vector, -1) + self.matrix.T @ vector

        return FunctionLinearOperator(fn, self.in_structure())

    def in_structure(self):
        return jax.ShapeDtypeStruct((4,), self.matrix.dtype)

    def out_structure(self):
        return self.in_structure()


def _blocks(a: Array) -> AbstractLinearOperator:
    """From {"u": [3], "v": []} to ([2], [2, 1])."""
    pytree = (
        {"u": a[:2, :3], "v": a[:2, 3]},
        {"u": a[2:, :3].reshape(2, 1, 3), "v": a[2:, 3:]},
    )
    out = tuple(jax.ShapeDtypeStruct(shape, a.dtype) for shape in ((2,), (2, 1)))
    return PyTreeLinearOperator(pytree, out)


def _algebra(a: Array) -> AbstractLinearOperator:
    """-(D A / 2 + 3 L), of parts that share parameters."""
    d = DiagonalLinearOperator(jnp.diag(a))
    lower = MatrixLinearOperator(jnp.tril(a), lower_triangular_tag)
    return -(d @ MatrixLinearOperator(a) / 2 + 3 * lower)


def _function(a: Array) -> AbstractLinearOperator:
    structure = jax.ShapeDtypeStruct((a.shape[1],), a.dtype)
    return FunctionLinearOperator(lambda x: a @ x, structure)


def _jacobian(a: Array) -> AbstractLinearOperator:
    def fn(x: Array, a: Array) -> Array:
        return a @ x + 0.25 * x * x

    x = jnp.linspace(-1, 1, a.shape[1]).astype(a.dtype)
    return JacobianLinearOperator(fn, x, a)


def _jacobian_matrix(a: Array) -> Array:
    x = jnp.linspace(-1, 1, a.shape[1]).astype(a.dtype)
    return a + 0.5 * jnp.diag(x)


PROBLEMS: dict[str, ProblemClass] = {
    problem.name: problem
    for problem in (
        _dense("square", 4, 4, _inverse),
        _dense("tall", 5, 3, _left_inverse),
        _dense("wide", 3, 5, _right_inverse),
        _gram(1, 0.0, positive_semidefinite_tag, "definite"),
        _gram(-1, 0.0, negative_semidefinite_tag, "negative definite"),
        _gram(1, 4.0, hermitian_tag, "indefinite"),
        _deficient("deficient", 4, 4),
        _deficient("deficient tall", 5, 3),
        _deficient("deficient wide", 3, 5),
        _semidefinite("semidefinite", positive_semidefinite_tag),
        _structured(
            "diagonal",
            lambda a: jnp.diag(jnp.diag(a)),
            lambda a: DiagonalLinearOperator(jnp.diag(a)),
        ),
        _structured(
            "tridiagonal",
            _bands,
            lambda a: TridiagonalLinearOperator(
                jnp.diag(a), jnp.diag(a, -1), jnp.diag(a, 1)
            ),
        ),
        _structured(
            "lower",
            jnp.tril,
            lambda a: MatrixLinearOperator(jnp.tril(a), lower_triangular_tag),
        ),
        _structured(
            "upper",
            jnp.triu,
            lambda a: MatrixLinearOperator(jnp.triu(a), upper_triangular_tag),
        ),
        _structured("function", lambda a: a, _function),
        _structured("jacobian", _jacobian_matrix, _jacobian),
        _structured("pytree", lambda a: a, _blocks),
        _structured(
            "algebra",
            lambda a: -(jnp.diag(jnp.diag(a)) @ a / 2 + 3 * jnp.tril(a)),
            _algebra,
        ),
        _structured(
            "third-party",
            lambda a: a + jnp.roll(jnp.eye(4, dtype=a.dtype), 1, axis=0),
            _Rotation,
        ),
    )
}


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

    @_compiled
    def at_scale(arguments: tuple, scale: Array) -> dict[str, Any]:
        x, dx, y = arguments
        x, dx = _multiplied(x, scale), _multiplied(dx, scale)
        out = _all_laws(laws, solve, (x, dx, y))
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
    x = (parameters, _random(rng, dtype, m))
    dx = jtu.tree_map(lambda leaf: _random(rng, dtype, *leaf.shape), x)
    return x, dx, _random(rng, dtype, n)


# These programs run once: little is spent on making them fast.
_compiled = functools.partial(
    jax.jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)


def _all_laws(laws: tuple[str, ...], fn: Callable, arguments: tuple) -> dict[str, Any]:
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
    return _compiled(lambda: _all_laws(laws, truth, arguments))()


def _distance(ours: PyTree[Array], truth: PyTree[Array]) -> float:
    """The largest difference, relative to the largest element of the truth."""
    pairs = list(zip(jtu.tree_leaves(ours), jtu.tree_leaves(truth), strict=True))
    scale = max(float(jnp.max(jnp.abs(b))) for _, b in pairs)
    return max(float(jnp.max(jnp.abs(a - b))) for a, b in pairs) / scale
