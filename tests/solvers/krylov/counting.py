"""Solves as programs, and operators that count their products."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lx_operators as lo

from .conftest import PSD, compute, outcome


def traced_solve(solver, operator, options=None):
    """The program of a solve, without running it."""
    options = {} if options is None else options
    state = solver.init(operator, options)

    def solve(b):
        return solver.compute(state, b, options)[0]

    return jax.make_jaxpr(solve)(operator.out_structure())


class Counting(lo.AbstractLinearOperator):
    """Counts its products: as they are traced, and as they are run."""

    matrix: jax.Array
    tags: object = eqx.field(static=True)
    traced: list = eqx.field(static=True)
    ran: list = eqx.field(static=True)

    def mv(self, vector):
        self.traced.append(1)
        jax.debug.callback(lambda: self.ran.append(1))
        return self.matrix @ vector

    def as_matrix(self):
        return self.matrix

    def transpose(self):
        return Counting(self.matrix.T, self.tags, self.traced, self.ran)

    def in_structure(self):
        return jax.ShapeDtypeStruct(self.matrix.shape[1:], self.matrix.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct(self.matrix.shape[:1], self.matrix.dtype)


@lo.is_hermitian.register(Counting)
def _(operator):
    return bool({lo.hermitian_tag, PSD} & set(operator.tags))


@lo.is_symmetric.register(Counting)
def _(operator):
    return lo.symmetric_tag in operator.tags


@lo.is_positive_semidefinite.register(Counting)
def _(operator):
    return PSD in operator.tags


def counting(method, a):
    tags = method.tags if isinstance(method.tags, tuple) else (method.tags,)
    return Counting(jnp.asarray(a), tags, [], [])


def products_run(name, method, a, b, options):
    """One product a step (and one with the adjoint), one to check; what is counted and
    limited are steps. Returns how many there are beyond that."""
    operator = counting(method, a)
    solver = method.make(1e-8, 0.0)
    state = solver.init(operator, options)
    _, result, steps, _ = outcome(*compute(solver, state, jnp.asarray(b), options))
    jax.effects_barrier()
    assert result == "successful"
    replaced = (steps - 1) // 10 if name.startswith("CG") else 0  # stabilise_every
    each = 2 if method.adjoint else 1
    return len(operator.ran) / each - steps - replaced - 1
