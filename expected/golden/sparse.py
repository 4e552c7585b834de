"""Two sparse matrices as SciPy stores them, and correlations of their columns by `numpy.corrcoef`.

    python expected/golden/sparse.py        writes expected/golden/sparse

Needs numpy, scipy and safetensors. Features 0 to 11 of `a` are features of `b` too, in another order
and with noise; the last feature of `a` is never active.
"""

import json
import pathlib

import numpy as np
import scipy.sparse
from safetensors.numpy import save_file

OUT = pathlib.Path(__file__).parent / "sparse"
TOKENS, UNITS, SHARED = 300, 40, 12
rng = np.random.default_rng(11)


def features():
    active = rng.random((TOKENS, UNITS)) < 0.03
    return np.where(active, rng.gamma(2.0, 1.0, (TOKENS, UNITS)), 0.0).astype(np.float32)


a, b = features(), features()
order = rng.permutation(UNITS)[:SHARED]
noise = 1.0 + 0.1 * rng.standard_normal((TOKENS, SHARED))
b[:, order] = (a[:, :SHARED] * noise).astype(np.float32)
a[:, -1] = 0.0
OUT.mkdir(exist_ok=True)
for name, dense in {"a": a, "b": b}.items():
    csr = scipy.sparse.csr_array(dense)
    save_file({"indptr": csr.indptr.astype(np.int64), "indices": csr.indices.astype(np.int32),
               "values": csr.data, "shape": np.array(csr.shape, dtype=np.int64)},
              OUT / f"{name}.safetensors")
rho = np.corrcoef(a[:, :-1].astype(float).T, b.astype(float).T)[:UNITS - 1, UNITS - 1:]
best = rho.argmax(axis=1)
golden = {"source": "expected/golden/sparse.py, numpy " + np.__version__,
          "shared": order.tolist(), "best": best.tolist(),
          "rho": [float(rho[i, j]) for i, j in enumerate(best)],
          "mean": float(rho.mean()), "var": float(rho.var()),
          "statistics": {"mean": a.astype(float).mean(axis=0).tolist(),
                         "var": a.astype(float).var(axis=0).tolist(),
                         "sparsity": (a > 0).mean(axis=0).tolist()}}
(OUT / "expected.json").write_text(json.dumps(golden) + "\n")
