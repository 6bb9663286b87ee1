"""What solves and their derivatives cost: factorisations, solves, products, memory,
compilations. Counted in jaxprs and executables, not timed."""

import collections
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lx_autodiff as lxa
import lx_operators as lxo
import lx_solvers as lxs
import numpy as np
import pytest
from lx_autodiff import _primitive

A = jnp.asarray(np.random.default_rng(3).standard_normal((4, 4)) + 4 * np.eye(4))
TALL, WIDE, DEFINITE = A[:, :2], A[:2], A @ A.T
PSD, TIGHT = lxo.positive_semidefinite_tag, {"rtol": 1e-8, "atol": 1e-8}


class Cost(NamedTuple):
    """The costs of a solver for an operator that is a function, counted in the program:
    a loop's body counts once."""

    solver: lxs.AbstractLinearSolver
    problem: str
    matrix: Any
    tags: Any
    factorises: str  # the primitive that does; each stands once in every pass
    solves: tuple[int, int, int]  # in the value; with a tangent; with a gradient
    loops: int = 0  # of each solve
    products: int = 0  # with the operator or its adjoint, in a loop's body
    once: int = 0  # loops that scale the operator, before all solves

    def row(self) -> str:
        """The row of the table in docs/guides/derivatives.md."""
        name = repr(self.solver).replace("rtol=1e-08, atol=1e-08", "…")
        once = "–" if not self.factorises else "1, 1, 1"
        solves = ", ".join(map(str, self.solves))
        loops = _counted(self.loops, "loop")
        products = _counted(self.products, "product")
        each = f"{loops}, {products}" if self.loops else "–"
        return f"| `{name}` | {self.problem} | {once} | {solves} | {each} |"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


# The value is one solve. A derivative is one more for each of A†(db − dA x); of A†A†ᴴ
# dAᴴ r, unless r = 0, or of A†ᴴ x, unless A†A = I; and of both where the rank is not
# known. In reverse mode the transposes of the same.
SQUARE, FULL, ANY = (1, 2, 2), (1, 3, 3), (1, 4, 4)
CG = lxs.CG(**TIGHT)
COSTS = [
    Cost(lxs.LU(), "square", A, (), "tiny_lu", SQUARE),
    Cost(lxs.Cholesky(), "positive definite", DEFINITE, PSD, "cholesky", SQUARE),
    Cost(lxs.Diagonal(), "any diagonal", A, lxo.diagonal_tag, "", ANY),
    Cost(lxs.Diagonal(well_posed=True), "diagonal", A, lxo.diagonal_tag, "", SQUARE),
    Cost(lxs.Triangular(), "triangular", A, lxo.lower_triangular_tag, "", SQUARE),
    Cost(lxs.Tridiagonal(), "tridiagonal", A, lxo.tridiagonal_tag, "", SQUARE),
    Cost(lxs.QR(), "tall", TALL, (), "geqrf", FULL),
    Cost(lxs.QR(), "wide", WIDE, (), "geqrf", FULL),
    Cost(lxs.QR(damp=0.5), "tall", TALL, (), "geqrf", FULL),
    Cost(lxs.SVD(), "any", A, (), "svd", ANY),
    Cost(lxs.SVD(), "tall, nonsingular", TALL, lxo.nonsingular_tag, "svd", FULL),
    Cost(lxs.SVD(), "square, nonsingular", A, lxo.nonsingular_tag, "svd", SQUARE),
    Cost(lxs.PivotedQR(), "any", TALL, (), "geqrf", ANY),
    Cost(lxs.Eigh(), "Hermitian", DEFINITE, lxo.hermitian_tag, "eigh", ANY),
    # One product a step, with A; two where Aᴴ is needed as well.
    Cost(CG, "positive definite", DEFINITE, PSD, "", SQUARE, 1, 1),
    Cost(lxs.MINRES(**TIGHT), "Hermitian", DEFINITE, lxo.hermitian_tag, "", ANY, 1, 1),
    Cost(lxs.MINRES(**TIGHT), "Hermitian, nonsingular", DEFINITE,
         (lxo.hermitian_tag, lxo.nonsingular_tag), "", SQUARE, 1, 1),
    Cost(lxs.MINRESQLP(**TIGHT), "Hermitian", DEFINITE, lxo.hermitian_tag, "", ANY,
         1, 1),
    Cost(lxs.SYMMLQ(**TIGHT), "Hermitian", DEFINITE, lxo.hermitian_tag, "", ANY, 1, 1),
    Cost(lxs.BlockGMRES(**TIGHT), "square", A, (), "", SQUARE, 1, 1),
    Cost(lxs.GCRODR(**TIGHT, restart=3, recycle=1), "square", A, (), "", SQUARE, 3, 3),
    Cost(lxs.DeflatedCG(**TIGHT, recycle=1, directions=2), "positive definite",
         DEFINITE, PSD, "", SQUARE, 3, 3),
    Cost(lxs.BlockCG(**TIGHT), "positive definite", DEFINITE, PSD, "", SQUARE, 1, 1),
    Cost(lxs.COCG(**TIGHT), "symmetric", DEFINITE, lxo.symmetric_tag, "", SQUARE, 1, 1),
    Cost(lxs.BiCGStab(**TIGHT), "square", A, (), "", SQUARE, 1, 1),
    Cost(lxs.IDR(**TIGHT), "square", A, (), "", SQUARE, 1, 1),
    Cost(lxs.GMRES(**TIGHT), "square", A, (), "", SQUARE, 1, 1),
    Cost(lxs.FGMRES(**TIGHT), "square", A, (), "", SQUARE, 1, 1),
    Cost(lxs.LSQR(**TIGHT), "any", TALL, (), "", ANY, 1, 2),
    Cost(lxs.LSMR(**TIGHT), "any", TALL, (), "", ANY, 1, 2),
    Cost(lxs.LSMR(**TIGHT), "square, nonsingular", A, lxo.nonsingular_tag, "", SQUARE,
         1, 2),
    # The outer loop judges b − Ax, and Aᴴ of it: one product with each. CG's, inside,
    # has those of AᴴA, or of AAᴴ.
    Cost(lxs.Normal(lxs.Cholesky()), "tall", TALL, (), "cholesky", FULL, 1, 2),
    Cost(lxs.Normal(CG), "tall", TALL, (), "", ANY, 2, 4),
    Cost(lxs.Normal(CG), "tall, nonsingular", TALL, lxo.nonsingular_tag, "", FULL,
         2, 4),
    Cost(lxs.Normal(CG), "wide", WIDE, (), "", FULL, 2, 4),
    Cost(lxs.Normal(CG), "square", A, (), "", FULL, 2, 4),
    Cost(lxs.Refined(lxs.LU()), "square", A, (), "tiny_lu", SQUARE, 1, 0, 1),
]  # fmt: skip


