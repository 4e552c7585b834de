#!/usr/bin/env python3
"""Trains the desk models: GPT-2s that differ in nothing but their seed.

    python train.py train    --work DIR [--set KEY=VALUE ...]
    python train.py evaluate --work DIR
    python train.py export   --work DIR --out experiments/desk

`--work` holds what text.py made, and the checkpoints; an interrupted training
goes on from the last one. All seeds train side by side as one batched model
whose parameters have a leading axis for the seed: nothing is shared but text
and tokenizer, initialisation and data order are each seed's own. The same
script runs on a CPU and on a GPU. Needs PyTorch, NumPy, PyYAML, safetensors.
"""
import argparse
import datetime
import hashlib
import json
import math
import os
import pathlib
import platform
import shutil
import time

import numpy as np
import torch
import torch.nn.functional as F
import yaml

HERE = pathlib.Path(__file__).parent
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.backends.cuda.matmul.allow_tf32 = True
torch.set_float32_matmul_precision("high")


class Dropout:
    """Dropout whose masks are windows of one pool of random bits, drawn anew now
    and then: on a CPU, drawing every mask takes longer than all products."""

    POOL, USES = 1 << 25, 2000

    def __init__(self, share):
        self.keep, self.uses = 1 - share, 0

    def __call__(self, x):
        if self.keep == 1:
            return x
        if self.uses % self.USES == 0:
            self.pool = (torch.rand(self.POOL, device=x.device) < self.keep).to(torch.bfloat16) / self.keep
        self.uses += 1
        start = int(torch.randint(self.POOL - x.numel(), ()))
        return x * self.pool[start:start + x.numel()].view_as(x)


