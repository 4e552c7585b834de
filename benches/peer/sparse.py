"""Sparse features of a known family, and the time that SciPy takes for their products.

    python3 benches/peer/sparse.py FOLDER [UNITS]

Writes two members of UNITS features over 50,000 tokens, one feature in a thousand active at a token, and
a spec, FOLDER/sparse.yaml. One feature in twenty is planted: it is active at the same tokens in both
members, under another index, with noise. Then multiplies the two matrices with SciPy, which is what a
comparison without zeros needs at least, and prints the seconds. Needs numpy, scipy and safetensors.
"""
import sys
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from scipy.sparse import csr_matrix

TOKENS, DENSITY, PLANTED, NOISE = 50_000, 0.001, 20, 0.2


def member(rng, units, planted, order):
    """Returns random features; those planted replace the features at the first places of `order`."""
    n = int(TOKENS * units * DENSITY)
    rows, columns = rng.integers(0, TOKENS, n), rng.integers(0, units, n)
    own = ~np.isin(columns, order[: planted.shape[1]])
    values = 1.0 + rng.random(n)
    shared = planted.tocoo()
    noisy = shared.data * (1.0 + NOISE * rng.standard_normal(shared.data.size))
    rows = np.concatenate([rows[own], shared.row])
    columns = np.concatenate([columns[own], order[shared.col]])
    values = np.concatenate([values[own], np.maximum(noisy, 0.05)])
    return csr_matrix((values.astype(np.float32), (rows, columns)), shape=(TOKENS, units))


def main(folder, units):
    rng = np.random.default_rng(1)
    n = int(TOKENS * units * DENSITY / PLANTED)
    places = rng.integers(0, TOKENS, n), rng.integers(0, units // PLANTED, n)
    planted = csr_matrix((1.0 + rng.random(n), places), shape=(TOKENS, units // PLANTED))
    members = [member(rng, units, planted, rng.permutation(units)) for _ in range(2)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, matrix in zip("ab", members):
        matrix.sum_duplicates()
        tensors = {"indptr": matrix.indptr.astype(np.int64), "indices": matrix.indices.astype(np.int64),
                   "values": matrix.data, "shape": np.array(matrix.shape)}
        save_file(tensors, folder / f"{name}.safetensors")
    family = "\n".join(f"    - {{ name: {name}, path: {name}.safetensors }}" for name in "ab")
    (folder / "sparse.yaml").write_text(
        "version: 1\nname: sparse\nkind: universality\nquestion: Are planted features found?\n"
        f"source: benches/peer/sparse.py\nmodels:\n  reference: a\n  family:\n{family}\n"
        "correlation: { baseline: { kind: permutation, draws: 1 } }\n"
        "statistics: { intervals: { blocks: 0 } }\n"
    )
    begun = time.time()
    products = members[0].T.tocsr() @ members[1].tocsr()
    print(f"{units} features, {members[0].nnz} entries; {planted.shape[1]} planted")
    print(f"SciPy, the products of one pair: {time.time() - begun:.1f} s, {products.nnz} of them not zero")


main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 16_384)
