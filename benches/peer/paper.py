#!/usr/bin/env python3
"""The algorithm of the paper, written anew, on the study of `bench-host --study`: five
random GPT-2s of four layers of 3,072 neurons, 4,096 tokens, one reference model and four
partners. For each pair of models, both read the text, and the sums of every pair of layers
are added up; then both read the text again, the partner's activations are multiplied by a
random rotation of each layer, and the sums are added up again. All in f32.

    python benches/peer/paper.py            seconds, as JSON
    python benches/peer/paper.py --check    compares a small study with NumPy's corrcoef

Uses PyTorch if it is there, and NumPy otherwise; the answer says which.
"""
import json
import os
import sys
import time
from dataclasses import dataclass, replace

import numpy as np

try:
    import torch
    from torch.nn import functional
except ImportError:
    torch = None


@dataclass(frozen=True)
class Shape:
    layers: int = 4
    d_model: int = 768
    d_mlp: int = 3072
    heads: int = 12
    context: int = 512
    rows: int = 8
    vocab: int = 64
    models: int = 5


def on_device(array):
    return torch.from_numpy(array) if torch else array


def rotation(n, rng):
    """Returns a random orthogonal matrix [n, n]."""
    normal = rng.standard_normal((n, n), dtype=np.float32)
    if torch:
        return torch.linalg.qr(torch.from_numpy(normal))[0]
    return np.linalg.qr(normal)[0]


def layer_norm(x):
    if torch:
        return functional.layer_norm(x, x.shape[-1:])
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-5)


def gelu(x):
    if torch:
        return functional.gelu(x, approximate="tanh")
    inner = x * x
    inner *= 0.044715
    inner += 1
    inner *= x
    inner *= np.float32(np.sqrt(2 / np.pi))
    np.tanh(inner, out=inner)
    inner += 1
    inner *= x
    inner *= 0.5
    return inner


