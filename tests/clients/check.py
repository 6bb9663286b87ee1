"""Libraries that use `lineax`, run on ours and compared with closed forms. Run by
`tests/clients/run`."""

import runpy
import sys
import time
from collections.abc import Callable
from pathlib import Path

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import traceax
from ott.geometry import geometry
from ott.problems.linear import linear_problem
from ott.solvers.linear import implicit_differentiation, sinkhorn

jax.config.update("jax_enable_x64", True)

CHECKS: dict[str, Callable[[], None]] = {}
QUICK = []
EXAMPLES = Path(__file__).parents[2] / "examples/clients"


def check(name: str, quick: bool = False):
    def add(fn):
        CHECKS[name] = fn
        if quick:
            QUICK.append(name)
        return fn

    return add


def close(got, wanted, rtol=1e-6):
    np.testing.assert_allclose(got, wanted, rtol, rtol * np.max(np.abs(wanted)))


# optimistix: nonlinear systems, least squares, minimisation


def circle(y, radius):
    """Zero where x = y on a circle: x = r/√2, dx/dr = 1/√2."""
    return y[0] ** 2 + y[1] ** 2 - radius**2, y[0] - y[1]


def rosenbrock(y, args):
    return 10 * (y[1:] - y[:-1] ** 2), 1 - y[:-1]


def decay(y, args):
    """Residuals of a exp(-b t), fitted to its own values at a = 2, b = 3."""
    t = jnp.linspace(0.0, 1.0, 20)
    return y["a"] * jnp.exp(-y["b"] * t) - args * jnp.exp(-3 * t)


def roots(solver):
    def root(radius):
        y0 = jnp.array(1.0), jnp.array(0.5)
        return optx.root_find(circle, solver, y0, radius).value

    x, dx = jax.jvp(root, (jnp.array(2.0),), (jnp.array(1.0),))
    close(x, np.full(2, 2**0.5))
    close(dx, np.full(2, 0.5**0.5))
    close(jax.grad(lambda r: root(r)[0])(2.0), 0.5**0.5)


def squares(solver):
    y0 = jnp.array([-1.2, 1.0, 0.8])
    close(optx.least_squares(rosenbrock, solver, y0, max_steps=2000).value, np.ones(3))

    def fit(scale):
        start = {"a": jnp.array(1.0), "b": jnp.array(1.0)}
        return optx.least_squares(decay, solver, start, scale).value

    got, slope = jax.jvp(fit, (jnp.array(2.0),), (jnp.array(1.0),))
    close([got["a"], got["b"], slope["a"]], [2.0, 3.0, 1.0])
    close(jax.grad(lambda s: fit(s)["a"])(2.0), 1.0)


TIGHT = {"rtol": 1e-9, "atol": 1e-9}
LINEAR = {
    "default": {},
    "GMRES": {"linear_solver": lx.GMRES(1e-10, 1e-10)},
    "LU": {"linear_solver": lx.LU()},
}
for name, how in LINEAR.items():
    check(f"optimistix Newton, {name}", quick=name == "default")(
        lambda how=how: roots(optx.Newton(**TIGHT, **how))
    )
check("optimistix Chord")(lambda: roots(optx.Chord(**TIGHT)))
for kind in (optx.GaussNewton, optx.LevenbergMarquardt, optx.Dogleg):
    quick = kind is optx.LevenbergMarquardt
    check(f"optimistix {kind.__name__}", quick)(
        lambda kind=kind: squares(kind(**TIGHT))
    )
for solver in (lx.QR(), lx.SVD(), lx.LSMR(1e-10, 1e-10), lx.Normal(lx.Cholesky())):
    check(f"optimistix GaussNewton, {type(solver).__name__}")(
        lambda solver=solver: squares(optx.GaussNewton(**TIGHT, linear_solver=solver))
    )


@check("optimistix Newton as root of least squares")
def _():
    roots(optx.LevenbergMarquardt(**TIGHT))
    roots(optx.Dogleg(**TIGHT))


