"""Steps of MINRES and of TriMR for Stokes' equations: a prototype in NumPy.

    python benchmarks/saddle_points.py

[[K, G], [Gᵀ, 0]] on a staggered grid of n × n cells, to a relative residual of 1e-8 in
the norm of diag(M, I)⁻¹, with M = K or one sweep of SSOR for it. Both methods minimise
that norm: MINRES over one Krylov space, TriMR over the two of orthogonal
tridiagonalisation (Montoison and Orban 2021, doi:10.1137/20M1363030). Here bases are
kept, so there are no rounding errors of recurrences; a step costs the same in both.
"""

import numpy as np

TOL, MOST = 1e-8, 150


def stokes(n):
    """K and G."""
    wall = 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)
    wall[0, 0] = wall[-1, -1] = 3
    inner = 2 * np.eye(n - 1) - np.eye(n - 1, k=1) - np.eye(n - 1, k=-1)
    Ku = np.kron(inner, np.eye(n)) + np.kron(np.eye(n - 1), wall)
    Kv = np.kron(wall, np.eye(n - 1)) + np.kron(np.eye(n), inner)
    none = np.zeros((len(Ku), len(Kv)))
    D = np.eye(n)[1:] - np.eye(n)[:-1]
    G = np.vstack([np.kron(D, np.eye(n)), np.kron(np.eye(n), D)])
    return np.block([[Ku, none], [none.T, Kv]]) * n**2, G * n


def ssor(K, w=1.5):
    D, L = np.diag(np.diag(K)) / w, np.tril(K, -1)
    return (D + L) @ np.linalg.inv((2 - w) * D) @ (D + L).T


def orthonormal(v, basis, inverse):
    """v, orthonormalised against the basis in the norm of `inverse`; None if nothing
    is left of it."""
    if v is None:
        return None
    for _ in range(2):
        for u in basis:
            v = v - (u @ inverse @ v) * u
    size = np.sqrt(v @ inverse @ v)
    return v / size if size > 1e-12 else None


def minres(S, P, rhs, _):
    basis, v = [], rhs
    while (v := orthonormal(v, basis, P)) is not None:
        basis.append(v)
        x = P @ v
        yield [x]
        v = S @ x


def trimr(S, P, rhs, m):
    top, bottom, G = P[:m, :m], P[m:, m:], S[:m, m:]
    V, U, v, u = [], [], rhs[:m], rhs[m:]
    if not u.any():
        u = G.T @ top @ v
    while True:
        v, u = orthonormal(v, V, top), orthonormal(u, U, bottom)
        new, v_next, u_next = [], None, None
        if v is not None:
            V.append(v)
            new.append(np.r_[top @ v, 0 * rhs[m:]])
            u_next = G.T @ top @ v
        if u is not None:
            U.append(u)
            new.append(np.r_[0 * rhs[:m], bottom @ u])
            v_next = G @ bottom @ u
        v, u = v_next, u_next
        yield new


def steps(method, S, P, rhs, m):
    """How many until the least residual over the space is within the tolerance."""
    L, space = np.linalg.cholesky(P), []
    target = L.T @ rhs
    for k, new in enumerate(method(S, P, rhs, m), 1):
        space += new
        C = L.T @ S @ np.stack(space, 1)
        left = target - C @ np.linalg.lstsq(C, target, rcond=1e-13)[0]
        if np.linalg.norm(left) <= TOL * np.linalg.norm(target):
            return k
        if k == MOST:
            return f"more than {MOST}"
    return "ended"


def schur(K, G, f):
    """Steps of conjugate gradients for Gᵀ K⁻¹ G x = f."""
    S = G.T @ np.linalg.solve(K, G)
    r, k = f, 0
    d = r
    while np.linalg.norm(r) > TOL * np.linalg.norm(f):
        q, old = S @ d, r
        r = r - (r @ r) / (d @ q) * q
        d, k = r + (r @ r) / (old @ old) * d, k + 1
    return k


def main():
    rng = np.random.default_rng(0)
    print("| grid | M | right-hand side | MINRES | TriMR |\n|---|---|---|--:|--:|")
    for n in (8, 16):
        K, G = stokes(n)
        m, p = G.shape
        S = np.block([[K, G], [G.T, np.zeros((p, p))]])
        for name, M in (("exact", K), ("SSOR", ssor(K))):
            inverse = np.linalg.inv(M)
            P = np.zeros_like(S)
            P[:m, :m], P[m:, m:] = (inverse + inverse.T) / 2, np.eye(p)
            for what in ("both parts", "the first part"):
                c = (
                    G.T @ rng.normal(size=m) / n
                    if what == "both parts"
                    else np.zeros(p)
                )
                rhs = np.r_[rng.normal(size=m), c]
                counts = [steps(method, S, P, rhs, m) for method in (minres, trimr)]
                print(f"| {n} | {name} | {what} | {counts[0]} | {counts[1]} |")
        f = G.T @ np.linalg.solve(K, rng.normal(size=m))
        print(f"| {n} | exact | Schur complement: CG | {schur(K, G, f)} | |")


if __name__ == "__main__":
    main()