def attention(q, k, v):
    """Causal attention of [rows, heads, tokens, d_head]."""
    if torch:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    tokens = q.shape[2]
    scores = q @ k.transpose(0, 1, 3, 2)
    scores *= np.float32(q.shape[3] ** -0.5)
    scores += np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
    scores -= scores.max(-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(-1, keepdims=True)
    return scores @ v


class Model:
    """A GPT-2 with random weights."""

    def __init__(self, shape, seed):
        rng = np.random.default_rng(seed)
        d = shape.d_model

        def weights(*size, scale=0.02):
            return on_device(rng.uniform(-scale, scale, size).astype(np.float32))

        self.shape = shape
        self.embed, self.positions = weights(shape.vocab, d, scale=1), weights(shape.context, d, scale=1)
        sizes = (d, 3 * d), (d, d), (d, shape.d_mlp), (shape.d_mlp, d)
        self.blocks = [[weights(*size) for size in sizes] for _ in range(shape.layers)]

    def activations(self, ids):
        """Returns the activations of every layer, [d_mlp, tokens] each."""
        shape, found = self.shape, []
        rows, tokens = ids.shape
        x = self.embed[ids] + self.positions[:tokens]
        for qkv, out, mlp_in, mlp_out in self.blocks:
            heads = (layer_norm(x) @ qkv).reshape(rows, tokens, 3, shape.heads, -1)
            q, k, v = (heads[:, :, i].swapaxes(1, 2) for i in range(3))
            x = x + attention(q, k, v).swapaxes(1, 2).reshape(rows, tokens, -1) @ out
            hidden = gelu(layer_norm(x) @ mlp_in)
            found.append(hidden.reshape(rows * tokens, -1).T)
            if len(found) < shape.layers:
                x = x + hidden @ mlp_out
        return found


class Correlations:
    """Streaming sums of two models, of every pair of layers."""

    def __init__(self, shape):
        n = shape.layers
        zeros = torch.zeros if torch else (lambda *size: np.zeros(size, np.float32))
        self.n = 0
        self.sums = [[zeros(shape.d_mlp) for _ in range(n)] for _ in range(2)]
        self.squares = [[zeros(shape.d_mlp) for _ in range(n)] for _ in range(2)]
        self.products = [[zeros(shape.d_mlp, shape.d_mlp) for _ in range(n)] for _ in range(n)]

    def add(self, first, second):
        self.n += first[0].shape[1]
        for side, model in enumerate((first, second)):
            for layer, x in enumerate(model):
                self.sums[side][layer] += x.sum(1)
                self.squares[side][layer] += (x * x).sum(1)
        for i, x in enumerate(first):
            for j, y in enumerate(second):
                self.products[i][j] += x @ y.T

    def best(self):
        """Returns the largest correlation of every neuron of the first model."""
        spread = [
            [(squares - sums * sums / self.n) ** 0.5 for sums, squares in zip(*side)]
            for side in zip(self.sums, self.squares)
        ]
        best = []
        for i, row in enumerate(self.products):
            found = None
            for j, products in enumerate(row):
                rho = products - self.sums[0][i][:, None] * self.sums[1][j] / self.n
                rho = rho / spread[0][i][:, None] / spread[1][j]
                most = rho.amax(1) if torch else rho.max(1)
                pair = torch.maximum if torch else np.maximum
                found = most if found is None else pair(found, most)
            best.append(np.asarray(found))
        return np.concatenate(best)


def ids_of(shape, batch):
    """Returns text [rows, context] in which no row is like another."""
    return np.random.default_rng(1000 + batch).integers(0, shape.vocab, (shape.rows, shape.context))


def study(shape, batches=1):
    """Runs the study. Returns seconds by part, and the excess correlation of every neuron."""
    models = [Model(shape, seed) for seed in range(shape.models)]
    spent = {"forward_s": 0.0, "pairs_s": 0.0, "baseline_s": 0.0}

    def timed(part, work):
        begun = time.perf_counter()
        result = work()
        spent[part] += time.perf_counter() - begun
        return result

    excess = 0
    for partner in models[1:]:
        found = {}
        for part in ("pairs_s", "baseline_s"):
            rng = np.random.default_rng(7)
            turns = None
            if part == "baseline_s":
                turns = timed(part, lambda: [rotation(shape.d_mlp, rng) for _ in range(shape.layers)])
            correlations = timed(part, lambda: Correlations(shape))
            for batch in range(batches):
                ids = ids_of(shape, batch)
                first = timed("forward_s", lambda: models[0].activations(ids))
                second = timed("forward_s", lambda: partner.activations(ids))
                if turns:
                    second = timed(part, lambda: [r @ y for r, y in zip(turns, second)])
                timed(part, lambda: correlations.add(first, second))
            found[part] = timed(part, correlations.best)
        excess = excess + (found["pairs_s"] - found["baseline_s"]) / (shape.models - 1)
    return spent, excess


def check():
    """Compares the correlations of two small models with NumPy's, batch by batch against at once."""
    shape = replace(Shape(), layers=2, d_model=24, d_mlp=40, heads=2, context=16, models=2)
    models = [Model(shape, seed) for seed in range(2)]
    correlations, kept = Correlations(shape), [[], []]
    for batch in range(3):
        found = [model.activations(ids_of(shape, batch)) for model in models]
        correlations.add(*found)
        for side, layers in zip(kept, found):
            side.append(np.concatenate([np.asarray(x, np.float64) for x in layers]))
    first, second = (np.concatenate(side, axis=1) for side in kept)
    want = np.corrcoef(first, second)[: len(first), len(first) :].max(1)
    off = np.abs(correlations.best() - want).max()
    turn = np.asarray(rotation(64, np.random.default_rng(1)), np.float64)
    off_turn = np.abs(turn @ turn.T - np.eye(64)).max()
    _, excess = study(shape)
    print(f"best correlation {off:.1e} from corrcoef, rotation {off_turn:.1e} from orthogonal")
    if not (off < 1e-4 and off_turn < 1e-5 and np.isfinite(excess).all() and excess.shape == (80,)):
        sys.exit("the sums are wrong")


def main():
    if sys.argv[1:] == ["--check"]:
        return check()
    if sys.argv[1:]:
        sys.exit("usage: paper.py [--check]")
    begun = time.perf_counter()
    spent, _ = study(Shape())
    program = f"PyTorch {torch.__version__}" if torch else f"NumPy {np.__version__}"
    threads = torch.get_num_threads() if torch else len(os.sched_getaffinity(0))
    json.dump({"program": program, "threads": threads, **spent, "all_s": time.perf_counter() - begun}, sys.stdout)
    print()


if __name__ == "__main__":
    with np.errstate(divide="ignore", invalid="ignore"):
        main()
