"""Correct digits of least-squares solvers on the certified sets of NIST's StRD.

Truth is the same problem in exact rational arithmetic (tests/data/README.md). Run as a
script, it writes the tables of the docs' page.
"""

import json
import math
import re
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.linalg

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "evidence" / "least-squares.md"
MOST = -math.log10(2.0**-53)  # digits of a correctly rounded number


class Set(NamedTuple):
    """A linear-regression problem."""

    name: str
    X: np.ndarray  # [n, p], the exact data rounded once
    y: np.ndarray  # [n]
    truth: list[Fraction]  # [p]

    def digits(self, coef: Any) -> float:
        """Correct digits of the worst coefficient: -log₁₀ of its relative error."""
        if not np.all(np.isfinite(coef)):
            return 0.0
        pairs = zip(map(_exactly, coef), self.truth)
        error = max(abs((got - true) / true) for got, true in pairs)
        return MOST if error == 0 else min(max(-math.log10(error), 0.0), MOST)

    @property
    def ceiling(self) -> float:
        """The digits of the exact solution with the rounded data."""
        return self.digits([float(c) for c in _solved_exactly(self.X, self.y)])


def sets() -> list[Set]:
    """The eleven, in NIST's order."""

    def rounded(values: Any) -> np.ndarray:
        return np.vectorize(lambda s: float(Fraction(s)), otypes=[float])(values)

    data = json.loads((ROOT / "tests" / "data" / "nist_strd.json").read_text())
    return [
        Set(name, rounded(d["X"]), rounded(d["y"]), [*map(Fraction, d["exact_coef"])])
        for name, d in data.items()
    ]


def _exactly(x: Any) -> Fraction:
    return Fraction(float(x))


def _solved_exactly(X: np.ndarray, y: np.ndarray) -> list[Fraction]:
    """Least squares by the normal equations, in rationals."""
    columns = [[_exactly(x) for x in column] for column in (*X.T, y)]
    rows = [[sum(a * b for a, b in zip(u, v)) for v in columns] for u in columns[:-1]]
    for i in range(len(rows)):  # Gauss and Jordan; definite, so without pivots
        rows[i] = [x / rows[i][i] for x in rows[i]]
        for k, row in enumerate(rows):
            if k != i:
                rows[k] = [a - row[i] * b for a, b in zip(row, rows[i])]
    return [row[-1] for row in rows]


class Outcome(NamedTuple):
    digits: float
    claimed: bool = True  # whether the solver called it a success
    rank: int | None = None  # of solvers that report one


Method = Callable[[list[Set]], Iterator[Outcome]]


