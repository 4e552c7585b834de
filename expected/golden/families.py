#!/usr/bin/env python3
"""Reductions in variance (eq. 4) of some neurons of desk seed a, recomputed with
Transformers and NumPy: written to families.json, for tests/experiments.rs.

Needs torch, transformers, tokenizers, numpy.
"""
import json
import pathlib
import re

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

ROOT = pathlib.Path(__file__).parents[2]
DESK = ROOT / "experiments" / "desk"
CONTEXT = 256
# Layer, neuron, and what is asked: of the token, or of the one before it.
CASES = [
    (1, 753, "letter m", r"(?i)^ ?m$", 0),
    (0, 192, "contains .", r"\.", 0),
    (1, 954, "a digit", r"[0-9]", 0),
    (0, 112, "contains ,", r",", 0),
    (0, 960, "previous: beyond ASCII", r"[^\x00-\x7F]", 1),
]


def main():
    tokenizer = Tokenizer.from_file(str(DESK / "a" / "tokenizer.json"))
    model = GPT2LMHeadModel.from_pretrained(DESK / "a", attn_implementation="eager").float().eval()
    post = {}
    for layer, block in enumerate(model.transformer.h):
        block.mlp.act.register_forward_hook(lambda m, i, o, layer=layer: post.__setitem__(layer, o[0]))
    bos = model.config.bos_token_id
    newline = tokenizer.encode("\n", add_special_tokens=False).ids
    assert len(newline) == 1
    values, tokens, previous = {case: [] for case in CASES}, [], []
    for line in (DESK / "corpus.jsonl").open():
        ids = tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids
        for start in range(0, len(ids), CONTEXT - 1):
            row = [bos, *ids[start : start + CONTEXT - 1]]
            with torch.no_grad():
                model(torch.tensor([row]))
            keep = [p for p, id in enumerate(row) if id not in (bos, newline[0])]
            tokens += [row[p] for p in keep]
            previous += [row[p - 1] if p > 1 else -1 for p in keep]
            for case in CASES:
                values[case].append(post[case[0]][keep, case[1]].numpy().astype(np.float64))
    text = [tokenizer.decode([i], skip_special_tokens=False) for i in range(model.config.vocab_size)]
    cases = []
    for case in CASES:
        layer, neuron, name, pattern, back = case
        yes = {i for i, t in enumerate(text) if re.search(pattern, t)}
        ids = np.array(previous if back else tokens)
        v, known = np.concatenate(values[case]), ids >= 0
        v, y = v[known], np.isin(ids[known], list(yes))
        beta = y.mean()
        reduction = 1 - ((1 - beta) * v[~y].var() + beta * v[y].var()) / v.var()
        cases.append({"layer": layer, "neuron": neuron, "test": name, "reduction": reduction,
                      "difference": v[y].mean() - v[~y].mean(), "support": int(y.sum())})
    made = f"expected/golden/families.py, torch {torch.__version__}, transformers {transformers.__version__}"
    out = ROOT / "expected" / "golden" / "families.json"
    out.write_text(json.dumps({"source": made, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
