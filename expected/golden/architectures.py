#!/usr/bin/env python3
"""Tiny random models of every architecture and file format that the program reads, written
by Transformers and PyTorch, and what they compute (eager attention): golden numbers for
tests/architectures.rs.

    python expected/golden/architectures.py         from the repository's root

Needs torch, transformers, tokenizers, safetensors, numpy.
"""
import json
import pathlib

import torch
import transformers
from safetensors.torch import save_file
from tiny_models import floats, tiny_model, tiny_tokenizer
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

HERE = pathlib.Path(__file__).parent
ROWS = [[31, 3, 7, 1, 9, 12, 30], [31, 5, 5, 2], [31, 8, 0, 11, 4, 20, 21, 22, 23, 24, 25, 26]]
MADE = f"expected/golden/architectures.py, torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}"


def neox(parallel, rotary, dtype, seed):
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=40,
        max_position_embeddings=12, hidden_act="gelu", bos_token_id=31, eos_token_id=31, layer_norm_eps=1e-5,
        use_parallel_residual=parallel, tie_word_embeddings=False, hidden_dropout=0.0, attention_dropout=0.0,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": rotary})
    config._attn_implementation = "eager"
    model = GPTNeoXForCausalLM(config).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            gain = "norm" in name and name.endswith("weight")
            p.copy_(((1.0 if gain else 0.0) + 0.3 * torch.randn_like(p)).to(dtype).float())
    return model


def neox_config(model, rotary):
    """config.json as Pythia's repositories have it."""
    c = model.config
    return {"architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "bos_token_id": 31, "eos_token_id": 31,
            "hidden_act": "gelu", "hidden_size": c.hidden_size, "initializer_range": 0.02,
            "intermediate_size": c.intermediate_size, "layer_norm_eps": 1e-5,
            "max_position_embeddings": c.max_position_embeddings, "num_attention_heads": c.num_attention_heads,
            "num_hidden_layers": c.num_hidden_layers, "rotary_emb_base": 10000, "rotary_pct": rotary,
            "tie_word_embeddings": False, "torch_dtype": "float16", "use_cache": True,
            "use_parallel_residual": c.use_parallel_residual, "vocab_size": c.vocab_size}


@torch.no_grad()
def golden(name, model, blocks):
    """Pre- and post-activations by layer, and logits."""
    pre, post, logits = {}, {}, []
    for layer, (before, act) in enumerate(blocks):
        before.register_forward_hook(lambda m, i, o, l=layer: pre.setdefault(l, []).append(o[0]))
        act.register_forward_hook(lambda m, i, o, l=layer: post.setdefault(l, []).append(o[0]))
    for row in ROWS:
        logits.append(model(torch.tensor([row])).logits[0])
    flat = lambda by: [floats(torch.cat(by[l])) for l in range(len(blocks))]
    out = {"made_by": MADE, "rows": ROWS, "hook_pre": flat(pre), "hook_post": flat(post), "logits": floats(torch.cat(logits))}
    (HERE / f"{name}.json").write_text(json.dumps(out) + "\n")


def folder_of(name, config):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def masks(state, prefix, layers):
    """The causal masks and constants that old checkpoints hold beside the weights."""
    for l in range(layers):
        state[f"{prefix}.{l}.attention.bias"] = torch.tril(torch.ones(1, 1, 12, 12, dtype=torch.uint8))
        state[f"{prefix}.{l}.attention.masked_bias"] = torch.tensor(-1e9)
        state[f"{prefix}.{l}.attention.rotary_emb.inv_freq"] = torch.ones(1)


def as_pythia(state):
    """The name of the unembedding in Pythia's repositories."""
    state = dict(state)
    state["embed_out.weight"] = state.pop("lm_head.weight")
    return state


def write_neox():
    # As Pythia: parallel residual, a quarter of the head rotated; one file of safetensors.
    model = neox(True, 0.25, torch.float32, 5)
    folder = folder_of("neox", neox_config(model, 0.25))
    save_file({k: v.contiguous() for k, v in as_pythia(model.state_dict()).items()}, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)
    golden("neox", model, [(l.mlp.dense_h_to_4h, l.mlp.act) for l in model.gpt_neox.layers])
    # One after the other, all of the head rotated, f16, in two shards with an index.
    model = neox(False, 1.0, torch.float16, 6)
    folder = folder_of("neox-sharded", neox_config(model, 1.0))
    state = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    names = sorted(state)
    shards = [names[: len(names) // 2], names[len(names) // 2 :]]
    where = {}
    for i, part in enumerate(shards):
        file = f"model-{i + 1:05}-of-00002.safetensors"
        save_file({k: state[k] for k in part}, folder / file)
        (folder / file).chmod(0o644)
        where |= {k: file for k in part}
    index = {"metadata": {"total_size": sum(v.numel() * 2 for v in state.values())}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1, sort_keys=True) + "\n")
    golden("neox-sharded", model, [(l.mlp.dense_h_to_4h, l.mlp.act) for l in model.gpt_neox.layers])


def write_bins():
    # As the Stanford models: GPT-2 with both attention flags, pytorch_model.bin in f16, masks as bytes.
    model = tiny_model(True, 7)
    state = {k: v.half() for k, v in model.state_dict().items()}
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(p.half().float())
    for l in range(2):
        state[f"transformer.h.{l}.attn.bias"] = torch.tril(torch.ones(1, 1, 12, 12, dtype=torch.uint8))
        state[f"transformer.h.{l}.attn.masked_bias"] = torch.tensor(-1e4).half()
    state["lm_head.weight"] = state["transformer.wte.weight"]  # tied: the same storage
    config = json.loads((HERE / "tiny" / "config.json").read_text())
    folder = folder_of("gpt2-bin", config | {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True})
    torch.save(state, folder / "pytorch_model.bin")
    golden("gpt2-bin", model, [(b.mlp.c_fc, b.mlp.act) for b in model.transformer.h])
    # As Pythia's older files: masks and constants beside the weights, a view with an offset.
    model = neox(True, 0.25, torch.float32, 8)
    state = as_pythia({k: v.clone() for k, v in model.state_dict().items()})
    both = torch.cat([state["gpt_neox.final_layer_norm.weight"], state["gpt_neox.final_layer_norm.bias"]])
    state["gpt_neox.final_layer_norm.weight"], state["gpt_neox.final_layer_norm.bias"] = both[:16], both[16:]
    masks(state, "gpt_neox.layers", 2)
    folder = folder_of("neox-bin", neox_config(model, 0.25))
    torch.save(state, folder / "pytorch_model.bin")
    golden("neox-bin", model, [(l.mlp.dense_h_to_4h, l.mlp.act) for l in model.gpt_neox.layers])


if __name__ == "__main__":
    write_neox()
    write_bins()
