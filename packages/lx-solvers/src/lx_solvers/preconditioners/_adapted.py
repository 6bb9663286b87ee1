"""A solver as a preconditioner, and what iterative solvers take as `preconditioner`."""

import importlib
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Int
from lx_operators import AbstractLinearOperator
from lx_operators.internal import inverse_tags, known

from .._results import code, named, succeeded
from .._sequence import follow
from .._solution import RESULTS
from .._solver import AbstractLinearSolver
from ._preconditioner import FAILED, AbstractPreconditioner, stopped


class _State(eqx.Module):
    inner: Any
    verdict: Int[Array, ""]


class SolverPreconditioner(AbstractPreconditioner[_State]):
    """M r is the solution of A z = r by a solver.

    A direct solver that fails is seen in the set-up, where it solves for a vector of
    ones. If a solver fails later, M r is NaN, but an iterative solver may reach its
    limit of steps, or stagnate: what it has then is M r.
    """

    solver: AbstractLinearSolver

    def init(self, operator, options):
        return self.begun(self.solver.init(operator, {}), operator)

    def begun(self, inner: Any, operator: AbstractLinearOperator) -> _State:
        """The state, from the solver's."""
        if not self.is_constant():
            return _State(inner, jnp.int32(0))
        ones = jtu.tree_map(
            lambda leaf: jnp.ones(leaf.shape, leaf.dtype), operator.out_structure()
        )
        _, result, _ = self.solver.compute(inner, ones, {})
        verdict = jnp.where(succeeded(result), 0, code(FAILED)).astype(jnp.int32)
        return _State(inner, verdict)

    def apply(self, state, vector):
        vector = follow(vector, state.verdict)
        z, result, _ = self.solver.compute(state.inner, vector, {})
        good = succeeded(result)
        if not self.is_constant():
            for fair in (RESULTS.max_steps_reached, RESULTS.stagnation):
                good |= result == fair
        return jtu.tree_map(lambda x: jnp.where(good, x, jnp.full_like(x, jnp.nan)), z)

    def transpose(self, state, options):
        inner, _ = self.solver.transpose(state.inner, {})
        return _State(inner, state.verdict), options

    def conj(self, state, options):
        inner, _ = self.solver.conj(state.inner, {})
        return _State(inner, state.verdict), options

    def setup(self, operator):
        ready = self.solver.setup(operator)
        return self if ready is self.solver else SolverPreconditioner(ready)

    def tags(self, operator):
        return inverse_tags(known(operator)) if self.is_constant() else frozenset()

    def is_constant(self):
        return not _iterates(self.solver)

    def status(self, state):
        return named(state.verdict)


def _iterates(solver: Any) -> bool:
    """Whether a solver, or one that it is made of, iterates: it has tolerances."""
    if hasattr(solver, "rtol") or hasattr(solver, "max_steps"):
        return True
    parts = vars(solver).values()
    return any(_iterates(x) for x in parts if isinstance(x, AbstractLinearSolver))


# Preconditioners that are given by a name: file and class. They are looked up, not
# imported, as they may be made of others, which are given to the function below.
NAMED = {"auto": (".auto", "AutoPreconditioner")}


def as_preconditioner(given: Any) -> AbstractPreconditioner | None:
    """The value of an iterative solver's field `preconditioner`, without derivatives,
    from what was given: None, a preconditioner, "auto", or a solver.

    Raises:
        ValueError: anything else.
    """
    if isinstance(given, str) and given in NAMED:
        file, name = NAMED[given]
        return getattr(importlib.import_module(file, __package__), name)()
    if given is None or isinstance(given, AbstractPreconditioner):
        return stopped(given)
    if isinstance(given, AbstractLinearSolver):
        return SolverPreconditioner(stopped(given))
    hint = ""
    if isinstance(given, AbstractLinearOperator):
        hint = " An operator belongs in `options={'preconditioner': operator}`."
    elif isinstance(given, type):
        hint = f" Make an instance: `{given.__name__}(...)`."
    elif hasattr(given, "matvec") or hasattr(given, "solve"):  # of SciPy
        hint = (
            " What runs on the host becomes an operator by `aslinearoperator(scipy."
            "sparse.linalg.LinearOperator(shape, matvec, rmatvec))`; pass it as "
            "`options={'preconditioner': operator}`. `IncompleteLU()` does what "
            "`spilu` does."
        )
    elif isinstance(given, list | tuple):
        hint = " Combine several by `Additive(first, second)` or `Multiplicative(...)`."
    elif hasattr(given, "shape"):
        hint = (
            " Wrap an array as an operator, in the options of the solve: "
            "`options={'preconditioner': MatrixLinearOperator(array)}`."
        )
    raise ValueError(
        "`preconditioner` must be a preconditioner such as `Jacobi()`, 'auto' or a "
        f"solver, but got {given!r}.{hint}"
    )
