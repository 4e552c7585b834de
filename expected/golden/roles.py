#!/usr/bin/env python3
"""Interventions on desk seed a, recomputed with Transformers on its first 8 samples:
written to roles.json, for tests/experiments.rs.

Needs torch, transformers, tokenizers.
"""
import json
import pathlib

import torch
import transformers
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel

ROOT = pathlib.Path(__file__).parents[2]
DESK = ROOT / "experiments" / "desk"
CONTEXT, SAMPLES = 256, 8


def rows(tokenizer, bos):
    for line in list((DESK / "corpus.jsonl").open())[:SAMPLES]:
        ids = tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids
        for start in range(0, len(ids), CONTEXT - 1):
            yield torch.tensor([[bos, *ids[start : start + CONTEXT - 1]]])


class Changed:
    """Changes post-activations of layers by functions of [tokens, d_mlp]."""

    def __init__(self, model, changes):
        self.handles = [
            model.transformer.h[layer].mlp.act.register_forward_hook(lambda m, i, o, f=f: f(o))
            for layer, f in changes.items()
        ]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        [handle.remove() for handle in self.handles]


def predictions(model, ids):
    out = model(ids, output_hidden_states=True)
    # The last hidden state of Transformers is behind ln_f, so its input is taken by a hook.
    log_p = out.logits[0, :-1].double().log_softmax(-1)
    resid = model.seen[0, :-1].double()
    scale = (resid.var(-1, unbiased=False) + model.config.layer_norm_epsilon).sqrt()
    next_p = log_p.gather(1, ids[0, 1:, None])
    rank = (log_p > next_p).sum(-1) + 1
    entropy = -(log_p.exp() * log_p).sum(-1)
    return log_p, {"entropy": entropy, "loss": -next_p[:, 0], "reciprocal_rank": 1 / rank.double(), "scale": scale}


def column(values, of):
    def change(post):
        post = post.clone()
        post[..., of] = values
        return post

    return change


def head_of(model, resid, layer, head, removed):
    """BOS attention and output norm of destinations in the second half of a row, the
    query reading `resid - removed`, and the norm that each token's value offers."""
    block, config = model.transformer.h[layer], model.config
    d, n = config.n_embd, config.n_embd // config.n_head
    part = lambda which: slice(which * d + head * n, which * d + (head + 1) * n)
    w, b = block.attn.c_attn.weight.double(), block.attn.c_attn.bias.double()
    norm = lambda x: torch.nn.functional.layer_norm(
        x, (d,), block.ln_1.weight.double(), block.ln_1.bias.double(), config.layer_norm_epsilon)
    read = lambda x, which: norm(x) @ w[:, part(which)] + b[part(which)]
    q, k, v = read(resid - removed, 0), read(resid, 1), read(resid, 2)
    scores = q @ k.T / n**0.5
    if config.scale_attn_by_inverse_layer_idx:
        scores = scores / (layer + 1)
    tokens = len(resid)
    scores = scores.masked_fill(torch.ones(tokens, tokens).triu(1).bool(), -torch.inf)
    pattern = scores.softmax(-1)
    w_o = block.attn.c_proj.weight.double()[head * n : (head + 1) * n]
    out = (pattern @ v @ w_o).norm(dim=-1)
    half = tokens // 2
    return pattern[half:, 0], out[half:], (v @ w_o).norm(dim=-1)


def main():
    tokenizer = Tokenizer.from_file(str(DESK / "a" / "tokenizer.json"))
    model = GPT2LMHeadModel.from_pretrained(DESK / "a", attn_implementation="eager").float().eval()
    model.transformer.ln_f.register_forward_pre_hook(lambda m, i: setattr(model, "seen", i[0]))
    resid, post = {}, {}
    for layer, block in enumerate(model.transformer.h):
        block.register_forward_pre_hook(lambda m, i, layer=layer: resid.__setitem__(layer, i[0][0].double()))
        block.mlp.act.register_forward_hook(lambda m, i, o, layer=layer: post.__setitem__(layer, o[0].double()))
    every_tenth = {layer: column(0.0, [j for j in range(1024) if (layer * 1024 + j) % 10 == 0]) for layer in range(3)}
    n = loss = kl = 0.0
    fixed = {"entropy": 0.0, "loss": 0.0, "reciprocal_rank": 0.0, "scale": 0.0}
    path = {"bos_attention_change": 0.0, "output_norm_change": 0.0}
    heads = {"norm_first": 0.0, "norm_others": 0.0, "bos_attention": 0.0}
    destinations = first = others = 0
    with torch.no_grad():
        for ids in rows(tokenizer, model.config.bos_token_id):
            clean_p, clean = predictions(model, ids)
            n += len(clean_p)
            r, a = resid[1], post[0][:, 942]
            w_out = model.transformer.h[0].mlp.c_proj.weight[942].double()
            bos, norm, offers = head_of(model, r, 1, 0, 0.0)
            bos_less, norm_less, _ = head_of(model, r, 1, 0, a[:, None] * w_out)
            path["bos_attention_change"] += (bos_less - bos).sum().item()
            path["output_norm_change"] += (norm_less - norm).sum().item()
            destinations += len(bos)
            heads["norm_first"] += offers[0].item()
            heads["norm_others"] += offers[1:].sum().item()
            heads["bos_attention"] += bos.sum().item()
            first, others = first + 1, others + len(offers) - 1
            with Changed(model, every_tenth):
                p, ablated = predictions(model, ids)
            loss += (ablated["loss"] - clean["loss"]).sum().item()
            kl += (clean_p.exp() * (clean_p - p)).sum().item()
            with Changed(model, {2: column(4.0, [970])}):
                _, changed = predictions(model, ids)
            for name in fixed:
                fixed[name] += changed[name].sum().item()
    made = f"expected/golden/roles.py, torch {torch.__version__}, transformers {transformers.__version__}"
    found = {
        "source": made,
        "ablation": {"what": "every tenth neuron is zero", "loss": loss / n, "kl": kl / n},
        "entropy": {"what": "L2.N970 is 4", **{name: value / n for name, value in fixed.items()}},
        "attention": {"what": "L0.N942 out of the query of L1.H0",
                      **{name: value / destinations for name, value in path.items()}},
        "heads": {"what": "L1.H0", "norm_first": heads["norm_first"] / first,
                  "norm_others": heads["norm_others"] / others,
                  "bos_attention": heads["bos_attention"] / destinations},
    }
    (ROOT / "expected" / "golden" / "roles.json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
