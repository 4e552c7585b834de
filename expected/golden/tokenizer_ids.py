"""Token ids of odd texts, by the Python library, for tokenizers of several forms.

Writes tokenizer-ids.json. Each form is the tokenizer of experiments/desk/a with some members
replaced, as the named program writes them; `texts` are repeated `times` times and followed
by `end`. Long lists of ids are kept as their number and SHA-256 (of little-endian u32).

    pip install tokenizers==0.23.3 && python expected/golden/tokenizer_ids.py
"""

import copy
import hashlib
import json
import struct
from pathlib import Path

import tokenizers

HERE = Path(__file__).parent
BASE = json.loads((HERE / "../../experiments/desk/a/tokenizer.json").read_text(encoding="utf-8"))


def added(token_id, content, special, normalized):
    flags = {"single_word": False, "lstrip": False, "rstrip": False}
    return {"id": token_id, "content": content, **flags, "normalized": normalized, "special": special}


def byte_level(prefix, trim, **more):
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": trim, **more}


END = "<|endoftext|>"
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [{"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {},
}
WITH_BOS = copy.deepcopy(TEMPLATE)
WITH_BOS["single"].insert(0, {"SpecialToken": {"id": END, "type_id": 0}})
WITH_BOS["special_tokens"] = {END: {"id": END, "ids": [2047], "tokens": [END]}}
AFFIXES = {"continuing_subword_prefix": "", "end_of_word_suffix": ""}
GPT2 = {
    "post_processor": byte_level(True, False, use_regex=True),
    "decoder": byte_level(True, True, use_regex=True),
    "model": AFFIXES,
}
FORMS = {
    "bundled": {},
    # GPT2TokenizerFast.save_pretrained of transformers 4.30, whose vocabulary has the token.
    "transformers-4.30": GPT2 | {"added_tokens": [], "vocab": {END: 2047}},
    "transformers-4.57": GPT2 | {"added_tokens": [added(2047, END, True, True)], "vocab": {END: 2047}},
    "transformers-5.0": GPT2 | {"post_processor": TEMPLATE},
    "with-bos": GPT2 | {"post_processor": WITH_BOS},
    "with-padding-token": GPT2
    | {"added_tokens": [added(2047, END, True, False), added(2048, "[PAD]", True, False)]},
    # The layout of Pythia's file: NFC, and runs of spaces as added tokens.
    "pythia": {
        "added_tokens": [added(2047, END, True, False)]
        + [added(2048 + i, " " * (24 - i), False, True) for i in range(23)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": byte_level(False, True),
        "post_processor": byte_level(False, True),
        "decoder": byte_level(False, True),
    },
}
TEXTS = [
    ("", 1, ""),
    ("The quick brown fox, as they'd said, didn't jump: it's 3.14 (or 1,000)!\n\n", 1, ""),
    ("def f(x):\n    if x  ==   1:\n\t\treturn 'ab' + \"cd\"  \n", 1, "  "),
    ("one<|endoftext|>two <|endoftext|>  three<|endoftext|", 1, ">"),
    ("e\u0301 \u00e9 A\u030a \u212b \u2126 \u0958 \ufb1d \U0001d15e q\u0307\u0323", 1, ""),
    ("\u65e5\u672c\u8a9e\u3002\u4e2d\u6587\uff0c\ud55c\uad6d\uc5b4! \u0e44\u0e17\u0e22 \u0939\u093f\u0928\u094d\u0926\u0940", 1, ""),
    ("\U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea \u2764\ufe0f", 1, ""),
    ("\u00a0\u2003\u3000\u0085\u200b\ufeff\x00\x01\x1f\x7f\x0b\x0c\r\n", 1, "x"),
    ("[PAD] a[PAD]b  [PAD]\u1fef\u037e\u212a", 1, ""),
    # Longer than a piece, so that the program cuts them.
    ("The quick brown fox, as they'd said, didn't jump: it's 3.14 (or 1,000)!\n\n", 3000, ""),
    ("a1B+'s22'll,c3d[4]", 9000, ""),
    ("\u65e5\u672c\u8a9e\u3002\u4e2d\u6587\uff0ce\u0301\ud55c\uad6d\uc5b4", 9000, ""),
    ("one<|endoftext|>two  three   <|endoftext|>", 5000, ""),
    ("e\u0301\u0323 \u0958\u00a0\u2003 <\u0338 ", 9000, ""),
    (" ", 300000, "x y"),
    ("abcdefg", 60000, ""),
]


def tokenizer(form):
    file = copy.deepcopy(BASE)
    form = dict(form)
    file["model"] |= form.pop("model", {})
    file["model"]["vocab"] |= form.pop("vocab", {})
    return tokenizers.Tokenizer.from_str(json.dumps(file | form))


def kept(ids):
    if len(ids) <= 100:
        return {"ids": ids}
    digest = hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()
    return {"count": len(ids), "sha256": digest}


def main():
    texts = [{"text": text, "times": times, "end": end} for text, times, end in TEXTS]
    forms = []
    for name, form in FORMS.items():
        made = tokenizer(form)
        ids = [made.encode(text * times + end, add_special_tokens=False).ids for text, times, end in TEXTS]
        forms.append({"name": name, "members": form, "ids": [kept(i) for i in ids]})
    version = f"tokenizers {tokenizers.__version__}"
    out = {"provenance": f"expected/golden/tokenizer_ids.py, {version}", "texts": texts, "forms": forms}
    (HERE / "tokenizer-ids.json").write_text(json.dumps(out, indent=1) + "\n")


if __name__ == "__main__":
    main()
