"""What a preconditioner is: a recipe for an approximate inverse."""

import abc
from typing import Any, Generic, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.tree_util as jtu
from jaxtyping import Array, Int, PyTree
from lx_operators import (
    AbstractLinearOperator,
    FunctionLinearOperator,
    conj,
    hermitian_tag,
    is_hermitian,
    is_negative_semidefinite,
    is_positive_semidefinite,
    is_symmetric,
    negative_semidefinite_tag,
    positive_semidefinite_tag,
    symmetric_tag,
    transpose_tags,
)
from lx_operators.internal import (
    Frozen,
    apply_linear,
    as_tags,
    conform,
    describe,
    freeze,
    known,
    same_shapes,
    summary,
)

from .._checks import check_square
from .._results import all_finite, both, choose, code, named
from .._sizes import is_known
from .._solution import RESULTS
from .._solver import Options

_State = TypeVar("_State")


class AbstractPreconditioner(eqx.Module, Generic[_State]):
    """A recipe for a preconditioner M, an operator that approximates the inverse of A.

    Pass it to an iterative solver as `preconditioner=`. The solver's `init` sets it up
    from the operator, and keeps the result in its state; the transposed and conjugated
    solves of derivatives use the transposed and conjugated M. It carries no derivative,
    because the solution does not depend on it.

    To write one, define the four abstract methods. `tags` states what is known about M,
    and `is_constant` whether M is one linear map; `setup` is for work that has to be
    done outside `jit`, and `status` reports failures of the set-up.

    ```python
    class Row(lx.AbstractPreconditioner):
        def init(self, operator, options):
            return 1 / jnp.sum(jnp.abs(operator.as_matrix()), axis=1)

        def apply(self, state, vector):
            return state * vector

        def transpose(self, state, options):
            return state, options

        def conj(self, state, options):
            return state.conj(), options

    operator = lx.MatrixLinearOperator(jnp.array([[4.0, 1.0], [2.0, 9.0]]))
    solver = lx.GMRES(preconditioner=Row())
    solution = lx.linear_solve(operator, jnp.ones(2), solver)
    ```
    """

    @abc.abstractmethod
    def init(self, operator: AbstractLinearOperator, options: Options) -> _State:
        """What depends on the operator alone.

        Args:
            operator: A, square.
            options: those of the solver.

        Returns:
            The state: a pytree.

        Raises:
            ValueError: there is no such preconditioner for this operator.
        """

    @abc.abstractmethod
    def apply(self, state: _State, vector: PyTree[Array]) -> PyTree[Array]:
        """M r.

        Args:
            state: what `init` returned.
            vector: r, of the operator's input structure.

        Returns:
            The same structure.
        """

    @abc.abstractmethod
    def transpose(self, state: _State, options: Options) -> tuple[_State, Options]:
        """The state and the options for Mᵀ."""

    @abc.abstractmethod
    def conj(self, state: _State, options: Options) -> tuple[_State, Options]:
        """The state and the options for the elementwise conjugate of M."""

    def setup(self, operator: AbstractLinearOperator) -> "AbstractPreconditioner":
        """A preconditioner for operators of this structure, after work on the host that
        depends on concrete arrays. `linear_solve` calls it outside its `jit`. By
        default there is no such work.

        Args:
            operator: A.
        """
        return self

    def tags(self, operator: AbstractLinearOperator) -> Any:
        """What is known about M: a tag, or any iterable of tags; by default none. `CG`
        needs a semidefinite M.

        Args:
            operator: A.
        """
        return frozenset()

    def is_constant(self) -> bool:
        """Whether M is one linear map. If not, only `FGMRES` takes it."""
        return True

    def status(self, state: _State) -> RESULTS:
        """Whether the set-up succeeded. (States that are not finite are found anyway.)
        If not, the solve ends with this result.

        Args:
            state: what `init` returned.
        """
        return RESULTS.successful

    def stats(self, state: _State) -> dict[str, Array]:
        """Figures to be added to the statistics of a solve; `preconditioner_` is put in
        front of each name.

        Args:
            state: what `init` returned.
        """
        return {}

    def watched(self, state: _State) -> PyTree:
        """The part of the state that is not finite if M is not; by default all of it. A
        smaller part is faster to compile.

        Args:
            state: what `init` returned.
        """
        return state

    def right_factor(
        self, operator: AbstractLinearOperator
    ) -> AbstractLinearOperator | None:
        """R⁻¹, such that R⁻¹ R⁻ᴴ approximates (AᴴA)⁻¹, for `LSMR` and `LSQR`; None if
        this preconditioner has no such form. By default M, if A is square.

        Args:
            operator: A, of any shape.
        """
        structures = operator.in_structure(), operator.out_structure()
        square = same_shapes(*structures) and self.is_constant()
        return self.as_operator(operator) if square else None

    def as_operator(self, operator: AbstractLinearOperator) -> AbstractLinearOperator:
        """M as an operator, from the input structure of A to itself.

        Args:
            operator: A.

        Raises:
            ValueError: A is not square, or not from a space to itself.
        """
        return prepared(self, operator, {})