def _peer(coef: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Method:
    return lambda problems: (Outcome(s.digits(coef(s.X, s.y))) for s in problems)


def _direct(solver: lx.AbstractLinearSolver) -> Method:
    """One set after the other."""

    def outcomes(problems: list[Set]) -> Iterator[Outcome]:
        for s in problems:
            solution = _solve(solver, jnp.asarray(s.X), jnp.asarray(s.y), {})
            yield _outcome(s, solution)

    return outcomes


def _batched(solver: lx.AbstractLinearSolver, scaled: bool = False) -> Method:
    """All sets in one batch, as [X 0; 0 I] and [y; 0], for which a Krylov method makes
    the same steps (and `Refined` the same corrections), to be compiled once.

    Args:
        scaled: with the norms of the columns as right preconditioner.
    """

    def one(X, y):
        scales = 1 / jnp.linalg.norm(X, axis=0)
        M = lx.DiagonalLinearOperator(scales)
        return _solve(solver, X, y, {"preconditioner": M} if scaled else {})

    def outcomes(problems: list[Set]) -> Iterator[Outcome]:
        n, p = (max(s.X.shape[i] for s in problems) for i in range(2))
        X, y = zip(*(_padded(s, n, p) for s in problems))
        batch = eqx.filter_vmap(one)(jnp.stack(X), jnp.stack(y))
        for i, s in enumerate(problems):
            yield _outcome(s, jax.tree.map(lambda leaf, i=i: leaf[i], batch))

    return outcomes


def _padded(s: Set, n: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    more = p - s.X.shape[1]
    X = scipy.linalg.block_diag(s.X, np.eye(more))
    rows = n + p - len(X)
    return np.pad(X, ((0, rows), (0, 0))), np.pad(s.y, (0, rows + more))


@eqx.filter_jit
def _solve(solver, X, y, options) -> lx.Solution:
    operator = lx.MatrixLinearOperator(X)
    return lx.linear_solve(operator, y, solver, options=options, throw=False)


def _outcome(s: Set, solution: lx.Solution) -> Outcome:
    rank = solution.stats.get("rank")
    coef = np.asarray(solution.value)[: len(s.truth)]
    claimed = bool(solution.result == lx.RESULTS.successful)
    return Outcome(s.digits(coef), claimed, None if rank is None else int(rank))


def _gels(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    return scipy.linalg.lapack.dgels(X, y)[1][: X.shape[1]]


def formed_q(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    Q, R = scipy.linalg.qr(X, mode="economic")
    return scipy.linalg.solve_triangular(R, Q.T @ y)


# tolerances out of reach: as far as a method goes
_FAR: dict[str, Any] = {"rtol": 1e-14, "atol": 0.0, "max_steps": 1000}

PEERS: dict[str, Method] = {
    "NumPy `lstsq`": _peer(lambda X, y: np.linalg.lstsq(X, y)[0]),
    "SciPy `gelsy`": _peer(
        lambda X, y: scipy.linalg.lstsq(X, y, lapack_driver="gelsy")[0]
    ),
    "LAPACK `gels`": _peer(_gels),
    "SciPy `qr`": _peer(formed_q),
}
OURS: dict[str, Method] = {
    "QR": _direct(lx.QR()),
    "PivotedQR": _direct(lx.PivotedQR()),
    "SVD": _direct(lx.SVD()),
    "Refined(QR)": _batched(lx.Refined(lx.QR())),
    "LSMR": _batched(lx.LSMR(**_FAR, conlim=0.0), scaled=True),
    "LSQR": _batched(lx.LSQR(**_FAR, conlim=0.0), scaled=True),
    "Normal(CG)": _batched(lx.Normal(lx.CG(**_FAR))),
}


def outcomes(methods: dict[str, Method]) -> dict[str, dict[str, Outcome]]:
    """By method, then by set."""
    problems = sets()
    return {
        name: {s.name: o for s, o in zip(problems, method(problems))}
        for name, method in methods.items()
    }


def page() -> str:
    """The page, its two tables computed anew."""
    peers, ours = outcomes(PEERS), outcomes(OURS)
    usual = peers["LAPACK `gels`"]

    def cell(s: Set, outcome: Outcome) -> str:
        text = f"{outcome.digits:.1f}"
        if not outcome.claimed:
            text += r"\*"
        elif outcome.digits < usual[s.name].digits - 1:
            text = f"**{text}**"
        if outcome.rank not in (None, len(s.truth)):
            text += f" (rank {outcome.rank})"
        return text

    tables = iter((_table(peers, cell), _table(ours, cell)))
    return re.sub(
        r"^\|(?:.|\n\|)*", lambda _: next(tables), PAGE.read_text(), flags=re.M
    )


def _table(
    methods: dict[str, dict[str, Outcome]], cell: Callable[[Set, Outcome], str]
) -> str:
    rows = [
        ["set", "n × p", "ceiling", *methods],
        ["---"] + ["--:"] * (2 + len(methods)),
    ]
    for s in sets():
        cells = (cell(s, outcomes[s.name]) for outcomes in methods.values())
        size = "{} × {}".format(*s.X.shape)
        rows.append([s.name, size, f"{s.ceiling:.1f}", *cells])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def stated() -> dict[str, dict[str, float]]:
    """Our figures as the page has them, by method, then by set."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    rows = [line.strip("| ").split(" | ") for line in lines[len(lines) // 2 :]]
    names = rows[0][3:]
    figures = {row[0]: re.findall(r"\d+\.\d", " ".join(row[3:])) for row in rows[2:]}
    return {
        name: {set_: float(row[i]) for set_, row in figures.items()}
        for i, name in enumerate(names)
    }


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    PAGE.write_text(page())
