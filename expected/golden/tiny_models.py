"""Tiny random models and their tokenizer, for the scripts that make golden numbers."""
import string

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel


def floats(tensor, digits=7):
    """A flat list, rounded to the digits that f32 has."""
    return [float(f"{v:.{digits}g}") for v in np.asarray(tensor, dtype=np.float64).ravel()]


def tiny_config(inverse_layer):
    return GPT2Config(vocab_size=32, n_positions=12, n_embd=16, n_layer=2, n_head=2, n_inner=40,
                      activation_function="gelu_new", bos_token_id=31, eos_token_id=31,
                      scale_attn_by_inverse_layer_idx=inverse_layer, reorder_and_upcast_attn=inverse_layer,
                      resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager")


def tiny_model(inverse_layer, seed):
    """Random weights, gains and biases too, large enough that every part matters."""
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(tiny_config(inverse_layer)).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            gain = "ln_" in name and name.endswith("weight")
            p.copy_((1.0 if gain else 0.0) + 0.3 * torch.randn_like(p))
    return model


def tiny_tokenizer():
    """Letters, space, newline and a little punctuation: 31 tokens and the end-of-text token."""
    symbols = ["\u0120", "\u010a", *string.ascii_lowercase, ".", ",", "!"]
    tokenizer = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(symbols)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    return tokenizer
