"""Rows that TransformerLens cuts: `tokenize_and_concatenate` on documents of the bundled text.

    pip install transformer_lens==1.19.0 "transformers<5"
    python expected/golden/tl_rows.py

The padding token is the one at the end of a text, as TransformerLens sets it for GPT-2.
"""

import importlib.metadata
import importlib.util
import json
import pathlib

from transformers import PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS, CONTEXT = 40, 48

# The module alone: the package imports much more than it needs.
origin = pathlib.Path(importlib.util.find_spec("transformer_lens").submodule_search_locations[0])
spec = importlib.util.spec_from_file_location("tl_utils", origin / "utils.py")
utils = importlib.util.module_from_spec(spec)
spec.loader.exec_module(utils)

end = "<|endoftext|>"
tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=str(ROOT / "experiments/desk/a/tokenizer.json"),
    bos_token=end, eos_token=end, pad_token=end,
)
lines = (ROOT / "experiments/desk/corpus.jsonl").read_text().splitlines()[:DOCUMENTS]
texts = [json.loads(line)["text"] for line in lines]


class Documents:
    """What the function uses of a `datasets.Dataset`; a thousand documents at a time are mapped."""

    features = {"text": None}

    def map(self, function, **_):
        self.rows = function({"text": texts})["tokens"].tolist()
        return self

    def set_format(self, **_):
        pass


def rows(add_bos):
    return utils.tokenize_and_concatenate(
        Documents(), tokenizer, max_length=CONTEXT, add_bos_token=add_bos
    ).rows


with_bos, without = rows(True), rows(False)
golden = {
    "source": "expected/golden/tl_rows.py, transformer_lens "
    + importlib.metadata.version("transformer_lens"),
    "documents": DOCUMENTS,
    "context": CONTEXT,
    "with_bos": {"rows": len(with_bos), "first": with_bos[:2], "last": with_bos[-2:],
                 "sum": sum(sum((i + 1) * (p + 1) for p, i in enumerate(r)) for r in with_bos)},
    "without_bos": {"rows": len(without), "first": without[:2], "last": without[-2:],
                    "sum": sum(sum((i + 1) * (p + 1) for p, i in enumerate(r)) for r in without)},
}
(pathlib.Path(__file__).parent / "tl_rows.json").write_text(json.dumps(golden, indent=1) + "\n")