@check("optimistix BFGS", quick=True)
def _():
    def cost(y, args):
        return sum(jnp.sum(r**2) for r in rosenbrock(y, args))

    y0 = jnp.array([-1.2, 1.0])
    solution = optx.minimise(cost, optx.BFGS(**TIGHT), y0, max_steps=1000)
    close(solution.value, np.ones(2), 1e-5)

    def least(c):  # of (y - c)² + y⁴
        fn = lambda y, c: jnp.sum((y - c) ** 2 + y**4)  # noqa: E731
        return optx.minimise(fn, optx.BFGS(**TIGHT), jnp.array(0.5), c).value

    c = 0.3 + 2 * 0.3**3  # y = 0.3, dy/dc = 2 / (2 + 12 y²)
    close(least(jnp.array(c)), 0.3, 1e-5)
    close(jax.grad(least)(c), 1 / (1 + 6 * 0.3**2), 1e-4)


# diffrax: stiff equations


def relaxation(root_finder=None, adjoint=None, rates=(10.0, 1000.0)):
    """y' = -λ (y - cos t), forward, and its derivative with respect to λ, backward."""
    λ = np.array(rates)

    def vector_field(t, y, λ):
        return -λ * (y - jnp.cos(t))

    def final(λ, y0):
        how = {} if root_finder is None else {"root_finder": root_finder}
        return diffrax.diffeqsolve(
            diffrax.ODETerm(vector_field),
            diffrax.Kvaerno5(**how),
            t0=0.0,
            t1=1.0,
            dt0=0.01,
            y0=y0,
            args=λ,
            stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-9),
            adjoint=adjoint or diffrax.RecursiveCheckpointAdjoint(),
            max_steps=1000,
        ).ys[0]

    def exact(λ, y0):
        steady = lambda t: λ * (λ * jnp.cos(t) + jnp.sin(t)) / (1 + λ**2)  # noqa: E731
        return steady(1.0) + (y0 - steady(0.0)) * jnp.exp(-λ)

    λ, y0 = jnp.array(λ), jnp.array([2.0, 1.0])
    close(final(λ, y0), exact(λ, y0), 1e-6)
    got = jax.grad(lambda *z: jnp.sum(final(*z)), (0, 1))(λ, y0)
    wanted = jax.grad(lambda *z: jnp.sum(exact(*z)), (0, 1))(λ, y0)
    close(got[0], wanted[0], 1e-4)
    close(got[1], wanted[1], 1e-4)


def chord(solver):
    return diffrax.VeryChord(rtol=1e-8, atol=1e-9, linear_solver=solver)


check("diffrax Kvaerno5, default")(relaxation)
check("diffrax Kvaerno5, GMRES", quick=True)(
    lambda: relaxation(chord(lx.GMRES(1e-10, 1e-10)))
)
check("diffrax Kvaerno5, BiCGStab")(
    lambda: relaxation(chord(lx.BiCGStab(1e-10, 1e-10)))
)
# backwards in time errors grow as exp(λt), with any solver
check("diffrax Kvaerno5, LU, backsolve")(
    lambda: relaxation(chord(lx.LU()), diffrax.BacksolveAdjoint(), (1.0, 3.0))
)


@check("diffrax steady state")
def _():
    """y' = c - y³, differentiated implicitly: y = c^⅓."""

    def steady(c):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, y, c: c - y**3),
            diffrax.Kvaerno3(),
            t0=0.0,
            t1=jnp.inf,
            dt0=None,
            y0=jnp.array(1.0),
            args=c,
            stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-10),
            adjoint=diffrax.ImplicitAdjoint(),
            event=diffrax.Event(diffrax.steady_state_event()),
            max_steps=None,
        ).ys[0]

    close(steady(jnp.array(8.0)), 2.0)
    close(jax.grad(steady)(8.0), 1 / 12)


# sparse Jacobians in diffrax and optimistix: each example checks its derivatives


def example(name, *sizes):
    runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"](*sizes)


check("diffrax, sparse reaction and diffusion", quick=True)(
    lambda: example("reaction_diffusion", 12)
)
check("optimistix Newton, sparse Bratu", quick=True)(lambda: example("bratu", 15))


# sparse solvers, which compress the operators that these libraries build

GRID = 200


def heat(u, args=None):
    """The second difference, zero outside."""
    v = jnp.pad(u, 1)
    return v[:-2] - 2 * u + v[2:]


def tridiagonal():
    return lx.jacobian_sparsity(lambda u, args: u + heat(u), jnp.zeros(GRID))


