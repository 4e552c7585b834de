#!/usr/bin/env python3
"""Writes five models of GPT-2 small's shape in which every neuron of the first has a
planted partner in the others, a corpus, and a screened spec for each precision.
Nothing here is trained: this is for timing.

    python benches/peer/planted.py FOLDER
    cargo run --release -- run FOLDER/screened-bf16.yaml

Model b is model a with the neurons of each layer in another order and a little noise
on their input weights; c, d and e likewise. Needs torch and safetensors.
"""
import json
import pathlib
import random
import shutil
import sys

import torch
from safetensors.torch import save_file

LAYERS, D_MODEL, D_MLP, HEADS, CONTEXT, VOCAB = 12, 768, 3072, 12, 256, 2048
TOKENS, NOISE = 65_536, 0.001
DESK = pathlib.Path(__file__).parents[2] / "experiments" / "desk"

SPEC = """version: 1
name: planted
kind: universality
question: What does screening cost beside the forward passes?
source: none; a measurement of time
models:
  reference: a
  family:
{family}
corpus: {{ path: corpus.jsonl, context: {context}, tokenisation: per_doc, exclude: [] }}
correlation:
  baseline: {{ kind: rotation, draws: 1, seed: 1 }}
  threshold: 0.15
  also_report: []
  precision: {precision}
  screen: {{ sample: {sample}, candidates: 16 }}
batch: {{ tokens: 4096, memory_gib: 16 }}
"""


def normal(*shape):
    return torch.randn(*shape) * 0.02


def reference():
    model = {"wte.weight": normal(VOCAB, D_MODEL), "wpe.weight": normal(CONTEXT, D_MODEL)}
    linear = {
        "attn.c_attn": (D_MODEL, 3 * D_MODEL),
        "attn.c_proj": (D_MODEL, D_MODEL),
        "mlp.c_fc": (D_MODEL, D_MLP),
        "mlp.c_proj": (D_MLP, D_MODEL),
    }
    norms = [f"h.{i}.ln_{n}" for i in range(LAYERS) for n in (1, 2)] + ["ln_f"]
    for name in norms:
        model |= {f"{name}.weight": torch.ones(D_MODEL), f"{name}.bias": torch.zeros(D_MODEL)}
    for i in range(LAYERS):
        for name, shape in linear.items():
            model[f"h.{i}.{name}.weight"] = normal(*shape)
            model[f"h.{i}.{name}.bias"] = torch.zeros(shape[1])
    return model


def twin(model):
    model = dict(model)
    for i in range(LAYERS):
        order = torch.randperm(D_MLP)
        w_in, w_out = f"h.{i}.mlp.c_fc.weight", f"h.{i}.mlp.c_proj.weight"
        noise = torch.randn(D_MODEL, D_MLP) * NOISE
        model[w_in] = (model[w_in][:, order] + noise).contiguous()
        model[w_out] = model[w_out][order].contiguous()
    return model


def write_model(folder, model):
    folder.mkdir(parents=True, exist_ok=True)
    config = json.loads((DESK / "a" / "config.json").read_text())
    config |= {"n_embd": D_MODEL, "n_head": HEADS, "n_inner": D_MLP, "n_layer": LAYERS}
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(DESK / "a" / "tokenizer.json", folder)
    save_file({name: tensor.half() for name, tensor in model.items()}, folder / "model.safetensors")


def write_corpus(path):
    """Words of the bundled corpus in random order, in lines that fill a context."""
    words = [w for line in (DESK / "corpus.jsonl").open() for w in json.loads(line)["text"].split()]
    with path.open("w") as out:
        # A word is 2.4 tokens of the bundled tokenizer.
        for i in range(int(TOKENS / 2.4) // CONTEXT):
            text = " ".join(random.choices(words, k=CONTEXT))
            out.write(json.dumps({"id": f"line-{i}", "domain": "random", "text": text}) + "\n")


def main():
    folder = pathlib.Path(sys.argv[1])
    torch.manual_seed(1)
    random.seed(1)
    model = reference()
    for name in "abcde":
        write_model(folder / name, model if name == "a" else twin(model))
    write_corpus(folder / "corpus.jsonl")
    family = "\n".join(f"    - {{ name: {name}, path: {name} }}" for name in "abcde")
    for precision in ("f32", "bf16"):
        spec = SPEC.format(family=family, context=CONTEXT, precision=precision, sample=2048)
        (folder / f"screened-{precision}.yaml").write_text(spec)


if __name__ == "__main__":
    main()
