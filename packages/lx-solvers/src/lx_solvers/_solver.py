"""What a linear solver is: how A x = b is computed, forward only."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
from jaxtyping import Array, PyTree
from lx_operators import AbstractLinearOperator

from ._checks import check_undamped
from ._solution import RESULTS

_State = TypeVar("_State")

Options = dict[str, Any]


class AbstractLinearSolver(eqx.Module, Generic[_State]):
    """An algorithm for the pseudoinverse solution A†b.

    To write a solver, subclass this and define five methods: `init`, `compute`,
    `transpose`, `conj` and `assume_full_rank`. `linear_solve` needs nothing else to
    provide derivatives, batching and error reports.

    A solver with a field `damp` minimises ‖Ax − b‖² + damp²‖x‖²; derivatives are then
    those of that problem.

    The work is split in two: `init` does what depends on the operator alone, such as a
    factorisation, and `compute` does the work for each vector. Both are compiled.
    `setup` is for work on the host before that, which few solvers need.

    ```python
    class Inverse(lx.AbstractLinearSolver):
        def init(self, operator, options):
            inverse = jnp.linalg.inv(operator.as_matrix())
            return inverse, lx.internal.pack_structures(operator)

        def compute(self, state, vector, options):
            inverse, packed = state
            x = inverse @ lx.internal.ravel_vector(vector, packed)
            return lx.internal.unravel_solution(x, packed), lx.RESULTS.successful, {}

        def transpose(self, state, options):
            inverse, packed = state
            packed = lx.internal.transpose_packed_structures(packed)
            return (inverse.T, packed), {}

        def conj(self, state, options):
            inverse, packed = state
            return (inverse.conj(), packed), {}

        def assume_full_rank(self):
            return True
    ```
    """

    def __check_init__(self):
        for name in ("inner", "inner_solver"):
            check_undamped(getattr(self, name, None), type(self).__name__)

    def setup(self, operator: AbstractLinearOperator) -> "AbstractLinearSolver":
        """The solver after its work on the host, such as an ordering or a hierarchy.

        `linear_solve`, `invert` and `slogdet` call it once, before they compile `init`
        and `compute`, so that it sees the operator's arrays as the caller has them:
        with values, unless the caller's own code is traced. It is not called if a
        `state` is given. Arrays that it keeps in fields reach `init` as operands;
        everything else that it keeps must be hashable.

        Args:
            operator: A, whose arrays carry no tangents. Under `jit` and `vmap` they may
                be tracers, except for those that the traced function closes over.

        Returns:
            A solver of the same kind; by default this one, with its `preconditioner`
            set up if it has such a field.
        """
        preconditioner = getattr(self, "preconditioner", None)
        if preconditioner is None:
            return self
        ready = preconditioner.setup(operator)
        if ready is preconditioner:
            return self
        return eqx.tree_at(lambda solver: solver.preconditioner, self, ready)

    @abc.abstractmethod
    def init(self, operator: AbstractLinearOperator, options: Options) -> _State:
        """What depends on the operator alone.

        Args:
            operator: A.
            options: a dictionary of what the solver takes at run time.

        Returns:
            The state: a pytree.

        Raises:
            ValueError: the solver does not handle such an operator.
        """

    @abc.abstractmethod
    def compute(
        self, state: _State, vector: PyTree[Array], options: Options
    ) -> tuple[PyTree[Array], RESULTS, dict[str, Any]]:
        """Solve for one vector.

        Args:
            state: what `init` returned.
            vector: b, of the operator's output structure, dtypes included.
            options: as in `init`.

        Returns:
            The solution, of the operator's input structure; how the solve ended; and a
            dictionary of statistics.
        """

    @abc.abstractmethod
    def transpose(self, state: _State, options: Options) -> tuple[_State, Options]:
        """The state and the options for Aᵀ, computed without factorising again."""

    @abc.abstractmethod
    def conj(self, state: _State, options: Options) -> tuple[_State, Options]:
        """The state and the options for the elementwise conjugate Ā."""

    @abc.abstractmethod
    def assume_full_rank(self) -> bool:
        """Whether the solver assumes full rank: all columns linearly independent, or
        all rows. Derivatives then omit the terms that vanish."""
