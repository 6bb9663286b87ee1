"""`invert`: the pseudoinverse as an operator."""

from typing import Any

import equinox as eqx
from jaxtyping import Array, PyTree
from lx_operators import (
    AbstractLinearOperator,
    FunctionLinearOperator,
    IdentityLinearOperator,
    conj,
    is_nonsingular,
)
from lx_operators.internal import (
    PRODUCTS,
    Reflection,
    Rewrite,
    as_product,
    freeze,
    inverse_tags,
    known,
    remember,
    same,
    signed,
)
from lx_solvers import AbstractLinearSolver, AutoLinearSolver
from lx_solvers.internal import solver_for

from ._arguments import check_one, check_solve
from ._linear_solve import linear_solve
from ._method import formed, set_up, state_of
from ._partition import Static, split


class Solve(eqx.Module):
    """b ↦ A†b, with what has been factorised.

    How it is solved crosses `jit` as its arrays: its Python numbers decide shapes and
    branches (the damping of `QR`), and stay numbers.
    """

    operator: AbstractLinearOperator
    arrays: list[Array]  # of (solver, options, state)
    static: Static = eqx.field(static=True)
    throw: bool = eqx.field(static=True)

    def __init__(
        self,
        operator: AbstractLinearOperator,
        solver: AbstractLinearSolver,
        options: dict[str, Any],
        state: PyTree[Any],
        throw: bool,
    ):
        self.operator = operator
        self.arrays, self.static = split((solver, options, state))
        self.throw = throw

    def __call__(self, vector: PyTree[Array]) -> PyTree[Array]:
        solver, options, state = self.static.join(self.arrays)
        return linear_solve(
            self.operator,
            vector,
            solver,
            options=options,
            state=state,
            throw=self.throw,
        ).value

    def turned(self, how: str, operator: AbstractLinearOperator) -> "Solve":
        """With the factors of Aᵀ (`how` is "transpose") or Ā ("conj")."""
        solver, options, state = self.static.join(self.arrays)
        state, options = getattr(solver, how)(state, options)
        return Solve(operator, solver, options, state, self.throw)


class InverseLinearOperator(FunctionLinearOperator):
    """The pseudoinverse A†; `invert` builds it. Each product is a solve.

    It is a `FunctionLinearOperator` whose function is the solve, because existing code
    expects `invert` to return one. Transposing and conjugating it reuses its factors.

    Its products with its own operator simplify to identities if A is square and known
    to be nonsingular (by `nonsingular_tag` or a tag that implies it).

    ```python
    matrix = jnp.array([[2.0, 1.0], [1.0, 3.0]])
    operator = lx.MatrixLinearOperator(matrix, lx.nonsingular_tag)
    inverse = lx.invert(operator)
    isinstance(inverse, lx.InverseLinearOperator)  # True
    operator @ inverse  # IdentityLinearOperator(f64[2, 2], ...)
    ```
    """

    def __init__(self, solve: Solve):
        operator = solve.operator
        self.fn = solve
        self.input_structure = freeze(operator.out_structure())
        self.output_structure = freeze(operator.in_structure())
        self.tags = inverse_tags(known(operator))

    def transpose(self) -> "InverseLinearOperator":
        solve: Any = self.fn
        return InverseLinearOperator(solve.turned("transpose", solve.operator.T))


@conj.register
def _(operator: InverseLinearOperator):
    solve: Any = operator.fn
    return InverseLinearOperator(solve.turned("conj", conj(solve.operator)))


def invert(
    operator: AbstractLinearOperator,
    solver: AbstractLinearSolver = AutoLinearSolver(well_posed=True),
    *,
    options: dict[str, Any] | None = None,
    throw: bool = True,
) -> InverseLinearOperator:
    """The pseudoinverse A† as an operator: each product is a solve.

    The operator is factorised once, here. Products are differentiable with respect to
    `operator`, like `linear_solve`.

    Args:
        operator: A.
        solver, options, throw: as in `linear_solve`.

    Returns:
        An `InverseLinearOperator`, which is a `FunctionLinearOperator`, from A's output
        to its input structure, with the tags of A that hold for its inverse: all but
        tridiagonal, and unit diagonal only if A is triangular. The inverse of an
        inverse is the operator itself, if that is square and known to be nonsingular.

    Raises:
        ValueError: as in `linear_solve`.

    ```python
    operator = lx.MatrixLinearOperator(jnp.array([[2.0, 1.0], [1.0, 3.0]]))
    vector = jnp.array([3.0, 4.0])
    inverse = lx.invert(operator, lx.LU())
    inverse.mv(vector)  # [1. 1.]
    (inverse @ operator).mv(vector)
    ```
    """
    check_solve(operator, solver)
    check_one(operator)
    if isinstance(operator, InverseLinearOperator):
        inner: Any = operator.fn
        if inverse_is_two_sided(inner.operator):
            return inner.operator
    options = {} if options is None else options
    # the sign of a scaling is known also where the inverse is an argument of `jit`
    operator = remember(formed(signed(operator), solver), operator, Reflection.IDENTITY)
    solver = set_up(solver_for(operator, solver), operator)
    state = state_of(operator, solver, options)
    return InverseLinearOperator(Solve(operator, solver, options, state, throw))


def inverse_is_two_sided(operator: AbstractLinearOperator) -> bool:
    """Whether A† is A⁻¹, for certain."""
    square = operator.in_structure() == operator.out_structure()
    return square and is_nonsingular(operator)


def _right_inverse(a: Any, inverse: Any) -> AbstractLinearOperator | None:
    """A A⁻¹, and B A A⁻¹."""
    operator = inverse.fn.operator
    if not inverse_is_two_sided(operator):
        return None
    if same(a, operator):
        return IdentityLinearOperator(operator.out_structure())
    product = as_product(a)
    if product is not None and same(product.operator2, operator):
        return product.operator1
    return None


def _left_inverse(inverse: Any, a: Any) -> AbstractLinearOperator | None:
    """A⁻¹ A, and A⁻¹ A B."""
    operator = inverse.fn.operator
    if not inverse_is_two_sided(operator):
        return None
    if same(a, operator):
        return IdentityLinearOperator(operator.in_structure())
    product = as_product(a)
    if product is not None and same(product.operator1, operator):
        return product.operator2
    return None


PRODUCTS.extend(
    (
        Rewrite(
            "A A⁻¹ = I", AbstractLinearOperator, InverseLinearOperator, _right_inverse
        ),
        Rewrite(
            "A⁻¹ A = I", InverseLinearOperator, AbstractLinearOperator, _left_inverse
        ),
    )
)
