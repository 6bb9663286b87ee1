"""The goals: data, read by `run.py`."""

from typing import NamedTuple


class Goal(NamedTuple):
    """For the cases that match, the ratio of ours to a column is at most `bound`."""

    name: str
    cases: str
    """A pattern."""
    column: str
    bound: float
    limit: str = ""
    """What stands in the way, as profiled; printed where the goal is missed."""


PEER = "lineax 0.1.1"
JAX = "JAX"
LOOP = "textbook loop"
SCIPY = "SciPy"

_DIRECT = "(LU|QR|SVD|Cholesky)"
_LOOPS = "(CG|BiCGStab|GMRES)"

# What stands in the way, by profile (JAX 0.10.2, CPU). How many kernels each program
# has, the benchmark counts.
_FIRST = """\
*The first result.* With its first LAPACK call JAX imports `scipy.linalg`, which takes
half of the time of LU and of the automatic choice, here and in the published library.
All of it, from `import lineax` on, takes as long as a first LU and its substitution in
JAX alone."""
_DIRECT_COMPILE = """\
*Direct solvers, compiled.* XLA takes four fifths of the time. For LU, a fifth of that
goes into a loop of JAX that turns pivots into a permutation. The kernels that this
library has beyond the published ones (see the profile below), and two more triangular
solves in a gradient, check whether the matrix is finite or singular and its factors
stable. Tracing and lowering take half of the published time for the value and a third
for the gradient. QR has six times the kernels of a bare one. Two fifths of its time
go into the refinement and the check of each row of the answer, and a fifth into scales
of rows and columns by least squares, a loop that only badly scaled matrices enter, but
that is always compiled. Without both, its value compiles in a quarter of the time and
its gradient in two fifths; but then 13 of 530 sparse systems in float64, whose rows and
columns had scales over 24 powers of ten, got a wrong x and no word of it (27 in
float32; LU: none), and rows of small terms, as in Forsythe's matrix, are lost."""
_LOOP_COMPILE = """\
*Krylov loops, compiled.* XLA takes four fifths of the time, some 10 ms for each kernel
(see the profile below). With LLVM's optimisations off, the ratio to the published time
stays: the time goes into XLA's own passes and the code of each kernel. Beyond a
textbook loop, this library computes the true residual before success is claimed, tests
each element and the last update (in a branch of the loop, taken near its end), scales
the system so that nothing overflows, and has named exits. A gradient consists of two
such loops; tracing and lowering it takes half of the published time."""
_LEAST_SQUARES_COMPILE = """\
*LSMR and Normal(CG), compiled.* LSMR has a third of the published kernels, most of
which are a single number. `Normal` has more, because it computes the residual of the
problem itself and restarts the inner solver if that is too large; half of its time is
that of CG. The gradient of a solver that does not know the rank has four solves: value,
transposed solve, and one for each projection."""
_SMALL = """\
*Runs.* At n = 4 a call takes about 10 µs, nearly all of it in JAX's dispatch. At n = 10
and 50 a pass of a Krylov loop is short relative to the time that XLA needs to offer its
kernels to threads, once an array has more than 512 bytes (see the last section), and
the checks add kernels; `BiCGStab` makes a pass for each product here, and for every two
products in the published library. LU and QR scale the rows. If the outcome of the solve
matters, as in a gradient, two triangular solves with one vector check whether the
matrix is singular; the tables of the direct solvers below show what that costs. The
gradient of LU at n = 2000 needs 61 MiB in addition to its result, and the bare one
needs none: the sizes of the columns of U, which decide singularity, are read at a point
where XLA would otherwise have reused the memory of the factors; without them it takes
0.77 of the time. Here the same LAPACK call takes up to half as long again from one
process to the next; the programs of those tables run in one process."""
_EAGER = """\
*Eager calls.* The remaining time is Python's: operator, solver, vector and solution are
flattened and compared with those of the last call, and the call waits for the result,
because a failed solve raises an error."""
_RANK = """\
*Rank-deficient problems.* `geqp3` alone takes 0.38 of the time of the SVD, because half
of its work is matrix–vector products; forming Q, which JAX's pivoted QR always does,
brings it to 0.5 and more."""
_TINY = """\
*Tiny systems.* At n = 3 a third of the time goes into the first touch of the memory
that the result and the factors take, the rest into transposing the batch to the last
axis, eliminating and solving, about evenly. At n = 8, where the matrices take 51 MB,
copying them through such a transposition and back takes four fifths of the time."""
_BATCHES = """\
*Batches.* A batch computes what any of its members needs. For LU, that is the estimate
of the condition: two more triangular solves with each matrix. Cholesky is spared it
where the diagonals of all factors show that the matrices are nonsingular. QR refines
and checks each row: three products. `Normal(Cholesky())` makes four products, one of
which measures A, and two check the answer; at n = 100, where the condition is the
square of that of A, it needs the estimate. LSMR makes 13 to 26 % more steps than the
published one. GMRES makes fewer products."""
_STREAM = """\
*Poisson.* A step of CG here streams its vectors some 18 times, a bare one 14: as a pass
may be one that computes the residual anew, it reads x and b as well."""
_ASYNCHRONOUS = """\
*Dispatched by default.* JAX runs a program in the caller's thread if XLA counts fewer
than 1000 operations in it (a loop counts as one pass, a library call not at all).
Otherwise it hands the program to another thread and waits, which takes 40 to 70 µs here
(see the last section). If only the checks of this library bring its program to that
count, as for QR, whose scales alone have 500, and for `Normal(CG)` at n = 4, these rows
show nothing else. GMRES at n = 4 is just below. In a program that does more than solve,
everything is handed over together."""

