"""The longer laws: derivatives, dtypes, and that an operator is its fields."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
from jaxtyping import Array, PyTree

from .._functions import adjoint_product, conj, diagonal, linearise, materialise
from .._operator import AbstractLinearOperator
from .._properties import known
from .._structures import is_real, promote_types, structures_of
from ..composites.tangent import TangentLinearOperator
from ._subject import Subject, claims, ravel_leaves, times, vector_of, wide


def check_derivative(subject: Subject) -> None:
    """Derivatives are difference quotients, and products of the tangent operator."""
    arrays, rest = eqx.partition(subject.operator, eqx.is_inexact_array)
    if not jtu.tree_leaves(arrays):
        return
    tangents = jtu.tree_map(subject.like, arrays)

    def matrix(arrays: PyTree) -> Array:
        return eqx.combine(arrays, rest).as_matrix()

    _, out = jax.jvp(matrix, (arrays,), (tangents,))
    coarsest = max(
        float(jnp.finfo(array.dtype).eps) for array in jtu.tree_leaves(arrays)
    )
    step = 1e-5 if coarsest < 1e-10 else 1e-2
    slack = 3e3 * max(1.0, coarsest / (subject.epsilon or coarsest))
    ahead, behind = (
        wide(matrix(jtu.tree_map(lambda x, t, h=h: x + h * t, arrays, tangents)))
        for h in (step, -step)
    )
    quotient = (ahead - behind) / (2 * step)
    subject.close(out, quotient, "derivative", slack=slack)
    tangent = TangentLinearOperator(subject.operator, tangents)
    subject.close(tangent.as_matrix(), wide(out), "tangent.as_matrix()")
    x = subject.flat(structures_of(tangent)[0])
    subject.close(times(tangent, x), wide(out) @ x, "tangent.mv")
    for name, of_tangent, expected in (
        ("tangent.T", tangent.T, wide(out).T),
        ("linearise(tangent)", linearise(tangent), wide(out)),
        ("materialise(tangent)", materialise(tangent), wide(out)),
        ("conj(tangent)", conj(tangent), wide(out).conj()),
    ):
        subject.close(of_tangent.as_matrix(), expected, name)
    subject.close(diagonal(tangent), np.diagonal(wide(out)), "diagonal(tangent)")


def check_promotion(subject: Subject) -> None:
    """Products with vectors of other dtypes have the promoted dtype."""
    ins, outs = structures_of(subject.operator)
    if not jtu.tree_leaves(ins):
        return
    wider = [jnp.complex64] if is_real(ins) else []
    if jnp.result_type(float) == jnp.float64:
        wider.append(jnp.float64)
    for extra in wider:
        given = jtu.tree_map(
            lambda leaf, extra=extra: jax.ShapeDtypeStruct(
                leaf.shape, promote_types(leaf.dtype, extra)
            ),
            ins,
        )
        x = subject.flat(given)
        out = subject.operator.mv(vector_of(x, given))
        name = f"mv of {jnp.dtype(extra).name}"
        subject.close(ravel_leaves(out), subject.dense @ x, name)
        for leaf, known_leaf in zip(jtu.tree_leaves(out), jtu.tree_leaves(outs)):
            wanted = promote_types(known_leaf.dtype, extra)
            subject.equal(leaf.dtype, wanted, f"dtype of {name}")
    ones = jtu.tree_map(lambda leaf: jnp.ones(leaf.shape, int), ins)
    out = wide(ravel_leaves(subject.operator.mv(ones)))
    subject.close(out, subject.dense.sum(axis=1), "mv of integers")


def check_fields(subject: Subject) -> None:
    """No question changes the operator's pytree."""
    leaves, treedef = jtu.tree_flatten(subject.operator)
    operator, other = (jtu.tree_unflatten(treedef, leaves) for _ in range(2))
    traces = []

    @eqx.filter_jit
    def product(operator: AbstractLinearOperator, x: PyTree[Array]) -> PyTree:
        traces.append(repr(operator))
        return operator.mv(x)

    x = subject.vector()
    product(operator, x)
    questions = (
        *(repr, known, structures_of, claims, conj, linearise, materialise),
        *(diagonal, adjoint_product),
        lambda op: (op.T, op.H, op.T.T),
        lambda op: op.as_matrix(),
        lambda op: op.mv(x),
        lambda op: (op + op, op.H @ op, 2 * op, -op / 2.0),
    )
    for question in questions:
        question(operator)
        subject.demand(
            jtu.tree_structure(operator) == treedef,
            f"its pytree is another one after {question}",
        )
    product(operator, x)
    product(other, x)
    subject.equal(len(traces), 1, "the number of traces of a jitted function")
    arrays, _ = eqx.partition(operator, eqx.is_array)
    others, _ = eqx.partition(other, eqx.is_array)
    jtu.tree_map(jnp.add, arrays, others)
