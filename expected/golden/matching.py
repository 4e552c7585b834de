"""Matches in both directions, one-to-one assignments, clusters and the similarity of layers of a small
family, in NumPy and SciPy and f64: expected/golden/matching.json.

    python3 expected/golden/matching.py
"""
import json
from pathlib import Path

import numpy as np
import scipy
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

MODELS, LAYERS, UNITS, TOKENS, THRESHOLD = 3, 2, 4, 60, 0.5
N = LAYERS * UNITS

rng = np.random.default_rng(5)
causes = rng.normal(size=(TOKENS, 6))
activations = []
for _ in range(MODELS):
    own = rng.normal(size=(TOKENS, N))
    strength = rng.uniform(0.0, 2.0, size=N)
    shared = causes[:, rng.integers(0, 6, size=N)]
    activations.append(np.round(own + strength * shared, 3).astype(np.float32))


def corr(x, y):
    return np.corrcoef(x.T.astype(float), y.T.astype(float))[:N, N:]


def cka(x, y):
    x, y = (v.astype(float) - v.astype(float).mean(axis=0) for v in (x, y))
    norm = np.linalg.norm
    return norm(x.T @ y) ** 2 / (norm(x.T @ x) * norm(y.T @ y))


pairs = []
edges = []
for a in range(MODELS):
    for b in range(MODELS):
        if a == b:
            continue
        rho = corr(activations[a], activations[b])
        best = rho.argmax(axis=1)
        rank = [int(1 + (rho[:, best[i]] > rho[i, best[i]]).sum()) for i in range(N)]
        rows, columns = linear_sum_assignment(np.maximum(rho, 0.0), maximize=True)
        assigned = [int(columns[i]) if rho[i, columns[i]] > 0 else None for i in rows]
        layers = [
            [cka(activations[a][:, i * UNITS : (i + 1) * UNITS], activations[b][:, j * UNITS : (j + 1) * UNITS])
             for j in range(LAYERS)]
            for i in range(LAYERS)
        ]
        pairs.append({"models": [a, b], "best": best.tolist(), "rank": rank, "assigned": assigned, "cka": layers})
        if a < b:
            mutual = [i for i in range(N) if rank[i] == 1 and rho[i, best[i]] > THRESHOLD]
            edges += [(a * N + i, b * N + int(best[i])) for i in mutual]

ends = np.array(edges)
graph = coo_matrix((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(MODELS * N, MODELS * N))
_, label = connected_components(graph, directed=False)
clusters = {}
for node in sorted(set(ends.flatten().tolist())):
    clusters.setdefault(int(label[node]), []).append([node // N, node % N])

with open(Path(__file__).parent / "matching.json", "w") as file:
    json.dump(
        {
            "by": f"expected/golden/matching.py, numpy {np.__version__}, scipy {scipy.__version__}",
            "layers": LAYERS,
            "units": UNITS,
            "threshold": THRESHOLD,
            "activations": [[round(float(v), 3) for v in a.flatten()] for a in activations],
            "pairs": pairs,
            "clusters": sorted(clusters.values()),
        },
        file,
    )
