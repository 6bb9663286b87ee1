"""Common mistakes: what is written, what the error says, and what to write instead.

Each has a title, the code, which raises or warns, what the text must name, and the code
that is right. The page shows the text of the day; tests/docs runs both.
"""

import contextlib
import io
from typing import NamedTuple

import jax


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
        """\
operator = lx.SparseLinearOperator.from_scipy(scipy.sparse.eye_array(2))
lx.linear_solve(operator, b)""",
    ),
    Mistake(
        "The name of a solver",
        'lx.linear_solve(definite, b, "cg")',
        "`CG(rtol=1e-5, atol=0.0)`",
        "lx.linear_solve(definite, b, lx.CG(rtol=1e-5, atol=0.0))",
    ),
    Mistake(
        "More equations than unknowns, and no solver",
        "lx.linear_solve(lx.MatrixLinearOperator(jnp.eye(3, 2)), jnp.ones(3))",
        "AutoLinearSolver(well_posed=None)",
        """\
solver = lx.AutoLinearSolver(well_posed=None)
lx.linear_solve(lx.MatrixLinearOperator(jnp.eye(3, 2)), jnp.ones(3), solver)""",
    ),
    Mistake(
        "A shape as the structure of a function's input",
        "lx.FunctionLinearOperator(lambda x: 2 * x, (2,))",
        "pass `jax.ShapeDtypeStruct((2,), dtype)`",
        """\
structure = jax.ShapeDtypeStruct((2,), b.dtype)
lx.FunctionLinearOperator(lambda x: 2 * x, structure)""",
    ),
    Mistake(
        "A Jacobian of a function without `args`",
        "lx.JacobianLinearOperator(lambda x: x**3, b)",
        "called as `fn(x, args)`",
        "lx.JacobianLinearOperator(lambda x, args: x**3, b)",
    ),
    Mistake(
        "`tol=`, as in SciPy",
        "lx.CG(tol=1e-5)",
        "pass `rtol`",
        "lx.CG(rtol=1e-5, atol=0.0)",
    ),
    Mistake(
        "`maxiter=` and `x0=`, as in SciPy",
        "lx.CG(rtol=1e-5, maxiter=100)",
        "pass `max_steps`",
        """\
solver = lx.CG(rtol=1e-5, max_steps=100)
lx.linear_solve(definite, b, solver, options={"y0": jnp.ones(2)})""",
    ),
    Mistake(
        "No tolerances",
        "lx.GMRES(rtol=0.0, atol=0.0)",
        "`max_steps`",
        "lx.GMRES(rtol=1e-5, atol=0.0)",
    ),
    Mistake(
        "A preconditioner that is an array",
        'lx.linear_solve(definite, b, cg, options={"preconditioner": jnp.diag(1 / b)})',
        "wrap it as `MatrixLinearOperator(array)`",
        """\
inverse = lx.MatrixLinearOperator(jnp.diag(1 / b), lx.positive_semidefinite_tag)
lx.linear_solve(definite, b, cg, options={"preconditioner": inverse})""",
    ),
    Mistake(
        "SciPy's `spilu` as a preconditioner",
        """\
from scipy.sparse.linalg import spilu

sparse = scipy.sparse.csc_array(matrix)
lx.GMRES(rtol=1e-5, preconditioner=spilu(sparse))""",
        "`IncompleteLU()` does what `spilu` does",
        """\
operator = lx.SparseLinearOperator.from_dense(matrix)
lx.linear_solve(operator, b, lx.GMRES(rtol=1e-5, preconditioner=lx.IncompleteLU()))""",
    ),
    Mistake(
        "SciPy's `LinearOperator` as a preconditioner",
        """\
from scipy.sparse.linalg import LinearOperator

halved = LinearOperator((2, 2), lambda x: x / 2, dtype="float32")
lx.linear_solve(A, b, lx.GMRES(rtol=1e-5), options={"preconditioner": halved})""",
        "wrap it as `aslinearoperator(operator)`",
        """\
from scipy.sparse.linalg import LinearOperator

halved = LinearOperator((2, 2), lambda x: x / 2, dtype="float32")
options = {"preconditioner": lx.aslinearoperator(halved)}
lx.linear_solve(A, b, lx.GMRES(rtol=1e-5), options=options)""",
    ),
    Mistake(
        "Several right-hand sides as a matrix",
        "lx.linear_solve(A, jnp.ones((2, 5)))",
        "`rhs_axis=1`",
        "lx.linear_solve(A, jnp.ones((2, 5)), rhs_axis=1)",
    ),
    Mistake(
        "Several matrices in one operator",
        "lx.MatrixLinearOperator(jnp.ones((7, 2, 2)))",
        "equinox.filter_vmap(MatrixLinearOperator)(matrices)",
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
        "`equinox.filter_vmap(linear_solve)(operator, vector)`",
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
        "`verify(operator, key)` tells whether it is linear",
        """\
operator = lx.JacobianLinearOperator(lambda x, args: x**3, b)
lx.linear_solve(operator, b, lx.GMRES(rtol=1e-5, atol=1e-5))""",
    ),
    Mistake(
        "A vector of the wrong shape",
        "lx.linear_solve(A, jnp.ones(3))",
        "must have structure f32[2]",
        "lx.linear_solve(A, jnp.ones(2))",
    ),
    Mistake(
        "A list in place of a tuple",
        """\
blocks = lx.BlockLinearOperator([[A, None], [A, A]])
lx.linear_solve(blocks, [b, b])""",
        "the arrays fit, but not the tuples, lists or dictionaries that hold them",
        """\
blocks = lx.BlockLinearOperator([[A, None], [A, A]])
lx.linear_solve(blocks, (b, b))""",
    ),
    Mistake(
        "A list of numbers as the vector",
        "lx.linear_solve(A, [5.0, 4.0])",
        "`jnp.asarray(vector)`",
        "lx.linear_solve(A, jnp.asarray([5.0, 4.0]))",
    ),
    Mistake(
        "A number added to an operator",
        "A + 0.1",
        "`A + c * IdentityLinearOperator(A.in_structure())`",
        "A + 0.1 * lx.IdentityLinearOperator(A.in_structure())",
    ),
    Mistake(
        "A vector of another dtype, under strict promotion",
        """\
with jax.numpy_dtype_promotion("strict"):
    lx.linear_solve(A, b.astype(jnp.bfloat16))""",
        "cast with `.astype`",
        """\
with jax.numpy_dtype_promotion("strict"):
    lx.linear_solve(A, b.astype(jnp.float32))""",
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
        "A sum whose sign nobody knows",
        "lx.linear_solve(2 * definite - definite, b, cg)",
        "If it is, say so: `TaggedLinearOperator(operator, positive_semidefinite_tag)`",
        """\
difference = 2 * definite - definite
tagged = lx.TaggedLinearOperator(difference, lx.positive_semidefinite_tag)
lx.linear_solve(tagged, b, cg)""",
    ),
    Mistake(
        "A tag that is false",
        """\
skewed = lx.MatrixLinearOperator(matrix.at[0, 1].set(2.0), lx.symmetric_tag)
lx.verify(skewed, jax.random.key(0), throw=True)""",
        "leave the tags out",
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
inverse = lx.MatrixLinearOperator(0.3j * jnp.eye(2))
solver = lx.GMRES(rtol=1e-5, atol=0.0)
lx.linear_solve(A, b, solver, options={"preconditioner": inverse})""",
        "pass a real preconditioner",
        """\
inverse = lx.MatrixLinearOperator(0.3 * jnp.eye(2))
solver = lx.GMRES(rtol=1e-5, atol=0.0)
lx.linear_solve(A, b, solver, options={"preconditioner": inverse})""",
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


def outcome(code: str) -> str | None:
    """The error that the code ends in, as Python prints it; None if it runs. JAX is as
    its reader has it, in float32."""
    space: dict = {}
    wide = jax.config.jax_enable_x64  # pyright: ignore
    jax.config.update("jax_enable_x64", False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(SETUP, space)
            exec(code, space)
    except Exception as error:  # whatever it is: that is what the reader sees
        return f"{type(error).__name__}: {error}"
    finally:
        jax.config.update("jax_enable_x64", wide)
    return None


def page() -> str:
    """The mistakes as Markdown."""
    parts = []
    for title, wrong, _, right in MISTAKES:
        text = "\n".join(map(str.rstrip, str(outcome(wrong)).splitlines()))
        parts += [f"## {title}", _fenced(wrong), _fenced(text, "text wrapped")]
        parts += ["Write instead:", _fenced(right)]
    return "\n\n".join(parts)


def _fenced(text: str, kind: str = "python") -> str:
    head = kind if " " not in kind else "{{ .{} }}".format(kind.replace(" ", " ."))
    return f"```{head}\n{text}\n```"