@jax.jit
def product(a, x):
    return a @ x


def primitives(fn, *args):
    """How often each primitive, and each function of a name, stands in the program of
    `fn`; and how many products stand in loops."""
    counts = collections.Counter()

    def visit(jaxpr, in_loop):
        for eqn in jaxpr.eqns:
            name = eqn.primitive.name
            counts[name] += 1
            if eqn.params.get("name") == "product" and in_loop:
                inner = eqn.params["jaxpr"].jaxpr.eqns
                names = [eqn.primitive.name for eqn in inner]
                counts["products in loops"] += names.count("dot_general")
            if name == "linear_solve":  # its program is made when it is compiled
                run = functools.partial(_primitive._flat, eqn.params["spec"])
                avals = [var.aval for var in eqn.invars]
                visit(jax.make_jaxpr(run)(*avals).jaxpr, in_loop)
            for param in jax.tree.leaves(
                list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
            ):
                inner = getattr(param, "jaxpr", param)
                if hasattr(inner, "eqns"):
                    visit(inner, in_loop or name == "while")

    visit(jax.make_jaxpr(fn)(*args).jaxpr, False)
    return counts


@pytest.mark.parametrize(
    "cost", COSTS, ids=lambda cost: f"{cost.solver}-{cost.problem}"
)
def test_cost(cost):
    """Factorisations, solves, loops and products in value, tangent and gradient; and
    no callback."""

    def loss(a):
        structure = jax.ShapeDtypeStruct((a.shape[1],), a.dtype)
        operator = lxo.FunctionLinearOperator(
            lambda x: product(a, x), structure, cost.tags
        )
        vector = jnp.ones(a.shape[0])
        solution = lxa.linear_solve(operator, vector, cost.solver, throw=False)
        return jnp.sum(solution.value)

    passes = [
        loss,
        lambda a: jax.jvp(loss, (a,), (a,)),
        jax.value_and_grad(loss),
    ]
    counts = [primitives(fn, cost.matrix) for fn in passes]
    assert not [name for count in counts for name in count if "callback" in name]
    assert tuple(count["linear_solve"] for count in counts) == cost.solves
    if cost.factorises:
        once = counts[0][cost.factorises]
        assert once >= 1
        assert [count[cost.factorises] for count in counts] == [once] * 3
    for count, solves in zip(counts, cost.solves):
        assert count["while"] == cost.once + cost.loops * solves
        assert count["products in loops"] == cost.products * solves