class Prepared(AbstractLinearOperator):
    """A preconditioner that was set up, as an operator."""

    recipe: AbstractPreconditioner
    state: Any
    verdict: Int[Array, ""]
    """The number of a result: how the set-up went."""
    structure: Frozen = eqx.field(static=True)
    tags: frozenset = eqx.field(static=True)

    def mv(self, vector):
        structure = self.in_structure()
        vector = conform(vector, structure, "the vector")
        return apply_linear(
            lambda r: self.recipe.apply(self.state, r), vector, structure
        )

    def as_matrix(self):
        structure = self.in_structure()
        return FunctionLinearOperator(
            self.mv, structure, closure_convert=False
        ).as_matrix()

    def transpose(self):
        state, _ = self.recipe.transpose(self.state, {})
        tags = transpose_tags(self.tags)
        return Prepared(self.recipe, state, self.verdict, self.structure, tags)

    def in_structure(self):
        return self.structure.thaw()

    def out_structure(self):
        return self.structure.thaw()

    def __repr__(self) -> str:
        return f"{self.recipe!r} as {summary(self)}"


_SYMMETRIES = {
    symmetric_tag: is_symmetric,
    hermitian_tag: is_hermitian,
    positive_semidefinite_tag: is_positive_semidefinite,
    negative_semidefinite_tag: is_negative_semidefinite,
}
for _tag, _question in _SYMMETRIES.items():
    _question.register(Prepared, lambda operator, tag=_tag: tag in operator.tags)


@conj.register
def _(operator: Prepared):
    state, _ = operator.recipe.conj(operator.state, {})
    return Prepared(
        operator.recipe, state, operator.verdict, operator.structure, operator.tags
    )


def tags_of(
    recipe: AbstractPreconditioner, operator: AbstractLinearOperator
) -> frozenset[Any]:
    """What a recipe says of M for this operator."""
    return as_tags(recipe.tags(operator))


def prepared(
    recipe: AbstractPreconditioner,
    operator: AbstractLinearOperator,
    options: Options,
    *,
    within: bool = False,
) -> Prepared:
    """M, without derivatives: set up, and looked at for failures.

    Args:
        recipe, operator, options: M, A, and those of the solver.
        within: M becomes a part of a state that will be looked at for what is not
            finite, so that here it need not be.

    Raises:
        ValueError: the operator is not square, or not from a space to itself.
    """
    name = type(recipe).__name__
    check_square(operator, name)
    structure = operator.in_structure()
    if not same_shapes(structure, operator.out_structure()):
        raise ValueError(
            f"`{name}` needs an operator from a space to itself, but got one from "
            f"{describe(structure)} to {describe(operator.out_structure())}."
        )
    operator, recipe = stopped((operator, recipe))
    recipe, n = recipe.setup(operator), operator.in_size()
    tags = tags_of(recipe, operator)
    recipe = _Identity() if is_known(n) and n == 0 else recipe
    state = recipe.init(operator, options)
    result = recipe.status(state)
    for part in parts_of_state(state):
        result = both(result, named(part.verdict))
    if not within:
        result = both(_soundness(recipe.watched(state), operator), result)
    return Prepared(recipe, stopped(state), code(result), freeze(structure), tags)


class _Identity(AbstractPreconditioner[None]):
    """None at all; and that of an operator without unknowns, whatever the recipe."""

    def init(self, operator, options):
        return None

    def apply(self, state, vector):
        return vector

    def transpose(self, state, options):
        return state, options

    def conj(self, state, options):
        return state, options

    def tags(self, operator):
        return frozenset((positive_semidefinite_tag,))

    def __repr__(self):
        return "none"


def told(M: Any) -> dict[str, Array]:
    """The statistics that a preconditioner and its parts add to those of a solve."""
    if not isinstance(M, Prepared):
        return {}
    found: dict[str, Array] = {}
    for part in parts_of_state(M.state):
        found |= told(part)
    own = M.recipe.stats(M.state)
    return found | {f"preconditioner_{name}": value for name, value in own.items()}


def parts_of_state(state: Any) -> list[Prepared]:
    """The preconditioners that a state is made of."""
    return [x for x in _leaves(state) if isinstance(x, Prepared)]


def _leaves(tree: Any) -> list[Any]:
    return jtu.tree_leaves(tree, is_leaf=lambda x: isinstance(x, Prepared))


def stopped(tree: Any) -> Any:
    """The same pytree, its arrays without tangents."""

    def stop(leaf: Any) -> Any:
        array = isinstance(leaf, jax.Array)
        inexact = array and jnp.issubdtype(leaf.dtype, jnp.inexact)
        return jax.lax.stop_gradient(leaf) if inexact else leaf

    return jtu.tree_map(stop, tree)


def _soundness(state: Any, operator: AbstractLinearOperator) -> RESULTS:
    """A state that is not finite is a failure, the input's if that is not either. The
    operator's arrays that are found again in the state are looked at once."""
    found = _inexact(operator)
    fine = all_finite(list(found.values()))
    more = {key: x for key, x in _inexact(state).items() if key not in found}
    fault = choose(fine, FAILED, RESULTS.nonfinite_input)
    sound = fine & all_finite(list(more.values()))
    return choose(sound, RESULTS.successful, fault)


def _inexact(tree: Any) -> dict[int, Array]:
    found: dict[int, Array] = {}
    for x in _leaves(tree):
        if isinstance(x, Prepared):
            found |= _inexact(x.recipe.watched(x.state))
        elif eqx.is_inexact_array(x):
            found[id(x)] = x
    return found


FAILED = RESULTS.preconditioner_failed


def definite_tags(operator: AbstractLinearOperator) -> frozenset[Any]:
    """The tags of A that also hold for an odd Hermitian function of A that is positive
    on positive numbers: symmetries, and the sign."""
    return known(operator) & frozenset(_SYMMETRIES)
