"""Activations that TransformerLens computes, as a recording of this program.

    pip install transformer_lens==1.19.0 "transformers<5" "torch<2.5" typeguard
    python expected/golden/tl_activations.py                               writes expected/golden/tl
    python expected/golden/tl_activations.py MODEL CORPUS CONTEXT OUT      records a model on a text

The tokens are those of `tokenisation: per_doc`: every document begins a row with the token at the
beginning of a sequence, and continues in further rows. `mask` leaves out these tokens and newlines.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformer_lens import HookedTransformer, HookedTransformerConfig
from transformers import GPT2LMHeadModel

try:
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
except ModuleNotFoundError:  # before version 2
    from transformer_lens.loading_from_pretrained import convert_gpt2_weights

HERE = pathlib.Path(__file__).parent


def load(folder):
    """A model in the form of TransformerLens, with its weights as they are."""
    hf = GPT2LMHeadModel.from_pretrained(folder, attn_implementation="eager").float()
    c = hf.config
    lens = HookedTransformer(HookedTransformerConfig(
        n_layers=c.n_layer, d_model=c.n_embd, n_ctx=c.n_positions, d_head=c.n_embd // c.n_head,
        n_heads=c.n_head, d_mlp=c.n_inner, d_vocab=c.vocab_size, act_fn="gelu_new",
        normalization_type="LN", scale_attn_by_inverse_layer_idx=c.scale_attn_by_inverse_layer_idx,
    ))
    lens.load_state_dict(convert_gpt2_weights(hf, lens.cfg), strict=False)
    return lens.eval()


def rows_of(folder, corpus, context):
    """The rows of token ids, and the number of each row's document."""
    tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    bos = json.loads((pathlib.Path(folder) / "config.json").read_text())["bos_token_id"]
    rows, documents = [], []
    for number, line in enumerate(pathlib.Path(corpus).read_text().splitlines()):
        ids = tokenizer.encode(json.loads(line)["text"], add_special_tokens=False).ids
        for start in range(0, len(ids), context - 1):
            rows.append([bos, *ids[start:start + context - 1]])
            documents.append(number)
    return rows, documents, [bos, *tokenizer.encode("\n").ids]


@torch.no_grad()
def record(folder, corpus, context, out):
    model = load(folder)
    rows, documents, excluded = rows_of(folder, corpus, context)
    parts = {}
    for row in rows:
        tokens = torch.tensor([row])
        _, cache = model.run_with_cache(
            tokens, names_filter=lambda n: n.endswith(("mlp.hook_pre", "mlp.hook_post")))
        for name, values in cache.items():
            parts.setdefault(name, []).append(values.flatten(0, -2))
    ids = torch.tensor([i for row in rows for i in row])
    numbers = torch.tensor([d for row, d in zip(rows, documents) for _ in row], dtype=torch.int32)
    tensors = {name: torch.cat(values).contiguous() for name, values in parts.items()}
    mask = ~torch.isin(ids, torch.tensor(excluded))
    save_file({**tensors, "mask": mask, "documents": numbers}, out)


def main():
    if len(sys.argv) == 5:
        record(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        (HERE / "tl").mkdir(exist_ok=True)
        words = ["the quick", " brown fox,", " jumps", " over.", " the lazy", " dog!", "\n"]
        texts = ["".join(words[(3 * i + j * j) % 7] for j in range(2 + i % 3)) for i in range(6)]
        lines = [json.dumps({"id": str(i), "text": text}) + "\n" for i, text in enumerate(texts)]
        (HERE / "tl/corpus.jsonl").write_text("".join(lines))
        for name in ["tiny", "tiny-prefixed"]:
            record(HERE / name, HERE / "tl/corpus.jsonl", 12, HERE / f"tl/{name}.safetensors")


if __name__ == "__main__":
    main()