GOALS = (
    Goal("first result, from import", "^first ", PEER, 0.8, _FIRST),
    Goal(
        "compile direct solvers",
        f"^compile {_DIRECT} (value|gradient)",
        PEER,
        0.75,
        _DIRECT_COMPILE,
    ),
    Goal(
        "compile direct solvers",
        f"^compile {_DIRECT} (value|gradient)",
        JAX,
        1.3,
        _DIRECT_COMPILE,
    ),
    Goal(
        "compile Krylov loops, value",
        f"^compile {_LOOPS} value",
        PEER,
        0.75,
        _LOOP_COMPILE,
    ),
    Goal(
        "compile Krylov loops, gradient",
        f"^compile {_LOOPS} gradient",
        PEER,
        0.6,
        _LOOP_COMPILE,
    ),
    Goal(
        "compile Krylov loops",
        f"^compile {_LOOPS} (value|gradient)",
        LOOP,
        1.3,
        _LOOP_COMPILE,
    ),
    Goal(
        "compile LSMR and Normal(CG), value",
        r"^compile (LSMR|Normal\(CG\)) value",
        PEER,
        0.5,
        _LEAST_SQUARES_COMPILE,
    ),
    Goal(
        "compile LSMR and Normal(CG), gradient",
        r"^compile (LSMR|Normal\(CG\)) gradient",
        PEER,
        0.4,
        _LEAST_SQUARES_COMPILE,
    ),
    Goal(
        "compile CG, GMRES and LSMR, Hessian",
        "^compile (CG|GMRES|LSMR) hessian",
        PEER,
        0.3,
        _LOOP_COMPILE,
    ),
    Goal("run", "^run ", PEER, 1.05, _SMALL),
    Goal("run, dispatched by default", "^asynchronous ", PEER, 1.05, _ASYNCHRONOUS),
    Goal(
        "run direct solvers, n = 500 and 2000, value",
        f"^run {_DIRECT} value n=(500|2000)",
        JAX,
        1.1,
        _SMALL,
    ),
    Goal("eager call of LU", "^eager LU", PEER, 0.4, _EAGER),
    Goal("eager call of LU", "^eager LU", JAX, 4.0, _EAGER),
    Goal(
        "many right-hand sides, LU and Cholesky",
        "^many (LU|Cholesky)",
        JAX,
        1.1,
        _SMALL,
    ),
    Goal("many right-hand sides, QR", "^many QR", JAX, 2.0, _SMALL),
    Goal("rank-deficient", "^deficient", PEER, 0.33, _RANK),
    Goal(
        "batches, n = 10 and more", "^batch .* n=(10|20|50|100)$", PEER, 1.0, _BATCHES
    ),
    Goal("batches, LU, n = 2 and 3", "^batch LU .* n=(2|3)$", JAX, 0.25, _TINY),
    Goal("batches, LU, n = 4", "^batch LU .* n=4$", JAX, 0.5, _TINY),
    Goal("batches, LU, n = 6 and 8", "^batch LU .* n=(6|8)$", JAX, 0.8, _TINY),
    Goal("Poisson, CG", "^poisson", SCIPY, 0.7, _STREAM),
    Goal("Poisson, CG", "^poisson", LOOP, 2.5, _STREAM),
)

# the geometric mean of the ratios of ours to a column, over all cases that match
MEANS = (Goal("run, geometric mean", "^run ", PEER, 0.7),)
