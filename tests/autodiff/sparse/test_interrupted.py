"""Interrupts and forks in the middle of the host's work: an error that says so, and a
cache that serves on."""

import os
import subprocess
import sys

import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
import pytest
from lx_autodiff import linear_solve
from lx_solvers.sparse._superlu import SuperLU

A = 3 * np.eye(6) + np.eye(6, k=1)


class Interrupted(SuperLU):
    """Whose first factorisation does not end."""

    left = [1]

    def factor(self, analysis, matrix, kind):
        if self.left:
            self.left.pop()
            raise KeyboardInterrupt
        return super().factor(analysis, matrix, kind)


def test_interrupt():
    """Nothing half made is kept, no lock is held, and the same solve works."""
    operator = lxo.SparseLinearOperator.from_dense(A)
    solver = lx.SparseLU(Interrupted())
    with pytest.raises(Exception, match="KeyboardInterrupt"):
        linear_solve(operator, jnp.ones(6), solver).value.block_until_ready()
    assert lx.sparse_cache.info().items == 1  # the analysis
    x = linear_solve(operator, jnp.ones(6), solver).value
    np.testing.assert_allclose(x, np.linalg.solve(A, np.ones(6)), rtol=1e-14)
    assert lx.sparse_cache.info().items == 2


# Whatever a signal hits, it hits in a process of its own.
OF_ITS_OWN = """
import os, signal, sys, threading, time
import jax
jax.config.update("jax_enable_x64", True)
import jax.numpy as jnp
import lx_operators as lxo
import lx_solvers as lx
import numpy as np
from lx_autodiff import linear_solve
from lx_solvers.sparse import _host
from lx_solvers.sparse._superlu import SuperLU

A = 3 * np.eye(6) + np.eye(6, k=1)
operator = lxo.SparseLinearOperator.from_dense(A)
b = jnp.ones(6)

class Signalled(SuperLU):
    left = [1]
    def factor(self, analysis, matrix, kind):
        if self.left:
            self.left.pop()
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.5)
        return super().factor(analysis, matrix, kind)

def interrupted():
    solver = lx.SparseLU(Signalled())
    try:
        linear_solve(operator, b, solver).value.block_until_ready()
        time.sleep(0.5)
    except BaseException as error:
        assert "KeyboardInterrupt" in f"{type(error)} {error}", error
    else:
        raise AssertionError("the interrupt was lost")
    assert not lx.sparse_cache._lock.locked() and not lx.sparse_cache._making
    x = linear_solve(operator, b, solver).value
    np.testing.assert_allclose(x, np.linalg.solve(A, np.ones(6)), rtol=1e-14)

def forked():
    state = lx.SparseLU("superlu").init(operator, {})
    arrays = [np.asarray(x) for x in (state.matrix.pattern.rows,
        state.matrix.pattern.columns, state.matrix.values)]
    digest = np.asarray(state.digest)
    held = threading.Event()
    def hold():  # a thread that the child will not have
        with lx.sparse_cache._lock:
            held.set()
            time.sleep(1.0)
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        try:
            signal.alarm(60)
            x, *_ = _host.solve(digest, *arrays, np.ones((1, 6)), task=state.task,
                adjoint=False)
            assert lx.sparse_cache.info().hits >= 1
            rows, columns, values = arrays
            new, *_ = _host.factorise(rows, columns, 2 * values, task=state.task)
            y, *_ = _host.solve(new, rows, columns, 2 * values, np.ones((1, 6)),
                task=state.task, adjoint=False)
            np.testing.assert_allclose(A @ x[0], np.ones(6), rtol=1e-14)
            np.testing.assert_allclose(2 * A @ y[0], np.ones(6), rtol=1e-14)
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    thread.join()
    x = linear_solve(operator, b, lx.SparseLU("superlu"), state=state).value
    np.testing.assert_allclose(A @ x, np.ones(6), rtol=1e-14)

{"interrupted": interrupted, "forked": forked}[sys.argv[1]]()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork, nor its signals")
@pytest.mark.parametrize("what", ["interrupted", "forked"])
def test_in_a_process_of_its_own(what):
    """A signal in the middle of a factorisation; and a fork while another thread holds
    the lock of the cache, whose child factorises and solves on the host."""
    command = [sys.executable, "-W", "ignore", "-c", OF_ITS_OWN, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
