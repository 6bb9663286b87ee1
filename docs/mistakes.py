"""Common mistakes: what is written, what the error says, and what to write instead.

Each has a title, the code, which raises or warns, what the text must name, and the code
that is right. The page shows the text of the day; tests/docs runs both.
"""

import contextlib
import io
import logging
import traceback
import warnings
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse


class Mistake(NamedTuple):
    title: str
    wrong: str
    names: str  # what the text must say
    right: str


SETUP = """\
import jax
import jax.numpy as jnp
import lineax as lx
import scipy.sparse

matrix = jnp.array([[4.0, 1.0], [1.0, 3.0]])
b = jnp.array([5.0, 4.0])
A = lx.MatrixLinearOperator(matrix)
definite = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
cg = lx.CG(rtol=1e-5, atol=1e-5)
"""

MISTAKES = [
    Mistake(
        "An array as the operator",
        "lx.linear_solve(matrix, b)",
        "MatrixLinearOperator(array)",
        "lx.linear_solve(lx.MatrixLinearOperator(matrix), b)",
    ),
    Mistake(
        "A SciPy matrix as the operator",
        "lx.linear_solve(scipy.sparse.eye_array(2), b)",
        "SparseLinearOperator.from_scipy(matrix)",
        "lx.linear_solve(lx.SparseLinearOperator.from_scipy(scipy.sparse.eye_array(2)), b)",
    ),
    Mistake(
        "`tol=`, as in SciPy",
        "lx.CG(tol=1e-5)",
        "rtol",
        "lx.CG(rtol=1e-5, atol=0.0)",
    ),
    Mistake(
        "No tolerances",
        "lx.GMRES()",
        "rtol",
        "lx.GMRES(rtol=1e-5, atol=0.0)",
    ),
    Mistake(
        "A preconditioner that is an array",
        'lx.linear_solve(definite, b, cg, options={"preconditioner": jnp.diag(1 / b)})',
        "MatrixLinearOperator",
        """\
inverse = lx.MatrixLinearOperator(jnp.diag(1 / b), lx.positive_semidefinite_tag)
lx.linear_solve(definite, b, cg, options={"preconditioner": inverse})""",
    ),
    Mistake(
        "Several right-hand sides as a matrix",
        "lx.linear_solve(A, jnp.ones((2, 5)))",
        "rhs_axis=1",
        "lx.linear_solve(A, jnp.ones((2, 5)), rhs_axis=1)",
    ),
    Mistake(
        "Several matrices in one operator",
        "lx.MatrixLinearOperator(jnp.ones((7, 2, 2)))",
        "vmap",
        """\
def solve(matrix, b):
    return lx.linear_solve(lx.MatrixLinearOperator(matrix), b).value


jax.vmap(solve, in_axes=(0, None))(jnp.stack([matrix, 2 * matrix]), b)""",
    ),
    Mistake(
        "An operator that came out of `vmap`",
        """\
operators = jax.vmap(lx.MatrixLinearOperator)(jnp.stack([matrix, 2 * matrix]))
lx.linear_solve(operators, b)""",
        "filter_vmap",
        """\
import equinox as eqx

operators = eqx.filter_vmap(lx.MatrixLinearOperator)(jnp.stack([matrix, 2 * matrix]))
eqx.filter_vmap(lx.linear_solve, in_axes=(eqx.if_array(0), None))(operators, b)""",
    ),
    Mistake(
        "A function that is not linear",
        """\
operator = lx.FunctionLinearOperator(lambda x: x**3, b)
lx.linear_solve(operator, b, lx.GMRES(rtol=1e-5, atol=1e-5))""",
        "linear",
        """\
operator = lx.JacobianLinearOperator(lambda x, args: x**3, b)
lx.linear_solve(operator, b, lx.GMRES(rtol=1e-5, atol=1e-5))""",
    ),
    Mistake(
        "A vector of the wrong shape",
        "lx.linear_solve(A, jnp.ones(3))",
        r"\[2\]",
        "lx.linear_solve(A, jnp.ones(2))",
    ),
    Mistake(
        "A vector of the wrong kind",
        'lx.linear_solve(A, jnp.array([True, False]))',
        "float",
        "lx.linear_solve(A, jnp.array([1.0, 0.0]))",
    ),
    Mistake(
        "A missing tag",
        "lx.linear_solve(A, b, lx.Cholesky())",
        "positive_semidefinite_tag",
        """\
tagged = lx.TaggedLinearOperator(A, lx.positive_semidefinite_tag)
lx.linear_solve(tagged, b, lx.Cholesky())""",
    ),
    Mistake(
        "A tag that is false",
        """\
skewed = lx.MatrixLinearOperator(matrix.at[0, 1].set(2.0), lx.symmetric_tag)
lx.verify(skewed, jax.random.key(0), throw=True)""",
        "symmetric",
        "lx.verify(definite, jax.random.key(0), throw=True)",
    ),
    Mistake(
        "A NaN in the data",
        "lx.linear_solve(A, jnp.array([1.0, jnp.nan]))",
        "jax_debug_nans",
        "lx.linear_solve(A, jnp.nan_to_num(jnp.array([1.0, jnp.nan])))",
    ),
    Mistake(
        "A complex preconditioner for a real operator",
        """\
inverse = lx.MatrixLinearOperator(1j * jnp.eye(2))
lx.linear_solve(A, b, lx.GMRES(rtol=1e-5, atol=0.0), options={"preconditioner": inverse})""",
        "real",
        """\
inverse = lx.MatrixLinearOperator(jnp.eye(2))
lx.linear_solve(A, b, lx.GMRES(rtol=1e-5, atol=0.0), options={"preconditioner": inverse})""",
    ),
    Mistake(
        "A complex operator and a real product",
        "lx.MatrixLinearOperator(matrix).mv(b * 1j) + lx.MatrixLinearOperator(1j * matrix).mv(b, 1)",
        "real",
        "lx.MatrixLinearOperator(matrix).mv(b * 1j)",
    ),
    Mistake(
        "A result as a condition",
        """\
solution = lx.linear_solve(A, b, throw=False)
if solution.result:
    print("solved")""",
        "solution.successful",
        """\
solution = lx.linear_solve(A, b, throw=False)
if solution.successful:
    print("solved")""",
    ),
]


def text_of(mistake: Mistake) -> str:
    """The last error that the code raises, as Python prints it at the end."""
    space: dict = {}
    exec(SETUP, space)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            exec(mistake.wrong, space)
        except Exception as error:  # shown, whatever it is
            return f"{type(error).__name__}: {error}"
    if heard:
        return f"{heard[-1].category.__name__}: {heard[-1].message}"
    raise AssertionError(f"{mistake.title}: no error")
