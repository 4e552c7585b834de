"""Writes the configs beside this script: `config.json` as `save_pretrained` of one version
of Transformers writes it.

    python make_configs.py FOLDER      # FOLDER/transformers is the package of that version

The package comes from PyPI (`pip download --no-deps transformers==X`, unpacked). Only the
config classes are loaded: before 4.57 the package's own `__init__` is not run, and what is
imported and not installed is replaced by a module that answers everything with an inert
object. Versions before 5 were run beside the dependencies of 4.57.1, later ones beside those
of 5.0.0.

For each version and architecture:

* `X-gpt2.json`, `X-neox.json`: a small model, all other fields at their defaults.
* `X-gpt2-full.json`, `X-neox-full.json`: every field that the class holds
  (`to_json_file(use_diff=False)`, which was the only form before 3.0).
* `X-medium.json`, `X-stanford.json`, `X-pythia.json`: the config published with OpenAI's
  gpt2-medium, Stanford's seeds and Pythia (`published/`), loaded and saved again.
"""

import importlib
import importlib.abc
import importlib.machinery
import json
import sys
import types
from pathlib import Path

HERE = Path(__file__).parent


class Inert:
    """Answers every use."""

    def __init__(self, *_, **__): pass
    def __call__(self, *args, **_):
        return args[0] if len(args) == 1 and callable(args[0]) else Inert()
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Inert()
    def __mro_entries__(self, _): return (object,)
    def __getitem__(self, _): return Inert()
    def __or__(self, _): return Inert()
    def __ror__(self, _): return Inert()
    def __iter__(self): return iter(())
    def __bool__(self): return False
    def __lt__(self, _): return False
    def __ge__(self, _): return False


class InertModule(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__") and name != "__version__":
            raise AttributeError(name)
        return {"__version__": "0", "CONFIG_NAME": "config.json"}.get(name, Inert())


class Missing(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds what is not installed."""

    def find_spec(self, name, path=None, target=None):
        parent = name.rpartition(".")[0]
        if parent and not isinstance(sys.modules.get(parent), InertModule):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec): return InertModule(spec.name)
    def exec_module(self, module): module.__path__ = []


def package(name, folder, **names):
    """A package whose `__init__` is not run."""
    module = InertModule(name)
    module.__path__ = [str(folder)]
    module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=True)
    module.__dict__.update(names)
    sys.modules[name] = module


def load(root, version):
    if tuple(map(int, version.split(".")[:2])) >= (4, 57):
        sys.path.insert(0, str(root))
        transformers = importlib.import_module("transformers")
        return {"gpt2": transformers.GPT2Config, "gpt_neox": transformers.GPTNeoXConfig}
    base = root / "transformers"
    package("transformers", base, __version__=version)
    for inner in ("models", "models.gpt2", "models.gpt_neox", "generation"):
        package(f"transformers.{inner}", base / inner.replace(".", "/"))
    if tuple(map(int, version.split(".")[:2])) < (4, 12):
        # It looks for the libraries that it may use, and config classes use none.
        sys.modules["transformers.file_utils"] = InertModule("transformers.file_utils")
    sys.meta_path.append(Missing())
    old = not (base / "models").exists()
    paths = {"gpt2": "" if old else "models.gpt2.", "gpt_neox": "models.gpt_neox."}
    found = {}
    for kind, name in (("gpt2", "GPT2Config"), ("gpt_neox", "GPTNeoXConfig")):
        file = base / (paths[kind].replace(".", "/") + f"configuration_{kind}.py")
        if file.exists():
            module = importlib.import_module(f"transformers.{paths[kind]}configuration_{kind}")
            found[kind] = getattr(module, name)
    return found


def write(version, name, text):
    (HERE / f"{version}-{name}.json").write_text(text if text.endswith("\n") else text + "\n")


def forms(config):
    """As `save_pretrained` writes it, and every field."""
    try:
        return config.to_json_string(use_diff=True), config.to_json_string(use_diff=False)
    except TypeError:  # Before 3.0 every field was written.
        return config.to_json_string(), None


def main(root):
    version = json.loads((root / "version.json").read_text())
    classes = load(root, version)
    small = {
        "gpt2": dict(n_layer=2, n_head=2, n_embd=8, n_positions=16),
        "gpt_neox": dict(num_hidden_layers=2, num_attention_heads=2, hidden_size=16,
                         intermediate_size=64, max_position_embeddings=16),
    }
    for kind, name in (("gpt2", "gpt2"), ("gpt_neox", "neox")):
        if kind not in classes:
            continue
        # The first versions call the vocabulary's size by another name.
        saved, full = forms(classes[kind](**small[kind]))
        write(version, name, saved)
        if full is not None:
            write(version, f"{name}-full", full)
        again = {"gpt2": ("medium", "stanford"), "gpt_neox": ("pythia",)}[kind]
        for published in again:
            fields = json.loads((HERE / "published" / f"{published}.json").read_text())
            write(version, published, forms(classes[kind].from_dict(fields))[0])


main(Path(sys.argv[1]))
