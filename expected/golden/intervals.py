"""Intervals by resampling, from their definition, in NumPy and f64: expected/golden/intervals.json.

    python3 expected/golden/intervals.py

Every resample is a list of tokens: those of the drawn blocks, a block twice where it is drawn twice.
Correlations are those of `numpy.corrcoef` over that list, medians those of a list of neurons that has
a neuron twice where it is drawn twice. Random numbers are those of chacha.py: stream `r` of purpose
6 is that of resample `r`; its first numbers draw the blocks, the next the neurons of each layer.
"""
import json
from pathlib import Path

import numpy as np

from chacha import words

HERE = Path(__file__).parent
SEED, RESAMPLES, LAYERS, WIDTH, BLOCKS, CANDIDATES = 7, 200, 2, 10, 6, 3
THRESHOLDS = [0.42, 0.37]
COLUMNS = ["skew", "kurt", "input_bias", "l2_penalty", "sparsity", "vocab_kurt", "in_out_sim", "mean"]
N = LAYERS * WIDTH


def draws(resample):
    """How the blocks and the neurons of a resample are drawn."""
    count = BLOCKS + N
    w = words(SEED, 6, resample, 2 * count).astype(np.uint64)
    numbers = [int(low) | int(high) << 32 for low, high in zip(w[0::2], w[1::2])]
    below = lambda i, n: numbers[i] * n >> 64
    blocks = [below(i, BLOCKS) for i in range(BLOCKS)]
    neurons = [l * WIDTH + below(BLOCKS + l * WIDTH + i, WIDTH) for l in range(LAYERS) for i in range(WIDTH)]
    return blocks, neurons


def percentiles(values):
    """Ranks among values that exist, ties averaged, 0 to 100."""
    known = values[~np.isnan(values)]
    rank = lambda v: np.nan if np.isnan(v) else 100 * ((known < v).sum() + (known <= v).sum() + 1) / 2 / len(known)
    return np.array([rank(v) for v in values])


def interval(values):
    values = np.array(values, float)
    if not np.isfinite(values).all():
        return None
    return list(np.percentile(values, [2.5, 97.5]))


def main():
    rng = np.random.default_rng(1)
    sizes = rng.integers(9, 16, BLOCKS)
    tokens = int(sizes.sum())
    signals = rng.normal(size=(tokens, N))
    noise = [0.3, 0.9, 1.1]
    models = [np.round(signals + s * rng.normal(size=(tokens, N)) + 5 * (m == 1), 2) for m, s in enumerate(noise)]
    models[0][:, 3] = 1.25  # A neuron that never varies.
    baseline = np.round(rng.uniform(0.1, 0.35, N), 3)
    baseline[3] = np.nan
    # Activations are f32 in the program.
    models = [m.astype(np.float32).astype(float) for m in models]
    ends = np.cumsum(sizes)
    members = [np.arange(end - size, end) for end, size in zip(ends, sizes)]

    def rho(x, y, chosen):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.corrcoef(models[0][chosen, x], models[y][chosen, :].T)[0, 1:]

    everything = np.arange(tokens)
    candidates = []
    for y in (1, 2):
        lists = []
        for x in range(N):
            all_rho = rho(x, y, everything)
            lists.append([] if np.isnan(all_rho).any() else [int(j) for j in np.argsort(-all_rho)[:CANDIDATES]])
        candidates.append(lists)
    best = lambda x, y, chosen: np.max(rho(x, y, chosen)[candidates[y - 1][x]]) if candidates[y - 1][x] else np.nan
    excess = np.array([np.mean([best(x, y, everything) for y in (1, 2)]) for x in range(N)]) - baseline
    columns = {name: np.round(rng.normal(size=N) + 2 * (excess > THRESHOLDS[0]), 1) for name in COLUMNS}
    columns["kurt"][5] = np.nan
    ranks = {name: np.concatenate([percentiles(v[l * WIDTH:(l + 1) * WIDTH]) for l in range(LAYERS)]) for name, v in columns.items()}

    # The mean increase of best matches in resamples is subtracted, because baselines are fixed.
    bests = np.zeros((RESAMPLES, N))
    for r in range(RESAMPLES):
        chosen = np.concatenate([members[b] for b in draws(r)[0]])
        bests[r] = [np.mean([best(x, y, chosen) for y in (1, 2)]) for x in range(N)]
    resampled = bests - bests.mean(axis=0) + excess
    gaps = {name: [] for name in COLUMNS}
    for r in range(RESAMPLES):
        neurons = draws(r)[1]
        neurons = np.array([i for i in neurons if not np.isnan(excess[i])])
        universal = resampled[r][neurons] > THRESHOLDS[0]
        for name in COLUMNS:
            of = lambda wanted: ranks[name][neurons[wanted]]
            known = lambda v: v[~np.isnan(v)]
            a, b = known(of(universal)), known(of(~universal))
            gaps[name].append(np.median(a) - np.median(b) if len(a) and len(b) else np.nan)
    known = resampled[:, ~np.isnan(excess)]
    # Far enough from the thresholds that rounding of activations counts no neuron otherwise.
    assert min(np.abs(known - t).min() for t in THRESHOLDS) > 1e-5
    above = lambda t, neurons: interval(100 * (resampled[:, neurons] > t).mean(axis=1))
    number = lambda v: None if np.isnan(v) else float(v)
    golden = {
        "by": f"expected/golden/intervals.py, numpy {np.__version__}",
        "seed": SEED, "resamples": RESAMPLES, "layers": LAYERS, "width": WIDTH,
        "block_sizes": sizes.tolist(), "thresholds": THRESHOLDS,
        "models": [np.round(m, 2).ravel().tolist() for m in models],
        "candidates": candidates, "baseline": [number(v) for v in baseline],
        "excess": [number(v) for v in excess],
        "columns": {name: [number(v) for v in values] for name, values in columns.items()},
        "intervals": {
            "excess": [interval(resampled[:, i]) for i in range(N)],
            "shares": [above(t, slice(0, N)) for t in THRESHOLDS],
            "by_layer": [above(THRESHOLDS[0], slice(l * WIDTH, (l + 1) * WIDTH)) for l in range(LAYERS)],
            "signatures": {name: interval(values) for name, values in gaps.items()},
        },
    }
    (HERE / "intervals.json").write_text(json.dumps(golden, indent=None, separators=(", ", ": ")) + "\n")
    print({k: v for k, v in golden["intervals"].items() if k != "excess"}, (excess > THRESHOLDS[0]).sum())


main()