class Family(torch.nn.Module):
    """GPT-2s side by side. Parameters are named as Hugging Face names them,
    with `/` for `.`, and have one more leading axis than there: the seed."""

    def __init__(self, model, vocabulary, seeds):
        super().__init__()
        self.shape, self.seeds = model, seeds
        d, inner, layers = model["n_embd"], model["n_inner"], model["n_layer"]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.p = torch.nn.ParameterDict()

        def add(name, *size, std=None, value=0.0):
            one = lambda g: torch.randn(*size, generator=g) * std if std else torch.full(size, value)
            self.p[name.replace(".", "/")] = torch.nn.Parameter(torch.stack([one(g) for g in generators]))

        def norm(name):
            add(f"{name}.weight", d, value=1.0)
            add(f"{name}.bias", d)

        def linear(name, d_in, d_out, std=0.02):
            add(f"{name}.weight", d_in, d_out, std=std)
            add(f"{name}.bias", d_out)

        add("wte.weight", vocabulary, d, std=0.02)
        add("wpe.weight", model["n_positions"], d, std=0.01)
        for layer in range(layers):
            h = f"h.{layer}"
            norm(f"{h}.ln_1")
            linear(f"{h}.attn.c_attn", d, 3 * d)
            linear(f"{h}.attn.c_proj", d, d, std=0.02 / math.sqrt(2 * layers))
            norm(f"{h}.ln_2")
            linear(f"{h}.mlp.c_fc", d, inner)
            linear(f"{h}.mlp.c_proj", inner, d, std=0.02 / math.sqrt(2 * layers))
        norm("ln_f")

    def forward(self, ids, drop=lambda x: x, keep=None):
        """Final normalised residual [seeds, tokens, d_model] for ids [seeds,
        rows, length]; post-activations of each layer are appended to `keep`.
        `drop` is applied to what enters the residual stream."""
        seeds, rows, length = ids.shape
        p, d, heads = self.p, self.shape["n_embd"], self.shape["n_head"]
        vocabulary = p["wte/weight"].shape[1]
        offsets = torch.arange(seeds, device=ids.device)[:, None, None] * vocabulary
        x = F.embedding(ids + offsets, p["wte/weight"].flatten(0, 1))
        x = drop(x + p["wpe/weight"][:, None, :length]).reshape(seeds, rows * length, d)
        linear = lambda x, n: torch.baddbmm(p[f"{n}/bias"][:, None], x, p[f"{n}/weight"])
        norm = lambda x, n: torch.addcmul(p[f"{n}/bias"][:, None], F.layer_norm(x, (d,)), p[f"{n}/weight"][:, None])
        for layer in range(self.shape["n_layer"]):
            h = f"h/{layer}"
            qkv = linear(norm(x, f"{h}/ln_1"), f"{h}/attn/c_attn")
            q, k, v = qkv.reshape(seeds * rows, length, 3, heads, d // heads).permute(2, 0, 3, 1, 4)
            # As in the Stanford models, scores are divided by layer + 1 too.
            scale = 1 / (math.sqrt(d // heads) * (layer + 1))
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
            mixed = mixed.transpose(1, 2).reshape(seeds, rows * length, d)
            x = x + drop(linear(mixed, f"{h}/attn/c_proj"))
            post = F.gelu(linear(norm(x, f"{h}/ln_2"), f"{h}/mlp/c_fc"), approximate="tanh")
            if keep is not None:
                keep.append(post)
            x = x + drop(linear(post, f"{h}/mlp/c_proj"))
        return norm(x, "ln_f")

    def losses(self, rows, drop=lambda x: x):
        """Mean next-token loss of each seed over rows [seeds, rows, length]."""
        x = self(rows, drop).reshape(*rows.shape, -1)[:, :, :-1].flatten(1, 2)
        one = lambda x, embed, targets: F.cross_entropy(x @ embed.T, targets.flatten())
        return torch.stack([one(*seed) for seed in zip(x, self.p["wte/weight"], rows[:, :, 1:])])


class Rows:
    """Rows that begin with the end-of-text token, from a file of token ids."""

    def __init__(self, path, length, end):
        ids = np.fromfile(path, dtype=np.uint16)
        count = len(ids) // (length - 1)
        body = ids[: count * (length - 1)].reshape(count, length - 1)
        rows = np.concatenate([np.full((count, 1), end, np.uint16), body], axis=1)
        self.rows = torch.from_numpy(rows.astype(np.int32)).to(DEVICE)
        self.orders = {}

    def order(self, seed, epoch):
        """The rows' order in one epoch: each seed's own."""
        if (seed, epoch) not in self.orders:
            order = np.random.default_rng([seed, epoch]).permutation(len(self.rows))
            self.orders = {k: v for k, v in self.orders.items() if k[1] >= epoch}
            self.orders[seed, epoch] = torch.from_numpy(order).to(DEVICE)
        return self.orders[seed, epoch]

    def batch(self, seeds, step, size):
        """Rows [seeds, size, length] of a step."""
        per_epoch = len(self.rows) // size
        epoch, place = divmod(step, per_epoch)
        chosen = [self.order(s, epoch)[place * size:(place + 1) * size] for s in seeds]
        return self.rows[torch.stack(chosen)].long()


def rate(step, steps, t):
    """Linear warm-up, then cosine decay to the final rate."""
    if step < t["warmup_steps"]:
        return t["peak_rate"] * (step + 1) / t["warmup_steps"]
    done = (step - t["warmup_steps"]) / max(1, steps - t["warmup_steps"])
    return t["final_rate"] + (t["peak_rate"] - t["final_rate"]) * (1 + math.cos(math.pi * done)) / 2


def clip_each(family, limit):
    """Clips the gradient of each seed by its own norm."""
    gradients = [p.grad for p in family.parameters()]
    squares = sum(g.flatten(1).square().sum(1) for g in gradients)
    scale = (limit / (squares.sqrt() + 1e-6)).clamp(max=1.0)
    for g in gradients:
        g.mul_(scale.reshape(-1, *[1] * (g.dim() - 1)))


def make_optimizer(family, t):
    """AdamW; matrices decay, biases and gains do not."""
    matrices = [p for p in family.parameters() if p.dim() == 3]
    vectors = [p for p in family.parameters() if p.dim() < 3]
    groups = [{"params": matrices, "weight_decay": t["weight_decay"]}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=tuple(t["betas"]), fused=DEVICE == "cuda")


def save(state, path):
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


@torch.no_grad()
def validation_losses(family, held_out, batches=10, size=16):
    parts = [family.losses(held_out.rows[None, i * size:(i + 1) * size].long().expand(len(family.seeds), -1, -1))
             for i in range(min(batches, len(held_out.rows) // size))]
    return torch.stack(parts).mean(0).tolist()


def train(recipe, work):
    t, model, seeds = recipe["train"], recipe["model"], list(recipe["train"]["seeds"].values())
    end = recipe["tokenizer"]["vocabulary"] - 1
    rows = Rows(work / "train.bin", model["n_positions"], end)
    held_out = Rows(work / "validation.bin", model["n_positions"], end)
    family = Family(model, end + 1, seeds).to(DEVICE)
    optimizer = make_optimizer(family, t)
    steps = t["tokens"] // (t["batch_rows"] * model["n_positions"])
    path, step, curve, before = work / "checkpoint.pt", 0, [], 0.0
    if path.exists():
        state = torch.load(path, map_location=DEVICE, weights_only=True)
        family.load_state_dict(state["family"])
        optimizer.load_state_dict(state["optimizer"])
        step, curve, before = state["step"], state["curve"], state["seconds"]
    drop, start = Dropout(t["dropout"]), time.time()
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = rate(step, steps, t)
        # Products in the named precision; parameters, sums and the loss stay in f32.
        with torch.autocast(DEVICE, torch.bfloat16, enabled=t["precision"] == "bfloat16"):
            loss = family.losses(rows.batch(seeds, step, t["batch_rows"]), drop)
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        clip_each(family, t["clip"])
        optimizer.step()
        step += 1
        if step in t["keep_steps"]:
            save({k: v.half() for k, v in family.state_dict().items()}, work / f"step-{step}.pt")
        if step % t["checkpoint_every"] == 0 or step == steps:
            seconds = before + time.time() - start
            curve.append({"step": step, "train": loss.tolist(), "validation": validation_losses(family, held_out)})
            print(f"step {step}/{steps} {seconds:.0f} s", [f"{v:.3f}" for v in curve[-1]["validation"]], flush=True)
            save({"family": family.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "curve": curve,
                  "seconds": seconds, "device": describe_device()}, path)
    return family


def describe_device():
    name = torch.cuda.get_device_name() if DEVICE == "cuda" else f"{platform.machine()} CPU"
    return f"{name}, torch {torch.__version__}, numpy {np.__version__}, python {platform.python_version()}"


@torch.no_grad()
def activations(family, rows, end, newline):
    """Post-activations [seeds, tokens, neurons] of the tokens that count."""
    parts = []
    for batch in rows.split(32):
        keep = []
        family(batch[None].expand(len(family.seeds), -1, -1), keep=keep)
        counts = (batch.flatten() != end) & (batch.flatten() != newline)
        parts.append(torch.cat(keep, dim=2)[:, counts])
    return torch.cat(parts, dim=1)


def best(x, y):
    """Best correlation of each column of x with any column of y."""
    unit = lambda v: F.normalize(v - v.mean(0), dim=0)
    return (unit(x).T @ unit(y)).max(1).values


@torch.no_grad()
def evaluate(recipe, work, family=None, tokens=60_000):
    """Share of each seed's neurons whose mean excess over all partners is above a threshold."""
    model, end = recipe["model"], recipe["tokenizer"]["vocabulary"] - 1
    newline = json.loads((work / "tokenizer.json").read_text())["model"]["vocab"]["Ċ"]
    if family is None:
        family = Family(model, end + 1, list(recipe["train"]["seeds"].values())).to(DEVICE)
        family.load_state_dict(torch.load(work / "checkpoint.pt", map_location=DEVICE, weights_only=True)["family"])
    held_out = Rows(work / "validation.bin", model["n_positions"], end).rows[: tokens // model["n_positions"]].long()
    acts = activations(family, held_out, end, newline)
    generator = torch.Generator(DEVICE).manual_seed(0)
    count, inner = len(acts), model["n_inner"]
    rotated = []
    for v in acts:
        layers = [v[:, i:i + inner] @ F.normalize(torch.randn(inner, inner, generator=generator, device=DEVICE), dim=1).T
                  for i in range(0, v.shape[1], inner)]
        rotated.append(torch.cat(layers, dim=1))
    shares = []
    for a in range(count):
        partners = [m for m in range(count) if m != a]
        excess = torch.stack([best(acts[a], acts[m]) - best(acts[a], rotated[m]) for m in partners]).mean(0)
        by_layer = [round(100 * (part > 0.5).float().mean().item(), 2) for part in excess.split(inner)]
        shares.append([round(100 * (excess > t).float().mean().item(), 2) for t in (0.3, 0.4, 0.5)] + [by_layer])
    return shares


def export(recipe, work, out):
    """Writes each seed in Hugging Face form, float16, with its training record."""
    from safetensors.torch import save_file
    model, t = recipe["model"], recipe["train"]
    end = recipe["tokenizer"]["vocabulary"] - 1
    state = torch.load(work / "checkpoint.pt", map_location="cpu", weights_only=True)
    text = json.loads((work / "text.json").read_text())
    for i, (name, seed) in enumerate(t["seeds"].items()):
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {k.removeprefix("p.").replace("/", "."): v[i].half().contiguous() for k, v in state["family"].items()}
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "model.safetensors").chmod(0o644)  # safetensors makes files private
        config = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": end + 1,
                  "bos_token_id": end, "eos_token_id": end, "activation_function": "gelu_new",
                  "layer_norm_epsilon": 1e-5, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": True,
                  "reorder_and_upcast_attn": True, "tie_word_embeddings": True, "torch_dtype": "float16",
                  "embd_pdrop": t["dropout"], "attn_pdrop": 0.0, "resid_pdrop": t["dropout"], **model}
        (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
        shutil.copy(work / "tokenizer.json", folder / "tokenizer.json")
        pick = lambda point: {"step": point["step"], **{k: round(point[k][i], 4) for k in ("train", "validation")}}
        record = {"seed": seed, "recipe": {"model": model, "train": {k: v for k, v in t.items() if k != "seeds"}},
                  "tokens_seen": state["step"] * t["batch_rows"] * model["n_positions"],
                  "seconds_for_all_seeds": round(state["seconds"]), "device": state["device"],
                  "exported": datetime.date.today().isoformat(), "loss": [pick(point) for point in state["curve"]],
                  "sha256": {f: hashlib.sha256((folder / f).read_bytes()).hexdigest()
                             for f in ("model.safetensors", "config.json", "tokenizer.json")},
                  "text": text}
        (folder / "training.json").write_text(json.dumps(record, indent=1) + "\n")


def load_recipe(changes):
    """train.yaml, with values replaced by `section.key=value`."""
    recipe = yaml.safe_load((HERE / "train.yaml").read_text())
    for change in changes:
        path, value = change.split("=", 1)
        section, key = path.split(".")
        recipe[section][key] = yaml.safe_load(value)
    return recipe


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["train", "evaluate", "export"])
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, default=HERE)
    parser.add_argument("--set", nargs="*", default=[], metavar="SECTION.KEY=VALUE")
    args = parser.parse_args()
    recipe = load_recipe(args.set)
    if args.command == "train":
        train(recipe, args.work)
    elif args.command == "evaluate":
        for name, shares in zip(recipe["train"]["seeds"], evaluate(recipe, args.work)):
            print(name, "above 0.3 / 0.4 / 0.5, in percent, and by layer:", *shares)
    else:
        export(recipe, args.work, args.out)


if __name__ == "__main__":
    main()
