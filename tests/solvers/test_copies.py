"""Solvers are copied and pickled, into other processes too."""

import copy
import pickle

import lx_solvers as lxs
import pytest

SOLVERS = [
    lxs.AutoLinearSolver(well_posed=None),
    lxs.CG(1e-6, 1e-6),
    lxs.BiCGStab(),
    lxs.GMRES(),
    lxs.FGMRES(),
    lxs.MINRES(),
    lxs.LSMR(damp=0.5),
    lxs.LSQR(),
    lxs.LU(),
    lxs.QR(),
    lxs.SVD(),
    lxs.Normal(lxs.CG()),
    lxs.Refined(lxs.LU()),
]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda s: type(s).__name__)
def test_copies(solver):
    assert pickle.loads(pickle.dumps(solver)) == solver
    assert copy.deepcopy(solver) == solver