@check("optimistix Newton, SparseLU", quick=True)
def _():
    """u³ + u - Δu = s (w³ + w - Δw), whose solution at s = 1 is w."""
    w = jnp.sin(jnp.arange(GRID))
    pattern = tridiagonal()

    def fn(u, s):
        return u**3 + u - heat(u) - s * (w**3 + w - heat(w))

    def root(s):
        solver = optx.Newton(**TIGHT, linear_solver=lx.SparseLU(sparsity=pattern))
        return optx.root_find(fn, solver, jnp.zeros(GRID), s).value

    u, slope = jax.jvp(root, (jnp.array(1.0),), (jnp.array(1.0),))
    close(u, w)
    jacobian = jax.jacfwd(fn)(w, 1.0)
    close(slope, np.linalg.solve(jacobian, w**3 + w - heat(w)))
    close(jax.grad(lambda s: jnp.sum(root(s)))(1.0), jnp.sum(slope))


@check("diffrax Kvaerno5, SparseLU", quick=True)
def _():
    """u' = c Δu from an eigenvector: u = exp(-λ c t) u₀."""
    k = 3 * np.pi / (GRID + 1)
    u0 = jnp.sin(k * jnp.arange(1, GRID + 1))
    rate = 4 * np.sin(k / 2) ** 2
    root_finder = chord(lx.SparseLU(sparsity=tridiagonal()))

    def final(c):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(lambda t, u, c: c * heat(u)),
            diffrax.Kvaerno5(root_finder=root_finder),
            t0=0.0,
            t1=1.0,
            dt0=0.1,
            y0=u0,
            args=c,
            stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-9),
            max_steps=100,
        ).ys[0]

    c = jnp.array(500.0)
    close(final(c), np.exp(-rate * 500) * u0, 1e-5)
    slope = jax.grad(lambda c: jnp.sum(final(c) * u0))(c)
    close(slope, -rate * np.exp(-rate * 500) * np.sum(u0**2), 1e-4)


# traceax: traces of operators


@check("traceax", quick=True)
def _():
    n, key = 30, jax.random.key(0)
    rng = np.random.default_rng(0)
    G = rng.standard_normal((n, 5))
    A = jnp.array(G @ G.T + 1e-3 * np.eye(n))  # nearly of rank 5: easily deflated
    operators = (
        lx.MatrixLinearOperator(A, lx.positive_semidefinite_tag),
        lx.FunctionLinearOperator(
            lambda x: A @ x, jax.eval_shape(lambda: A[0]), lx.positive_semidefinite_tag
        ),
    )
    for operator in operators:
        for kind in (
            traceax.HutchPlusPlusEstimator,
            traceax.XTraceEstimator,
            traceax.XNysTraceEstimator,
        ):
            trace, _ = kind().estimate(key, operator, 24)
            close(trace, np.trace(A), 1e-2)
    diagonal = lx.DiagonalLinearOperator(jnp.arange(1.0, n))
    trace, _ = traceax.HutchinsonEstimator().estimate(key, diagonal, 5)
    close(trace, n * (n - 1) / 2)  # exact for signs


# ott: optimal transport, differentiated implicitly


@check("ott", quick=True)
def _():
    """Transport between two points each, where the plan is (1, t; t, 1) / (2 + 2t),
    t = exp(-1/ε)."""

    def plan(cost, implicit):
        C = cost * jnp.array([[0.0, 1.0], [1.0, 0.0]])
        problem = linear_problem.LinearProblem(geometry.Geometry(C, epsilon=0.5))
        solver = sinkhorn.Sinkhorn(
            threshold=1e-10, max_iterations=2000, implicit_diff=implicit
        )
        return solver(problem).matrix[0, 1]

    implicit = implicit_differentiation.ImplicitDiff()
    value, slope = jax.value_and_grad(plan)(1.0, implicit)
    t = np.exp(-2.0)
    close(value, t / (2 + 2 * t), 1e-5)
    close(slope, -2 * t / (2 * (1 + t) ** 2), 1e-4)


def main() -> None:
    names = QUICK if "--quick" in sys.argv else list(CHECKS)
    print(f"lineax {lx.__version__} in {lx.__file__}")
    failed = []
    for name in names:
        start = time.perf_counter()
        try:
            CHECKS[name]()
        except Exception as error:
            failed.append(name)
            text = str(error).strip().splitlines() or [""]
            print(f"FAILED {name}: {type(error).__name__}: {' '.join(text[:3])}")
        else:
            print(f"ok     {name} ({time.perf_counter() - start:.1f} s)", flush=True)
    sys.exit(len(failed))


if __name__ == "__main__":
    main()
