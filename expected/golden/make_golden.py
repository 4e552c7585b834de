#!/usr/bin/env python3
"""Makes the golden numbers that the tests compare with, by programs that share
no code with this project: Transformers (eager attention), TransformerLens
(folded weights), SciPy and NumPy (statistics), a second ChaCha20 (chacha.py).

    python expected/golden/make_golden.py         from the repository's root

Needs torch, transformers, transformer_lens < 4, scipy, numpy, safetensors. Versions
used are written into each file.
"""
import json
import pathlib
import platform

import numpy as np
import scipy
import scipy.stats
import torch
import transformer_lens
import transformers
from safetensors.torch import save_file
from tiny_models import floats, tiny_model, tiny_tokenizer
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
from transformers import GPT2LMHeadModel

from chacha import normals, rotation

HERE = pathlib.Path(__file__).parent
DESK = HERE.parent.parent / "experiments" / "desk"
VERSIONS = {"python": platform.python_version(), "torch": torch.__version__.split("+")[0],
            "transformers": transformers.__version__, "scipy": scipy.__version__, "numpy": np.__version__}


def write(name, content):
    (HERE / name).write_text(json.dumps({"made_by": "make_golden.py", "versions": VERSIONS, **content}) + "\n")


def save_tiny(model, name, dtype, prefix):
    """A model folder as users have them: with or without prefix, f32 or f16, causal masks and tied head included."""
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    state = {k.removeprefix("transformer."): v.detach().to(dtype).contiguous().clone()
             for k, v in model.transformer.state_dict().items()}
    tensors = {prefix + k: v for k, v in state.items()}
    if prefix:
        tensors["lm_head.weight"] = state["wte.weight"].clone()
        tensors[prefix + "h.0.attn.bias"] = torch.tril(torch.ones(1, 1, 12, 12)).to(dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    config = {k: v for k, v in model.config.to_diff_dict().items() if k != "transformers_version"}
    config |= {"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": model.config.scale_attn_by_inverse_layer_idx,
               "layer_norm_epsilon": 1e-5, "n_positions": 12}
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    with torch.no_grad():  # what the file holds is what is run
        for k, p in model.transformer.named_parameters():
            p.copy_(state[k].float())


@torch.no_grad()
def activations(model, rows):
    """Pre- and post-activations [layer][row] and logits of rows of ids, one row at a time."""
    pre, post, logits = [], [], []
    for block in model.transformer.h:
        block.mlp.c_fc.register_forward_hook(lambda m, i, o: pre.append(o[0]))
        block.mlp.act.register_forward_hook(lambda m, i, o: post.append(o[0]))
    for row in rows:
        logits.append(model(torch.tensor([row])).logits[0])
    layers = len(model.transformer.h)
    by_layer = lambda flat: [[flat[r * layers + l] for r in range(len(rows))] for l in range(layers)]
    return by_layer(pre), by_layer(post), logits


def golden_forward(name, model, rows):
    pre, post, logits = activations(model, rows)
    flat = lambda by_layer: [floats(torch.cat(layer)) for layer in by_layer]
    write(f"{name}.json", {"rows": rows, "hook_pre": flat(pre), "hook_post": flat(post),
                           "logits": floats(torch.cat(logits))})


@torch.no_grad()
def golden_folded(model):
    """Weights after preprocessing by TransformerLens, and statistics of them in f64."""
    c = model.config
    shape = dict(n_layers=c.n_layer, d_model=c.n_embd, n_ctx=c.n_positions, d_head=c.n_embd // c.n_head,
                 n_heads=c.n_head, d_mlp=c.n_inner, d_vocab=c.vocab_size, act_fn="gelu_new",
                 normalization_type="LN", scale_attn_by_inverse_layer_idx=c.scale_attn_by_inverse_layer_idx)
    lens = HookedTransformer(HookedTransformerConfig(**shape))
    state = convert_gpt2_weights(model, lens.cfg)
    lens.load_and_process_state_dict(state, fold_ln=True, center_writing_weights=True, center_unembed=True)
    folded, stats = [], []
    unembed = lens.W_U.double().numpy()
    for l in range(c.n_layer):
        w_in, w_out = lens.W_in[l].double().numpy(), lens.W_out[l].double().numpy()
        folded.append({"w_in": floats(w_in), "b_in": floats(lens.b_in[l]), "w_out": floats(w_out), "b_out": floats(lens.b_out[l])})
        for j in range(c.n_inner):
            i, o = w_in[:, j], w_out[j]
            cos = (unembed / np.linalg.norm(unembed, axis=0)).T @ (o / np.linalg.norm(o))
            stats.append(floats([np.linalg.norm(i), float(lens.b_in[l][j]), np.linalg.norm(o),
                                 i @ o / np.linalg.norm(i) / np.linalg.norm(o), cos.mean(), cos.var(),
                                 scipy.stats.skew(cos), scipy.stats.kurtosis(cos, fisher=False)], 9))
    write("tiny-folded.json", {"transformer_lens": getattr(transformer_lens, "__version__", "3"),
                               "layers": folded, "w_u": floats(lens.W_U), "b_u": floats(lens.b_U),
                               "columns": ["w_in_norm", "input_bias", "w_out_norm", "in_out_sim", "vocab_mean",
                                           "vocab_var", "vocab_skew", "vocab_kurt"], "statistics": stats})


def golden_statistics():
    """SciPy and NumPy on series of several shapes; ties and a heavy tail among them."""
    g = np.random.default_rng(5)
    series = {"normal": g.normal(size=60), "skewed": g.exponential(2.0, 60) - 1, "ties": g.integers(-3, 4, 60) / 2,
              "far": 1e3 + g.normal(size=60), "wide": g.standard_t(2, 60) * 6}
    # What is stored is what is measured: f32 values, as activations are.
    series = {k: v.astype(np.float32).astype(np.float64) for k, v in series.items()}
    edges = np.linspace(-10, 15, 256)
    # Each of the 257 bins (the outer two are open) stands for its centre.
    centres = np.append(edges - (edges[1] - edges[0]) / 2, edges[-1] + (edges[1] - edges[0]) / 2)
    out = {}
    for name, x in series.items():
        binned = centres[np.searchsorted(edges, x, side="left")]
        shape = lambda v: [scipy.stats.skew(v), scipy.stats.kurtosis(v, fisher=False)] if v.var() > 1e-9 else [0.0, 0.0]
        moments = lambda v: [v.mean(), v.var(), *shape(v)]
        out[name] = {"values": x.tolist(), "moments": moments(x), "binned": moments(binned),
                     "above_zero": float((x > 0).mean()),
                     "ranks": [scipy.stats.percentileofscore(x, v, kind="rank") for v in x],
                     "median": float(np.median(x))}
    x = np.array(list(series.values()))
    rho = [[scipy.stats.pearsonr(a, b).statistic for b in x] for a in x]
    write("statistics.json", {"series": out, "pearson": rho})


def golden_random():
    write("random.json", {"seed": 2024, "stream": 3 << 32 | 2 << 16 | 1, "normals": normals(2024, 0, 3 << 32 | 2 << 16 | 1, 40).tolist(),
                          "rotation": {"draw": 1, "partner": 4, "layer": 2, "d": 5,
                                       "rows": rotation(2024, 1, 4, 2, 5).ravel().tolist()}})


def population(layers=12, d_mlp=3072):
    """A table of a model's shape, from a formula that the tests repeat: column c
    of row r is a hash of both as a fraction of 2^32; mean_baseline is a third of it."""
    columns = ["mean_corr", "mean_baseline", "skew", "kurt", "input_bias", "l2_penalty", "sparsity", "vocab_kurt",
               "in_out_sim", "mean"]
    rows = np.arange(layers * d_mlp, dtype=np.uint64)
    table = {}
    for c, name in enumerate(columns):
        h = (rows * np.uint64(7919) + np.uint64(104729 * c + 12345)) * np.uint64(2654435761) % np.uint64(1 << 32)
        table[name] = h.astype(np.float64) / 2.0 ** 32
    table["mean_baseline"] /= 3
    # Ties, and properties that go with the excess.
    table["kurt"] = np.floor(table["kurt"] * 50)
    table["skew"] = table["skew"] + table["mean_corr"]
    return table, rows // np.uint64(d_mlp)


def golden_population():
    """Medians of within-layer percentiles over universal and other neurons, by SciPy."""
    table, layer = population()
    universal = table["mean_corr"] - table["mean_baseline"] > 0.5
    medians = {}
    for name in ["skew", "kurt", "input_bias", "l2_penalty", "sparsity", "vocab_kurt", "in_out_sim", "mean"]:
        ranks = np.concatenate([scipy.stats.percentileofscore(v, v, kind="rank")
                                for v in (table[name][layer == l] for l in range(12))])
        medians[name] = [float(np.median(ranks[universal])), float(np.median(ranks[~universal]))]
    write("population.json", {"universal": int(universal.sum()), "medians": medians})


@torch.no_grad()
def golden_desk(text, tokens=24, columns=12):
    """Desk seed a on the first tokens of one sample: some neurons of each layer, the last logits."""
    model = GPT2LMHeadModel.from_pretrained(DESK / "a", attn_implementation="eager", dtype=torch.float32).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(DESK / "a" / "tokenizer.json"))
    row = ([model.config.bos_token_id] + tokenizer.encode(text, add_special_tokens=False))[:tokens]
    pre, post, logits = activations(model, [row])
    chosen = np.random.default_rng(1).choice(model.config.n_inner, columns, replace=False).tolist()
    pick = lambda by_layer: [floats(layer[0][:, chosen]) for layer in by_layer]
    write("desk-a.json", {"text": text, "row": row, "neurons": chosen, "hook_pre": pick(pre), "hook_post": pick(post),
                          "logits": floats(logits[0][-1])})


def main():
    rows = [[31, 4, 7, 7, 0, 30, 12, 19, 2, 5, 11, 3], [31, 8, 1], [31, 31, 16, 9, 20, 25, 14]]
    for name, inverse_layer, dtype, prefix in [("tiny", True, torch.float32, ""), ("tiny-prefixed", False, torch.float16, "transformer.")]:
        model = tiny_model(inverse_layer, seed=7 if inverse_layer else 8)
        save_tiny(model, name, dtype, prefix)
        golden_forward(name, model, rows)
        if inverse_layer:
            golden_folded(model)
    golden_statistics()
    golden_random()
    golden_population()
    golden_desk(json.loads((DESK / "corpus.jsonl").read_text().splitlines()[0])["text"])


if __name__ == "__main__":
    main()