def test_the_table_in_the_docs():
    page = Path(__file__).parents[2] / "docs" / "guides" / "derivatives.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert rows == [cost.row() for cost in COSTS]


def test_vector_alone_costs_one_solve_more():
    def solve(b):
        return lxa.linear_solve(lxo.MatrixLinearOperator(TALL), b, lxs.SVD()).value

    tangent = primitives(lambda b: jax.jvp(solve, (b,), (b,)), jnp.ones(4))
    assert tangent["linear_solve"] == 2


@pytest.mark.parametrize("solver", [lxs.LU(), lxs.CG(**TIGHT)], ids=repr)
def test_traced_once(monkeypatch, solver):
    """Abstract evaluation and lowering share the trace of a solve."""
    traced, evaluated = [], _primitive._evaluate_one

    def counting(*args):
        traced.append(args)
        return evaluated(*args)

    def solve(a):
        operator = lxo.MatrixLinearOperator(a, PSD)
        return lxa.linear_solve(operator, jnp.ones(4), solver, throw=False).value

    jax.clear_caches()
    monkeypatch.setattr(_primitive, "_evaluate_one", counting)
    jax.jit(solve).lower(DEFINITE)
    assert len(traced) == 1

    # of a gradient no more than value, tangent and transposed solve
    traced.clear()
    jax.clear_caches()
    jax.jit(jax.grad(lambda a: jnp.sum(solve(a)))).lower(DEFINITE)
    assert len(traced) <= 3


class Counted:
    """Counts how often a jitted function is traced, and what it compiles."""

    def __init__(self):
        self.compilations = 0

    def __enter__(self):
        jax.monitoring.register_event_duration_secs_listener(self._listen)
        return self

    def __exit__(self, *_):
        jax.monitoring.clear_event_listeners()

    def _listen(self, name, *_, **__):
        self.compilations += name.endswith("backend_compile_duration")


def as_matrix(a):
    return lxo.MatrixLinearOperator(a)


def as_function(a):
    """A new function each time, with loops and branches inside."""

    def fn(x):
        y = jax.lax.fori_loop(0, 2, lambda _, y: y + jnp.roll(x, 1), a @ x)
        return jax.lax.cond(a[0, 0] > -1e9, lambda y: 2.0 * y, jnp.negative, y)

    return lxo.FunctionLinearOperator(fn, jax.ShapeDtypeStruct((4,), a.dtype))


def as_jacobian(a):
    return lxo.JacobianLinearOperator(lambda x, _: a @ x + x**3, jnp.zeros(4))


@pytest.mark.parametrize("build", [as_matrix, as_function, as_jacobian])
@pytest.mark.parametrize("throw", [True, False])
@pytest.mark.parametrize("gradient", [False, True])
def test_eager_calls_compile_once(build, throw, gradient):
    def value(matrix, vector):
        solution = lxa.linear_solve(build(matrix), vector, lxs.LU(), throw=throw)
        return jnp.sum(solution.value)

    call = jax.grad(value) if gradient else value
    problems = [(A + i, jnp.ones(4) * i) for i in range(4)]
    call(*problems[0])  # the first call compiles
    with Counted() as counted:
        for problem in problems:
            call(*problem)
    assert counted.compilations == 0


def scaled_sum(a, s):
    structure = jax.ShapeDtypeStruct((4,), a.dtype)
    return lxo.IdentityLinearOperator(structure) - s * lxo.MatrixLinearOperator(a)


