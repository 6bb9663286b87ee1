"""The laws of every solver of structured operators, against NumPy's pseudoinverse."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np
import pytest
from lx_operators import conj
from lx_operators.internal import ravel, unravel
from lx_solvers import RESULTS


@pytest.fixture(scope="session")
def draw():
    """Normal variates, the same in every run."""

    def draw(dtype, *shape, seed=7):
        generator = np.random.default_rng([seed, *shape])
        x = generator.normal(size=shape)
        if np.issubdtype(dtype, np.complexfloating):
            x = x + 1j * generator.normal(size=shape)
        return jnp.asarray(x, dtype)

    return draw


VIEWS = {
    "A": (lambda s, state: state, lambda op: op),
    "Aᵀ": (lambda s, state: s.transpose(state, {})[0], lambda op: op.T),
    "Ā": (lambda s, state: s.conj(state, {})[0], conj),
    "Aᴴ": (
        lambda s, state: s.conj(s.transpose(state, {})[0], {})[0],
        lambda op: op.H,
    ),
}


@pytest.fixture(scope="session")
def obeys_laws(draw):
    """A solver on an operator and its reflections, one vector and many: solutions
    are those of the dense matrix, and no state is initialised again."""

    def check(solver, operator, tolerance=3000.0, rcond=None):
        dtype = operator.as_matrix().dtype
        eps = float(jnp.finfo(dtype).eps)
        dense = np.asarray(operator.as_matrix())
        dense = dense.astype(np.result_type(dense, np.float64))
        pinv = np.linalg.pinv(dense, rcond=100 * eps if rcond is None else rcond)
        truths = {"A": pinv, "Aᵀ": pinv.T, "Ā": pinv.conj(), "Aᴴ": pinv.conj().T}
        vectors = {
            name: draw(dtype, 3, reflect(operator).out_size())
            for name, (_, reflect) in VIEWS.items()
        }

        @eqx.filter_jit
        def all_views(operator, vectors):
            state = solver.init(operator, {})
            out = {}
            for name, (turn, reflect) in VIEWS.items():
                structure = reflect(operator).out_structure()

                def one(b, turned=turn(solver, state), structure=structure):
                    x, result, _ = solver.compute(turned, unravel(b, structure), {})
                    return ravel(x), result

                out[name] = jax.vmap(one)(vectors[name])
            return out

        for name, (x, results) in all_views(operator, vectors).items():
            wanted = np.asarray(vectors[name]) @ truths[name].T
            assert x.dtype == dtype, name
            for code in jtu.tree_leaves(results)[0].reshape(-1):
                result = jtu.tree_map(lambda _, code=code: code, RESULTS.successful)
                assert result == RESULTS.successful, f"{name}: {RESULTS[result]}"
            scale = np.abs(wanted).max(initial=0) or 1.0
            error = np.abs(np.asarray(x) - wanted).max(initial=0) / scale
            assert error <= tolerance * eps, f"{name}: off by {error:.1e}"

    return check


@eqx.filter_jit
def _solve(solver, operator, vector):
    return solver.compute(solver.init(operator, {}), vector, {})


@pytest.fixture(scope="session")
def solve():
    """One solve, compiled: solution, result and statistics."""
    return _solve


@pytest.fixture(scope="session")
def outcome():
    """The name of the result of a solve, of the operator's own structure."""
    names = (
        "successful",
        "singular",
        "unstable",
        "nonfinite_input",
        "breakdown",
        "max_steps_reached",
    )
    names = {RESULTS[getattr(RESULTS, name)]: name for name in names}

    def outcome(solver, operator, vector=None):
        if vector is None:
            structure = operator.out_structure()
            vector = jtu.tree_map(lambda s: jnp.ones(s.shape, s.dtype), structure)
        x, result, _ = _solve(solver, operator, vector)
        return x, names[RESULTS[result]]

    return outcome
