#!/usr/bin/env python3
"""Recomputes rows of the desk table with PyTorch, Transformers and SciPy: the
whole method for 50 random neurons of seed a, sharing no code with the program.
Correlations and rotations are taken literally, over all tokens at once in f64.

    python expected/golden/recompute.py           from the repository's root

writes expected/golden/desk-neurons.json, and the chance levels of the same neurons by the paper's
rotations over the first documents.
"""
import json
import pathlib

import numpy as np
import scipy.stats
import torch
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

from chacha import fast_rotation, rotation
from make_golden import VERSIONS, floats

HERE = pathlib.Path(__file__).parent
DESK = HERE.parent.parent / "experiments" / "desk"
NAMES, CONTEXT, SEED, DRAWS, NEURONS = "abcde", 256, 2024, 8, 50
# The paper's rotations, of partner b alone.
ROTATION = {"documents": 15, "seed": 1, "draws": 8}


def rows_of_tokens(tokenizer, bos, documents=None):
    """Rows that begin with BOS, and which positions count: neither BOS nor newline."""
    newline = tokenizer.encode("\n", add_special_tokens=False)
    assert len(newline) == 1
    rows = []
    for line in (DESK / "corpus.jsonl").read_text().splitlines()[:documents]:
        ids = tokenizer.encode(json.loads(line)["text"], add_special_tokens=False)
        rows += [[bos] + ids[i:i + CONTEXT - 1] for i in range(0, len(ids), CONTEXT - 1)]
    return rows, [[t not in (bos, newline[0]) for t in row] for row in rows]


@torch.no_grad()
def activations(name, rows, counts):
    """Pre- and post-activations [tokens, neurons] and the model."""
    model = GPT2LMHeadModel.from_pretrained(DESK / name, attn_implementation="eager", dtype=torch.float32).eval()
    seen = []
    for block in model.transformer.h:
        block.mlp.c_fc.register_forward_hook(lambda m, i, o: seen.append(o[0]))
        block.mlp.act.register_forward_hook(lambda m, i, o: seen.append(o[0]))
    pre, post = [], []
    for row, count in zip(rows, counts):
        seen.clear()
        model.transformer(torch.tensor([row]))
        pre.append(torch.cat(seen[0::2], 1)[count])
        post.append(torch.cat(seen[1::2], 1)[count])
    return torch.cat(pre), torch.cat(post), model


def unit(x):
    """Centred columns of norm one, in f64."""
    x = x.double()
    x = x - x.mean(0)
    return x / x.norm(dim=0)


def best(x, y):
    """Largest correlation of each column of x (already unit) with a column of y."""
    return (x.T @ unit(y)).max(1)


def chance(x, y, partner, d, rotation=fast_rotation, seed=SEED, draws_made=DRAWS):
    """Best correlation with rotated layers, mean over draws."""
    draws = []
    for draw in range(draws_made):
        layers = [best(x, y[:, l * d:(l + 1) * d].double() @ torch.from_numpy(rotation(seed, draw, partner, l, d)).double().T).values
                  for l in range(y.shape[1] // d)]
        draws.append(torch.stack(layers).max(0).values)
    return torch.stack(draws).mean(0)


@torch.no_grad()
def weight_statistics(model, chosen, d):
    """On weights folded by hand, in f64 (paper A.1)."""
    t, rows = model.transformer, []
    center = lambda w, dim: w - w.mean(dim, keepdim=True)
    w_u = center(center(t.wte.weight.double() * t.ln_f.weight.double(), 1), 0)
    w_u = w_u / w_u.norm(dim=1, keepdim=True)
    for i in chosen:
        block, j = t.h[i // d], i % d
        w = block.mlp.c_fc.weight[:, j].double()
        w_in, w_out = center(w * block.ln_2.weight.double(), 0), center(block.mlp.c_proj.weight[j].double(), 0)
        bias = block.mlp.c_fc.bias[j].double() + w @ block.ln_2.bias.double()
        cos = (w_u @ (w_out / w_out.norm())).numpy()
        n_in, n_out = w_in.norm().item(), w_out.norm().item()
        rows.append([n_in, bias.item(), n_out, (w_in @ w_out).item() / n_in / n_out, n_in ** 2 + n_out ** 2, cos.mean(),
                     cos.var(), scipy.stats.skew(cos), scipy.stats.kurtosis(cos, fisher=False)])
    return rows


def main():
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(DESK / "a" / "tokenizer.json"))
    bos = json.loads((DESK / "a" / "config.json").read_text())["bos_token_id"]
    rows, counts = rows_of_tokens(tokenizer, bos)
    pre, post, model = activations("a", rows, counts)
    d = model.config.n_inner
    chosen = sorted(np.random.default_rng(11).choice(pre.shape[1], NEURONS, replace=False).tolist())
    x = unit(post[:, chosen])
    corr, baseline, partners = [], [], []
    for m, name in enumerate(NAMES[1:], start=1):
        _, y, _ = activations(name, rows, counts)
        found = best(x, y)
        corr.append(found.values)
        partners.append(found.indices.tolist())
        baseline.append(chance(x, y, m, d))
        print("against", name, flush=True)
    first, first_counts = rows_of_tokens(tokenizer, bos, ROTATION["documents"])
    x, y = [activations(name, first, first_counts)[1] for name in "ab"]
    rotated = chance(unit(x[:, chosen]), y, 1, d, rotation, ROTATION["seed"], ROTATION["draws"])
    corr, baseline = torch.stack(corr).numpy(), torch.stack(baseline).numpy()
    weights, table = weight_statistics(model, chosen, d), []
    for k, i in enumerate(chosen):
        v, c, b = pre[:, i].double().numpy(), corr[:, k], baseline[:, k]
        w_in, bias, w_out, sim, l2, *vocab = weights[k]
        table.append({"layer": i // d, "neuron": i % d, "partners": [p[k] for p in partners], "values": floats([
            c.max(), c.mean(), c.min(), b.max(), b.min(), b.mean(), w_in, bias, w_out, sim, l2, v.mean(), v.var(),
            scipy.stats.skew(v), scipy.stats.kurtosis(v, fisher=False), *vocab, (v > 0).mean(), c.mean() - b.mean()], 9)})
    (HERE / "desk-neurons.json").write_text(json.dumps(
        {"made_by": "recompute.py", "versions": VERSIONS, "tokens": len(pre), "neurons": table,
         "rotation": {**ROTATION, "mean_baseline": floats(rotated.numpy(), 9)}}) + "\n")


if __name__ == "__main__":
    main()