@pytest.mark.parametrize(
    "build, solver, numbers",
    [
        (lambda a, s: s * lxo.MatrixLinearOperator(a), lxs.LU(), (2.5, 0.5, 3)),
        (lambda a, s: lxo.MatrixLinearOperator(a, PSD) / s, lxs.Cholesky(), (-2, -0.5)),
        (lambda a, s: s * lxo.MatrixLinearOperator(a, PSD), lxs.CG(**TIGHT), (2.5, 3)),
        pytest.param(
            scaled_sum,
            lxs.LU(),
            (0.1j, 2 - 0.2j, 0.3 + 0j),
            marks=pytest.mark.standard_promotion,
        ),
    ],
)
def test_numbers_that_scale_are_not_compiled_for(build, solver, numbers):
    """One program for all numbers of a sign, and no tag less."""
    vector = jnp.arange(1.0, 5.0)

    def solve(s, b):
        return lxa.linear_solve(build(DEFINITE, s), b, solver)

    def gradient(s):
        return jax.grad(lambda b: jnp.sum(jnp.abs(solve(s, b).value)))(vector)

    def again(s):  # with a state that holds the operator
        operator = build(DEFINITE, s)
        state = solver.init(operator, {})
        return lxa.linear_solve(operator, vector, solver, state=state).value

    for call in (lambda s: solve(s, vector).value, gradient, again):
        call(numbers[0])
        with Counted() as counted:
            values = [call(s) for s in numbers]
        assert counted.compilations == 0
    for s, x in zip(numbers, values):
        dense = build(DEFINITE, s).as_matrix()
        np.testing.assert_allclose(x, np.linalg.solve(dense, vector), rtol=1e-6)


def test_functions_that_differ_are_not_taken_for_each_other():
    """By a number (to the last bit), an axis, a branch."""
    structure = jax.ShapeDtypeStruct((4,), A.dtype)
    x = jnp.arange(1.0, 5.0)
    functions = [
        lambda x: 2.0 * x,
        lambda x: 2.0000000000000004 * x,
        lambda x: jnp.roll(x, 1),
        lambda x: jnp.roll(x, 2),
        lambda x: jax.lax.cond(True, lambda x: x, lambda x: -x, x),
        lambda x: jax.lax.cond(True, lambda x: -x, lambda x: x, x),
        lambda x: x.at[0].set(0.0) + x,
        lambda x: x.at[1].set(0.0) + x,
    ]
    for fn in functions:
        operator = lxo.FunctionLinearOperator(fn, structure)
        value = lxa.linear_solve(operator, fn(x), lxs.LU()).value
        np.testing.assert_allclose(value, x, rtol=1e-15)
    one, other = (lxo.FunctionLinearOperator(fn, structure) for fn in functions[:2])
    assert one.fn != other.fn
    again = lxo.FunctionLinearOperator(lambda y: 2.0 * y, structure)
    assert one.fn.jaxpr is again.fn.jaxpr


def test_matrix_free_gradient_is_linear_in_memory():
    """10⁶ unknowns: a few vectors, no matrix."""
    n = 10**6
    weights = jnp.linspace(1.0, 2.0, n)

    def loss(weights):
        def fn(x):
            return weights * x + 0.1 * (2 * x - jnp.roll(x, 1) - jnp.roll(x, -1))

        structure = jax.ShapeDtypeStruct((n,), weights.dtype)
        operator = lxo.FunctionLinearOperator(
            fn, structure, lxo.positive_semidefinite_tag
        )
        solver = lxs.CG(rtol=1e-8, atol=1e-8, max_steps=50)
        return jnp.sum(lxa.linear_solve(operator, jnp.ones(n), solver).value)

    compiled = jax.jit(jax.grad(loss)).lower(weights).compile()
    vectors = compiled.memory_analysis().temp_size_in_bytes / (8 * n)
    assert vectors < 40
    gradient = compiled(weights)
    # The operator is diagonally dominant: compare with a finite difference along ones.
    step = 1e-4
    difference = (loss(weights + step) - loss(weights - step)) / (2 * step)
    np.testing.assert_allclose(jnp.sum(gradient), difference, rtol=1e-5)


def test_factors_lie_in_the_memory_of_the_gradient():
    """LU's checks keep no copy beside its factors, which are in the memory that the
    gradient by the matrices will take."""

    def loss(A, b):
        operator = lxo.MatrixLinearOperator(A)
        solution = lxa.linear_solve(operator, b, lxs.LU(), throw=False)
        return jnp.sum(solution.value**2)

    A, b = (jax.ShapeDtypeStruct((100, *s), jnp.float64) for s in ((50, 50), (50,)))
    program = jax.jit(jax.vmap(jax.grad(loss, (0, 1)))).lower(A, b).compile()
    matrices = 8 * 100 * 50 * 50
    assert program.memory_analysis().temp_size_in_bytes < matrices / 4
