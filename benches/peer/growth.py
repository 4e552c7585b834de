"""How the cost of a study grows: seconds and bytes against tokens, layers, width, seeds and draws.

    python3 benches/peer/growth.py PROGRAM [FOLDER]

Makes untrained networks (`untrained:` draws their weights) and a text of repeated documents, changes one
size at a time, and runs PROGRAM on each. Prints a table as Markdown, and for each size the exponent of the
cost: the slope of its logarithm over the three largest values. Needs nothing but Python.
"""
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DESK = Path(__file__).resolve().parents[2] / "experiments" / "desk"
BASE = {"tokens": 16_000, "layers": 3, "width": 512, "seeds": 3, "draws": 2}
SIZES = {
    "tokens": [1_000, 4_000, 16_000, 64_000, 256_000, 1_000_000],
    "layers": [1, 2, 4, 8],
    "width": [256, 512, 1024, 2048],
    "seeds": [2, 3, 5, 9],
    "draws": [1, 4, 16, 64],
}
# How the bundled models are screened: cautiously, and at the usual two standard errors.
SCREEN = "sample: 8000, candidates: 8, standard_errors: 4"
BOLD = "sample: 8000, candidates: 8, standard_errors: 2"
# Where only the growth with tokens is asked for, a million of them should take minutes.
SMALLER = {"tokens": {"width": 256, "layers": 2, "seeds": 2}}


def network(folder, layers, width):
    """Writes the config of an untrained network, with the tokenizer of the bundled models."""
    folder.mkdir(parents=True)
    config = json.loads((DESK / "a" / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "n_layer": layers, "n_inner": width}))
    shutil.copy(DESK / "a" / "tokenizer.json", folder)


def text(path, copies):
    """Writes the bundled text several times over."""
    documents = (DESK / "corpus.jsonl").read_text().splitlines()
    with path.open("w") as out:
        for copy in range(copies):
            for i, line in enumerate(documents):
                out.write(json.dumps({**json.loads(line), "id": f"{copy}-{i}"}) + "\n")


def untrained(i):
    return f"    - {{ name: m{i}, path: network, untrained: {i} }}"


def trained(i):
    return f"    - {{ name: m{i}, path: '{DESK / 'abcde'[i]}' }}"


def spec(folder, size, member=untrained, screen=None):
    family = "\n".join(map(member, range(size["seeds"])))
    screened = f"  screen: {{ {screen} }}\n" if screen else ""
    (folder / "growth.yaml").write_text(
        "version: 1\nname: growth\nkind: universality\nquestion: What does it cost?\n"
        f"source: benches/peer/growth.py\nmodels:\n  reference: m0\n  family:\n{family}\n"
        f"corpus: {{ path: text.jsonl, context: 256, sample: {size['tokens']} }}\n"
        f"correlation:\n  baseline: {{ kind: fast_rotation, draws: {size['draws']} }}\n{screened}"
        "statistics: { intervals: { blocks: 0 } }\ncards: { neurons: 0 }\n"
    )


def peak(command, folder):
    """Runs a command. Returns its seconds, and the largest number of bytes that it had in memory."""
    begun = time.monotonic()
    # A process of its own for each run, so that the peak is that of this run.
    script = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[1:]).returncode\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], cwd=folder, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return time.monotonic() - begun, 1024 * int(done.stdout.split()[-1])


def measure(program, root, size):
    folder = Path(tempfile.mkdtemp(dir=root))
    network(folder / "network", size["layers"], size["width"])
    text(folder / "text.jsonl", math.ceil(size["tokens"] / 40_000))
    spec(folder, size)
    seconds, memory = peak([program, "run", "growth.yaml", "--quiet", "--out", "run"], folder)
    timing = json.loads((folder / "run" / "summary.json").read_text())["timing"]
    shutil.rmtree(folder)
    return seconds, timing["tokens_s"], timing["finish_s"], memory / 2**20


def screening(program, root):
    """Compares studies of the bundled models with their forward passes alone: those of one, times five."""
    size = {"tokens": 65_536, "layers": 3, "width": 1024, "seeds": 5, "draws": 2}
    folder = Path(tempfile.mkdtemp(dir=root))
    text(folder / "text.jsonl", 2)
    print(f"\nscreening ({', '.join(f'{value} {name}' for name, value in size.items())})\n")
    spec(folder, size, trained)
    one, _ = peak([program, "activations", "L0.N0", "--spec", "growth.yaml", "--out", "x.safetensors"], folder)
    forward = one * size["seeds"]
    print("| study | neurons compared with all | whole, s | peak, MiB | forward passes alone, s | ratio |\n|---|---|---|---|---|---|")
    for name, screen in [("all", None), ("screened", SCREEN), ("bold", BOLD)]:
        spec(folder, size, trained, screen)
        seconds, memory = peak([program, "run", "growth.yaml", "--quiet", "--out", name], folder)
        found = json.loads((folder / name / "summary.json").read_text())
        exact = found["screening"]["exact"] if screen else found["neurons"]
        row = f"| {name} | {exact} | {seconds:.2f} | {memory / 2**20:.0f} | {forward:.2f} | {seconds / forward:.2f} |"
        print(row, flush=True)


def slope(xs, ys):
    """Returns the slope of log y over log x for the three largest x."""
    pairs = [(math.log(x), math.log(max(y, 1e-9))) for x, y in zip(xs, ys)][-3:]
    mx, my = (sum(p[i] for p in pairs) / len(pairs) for i in (0, 1))
    return sum((x - mx) * (y - my) for x, y in pairs) / sum((x - mx) ** 2 for x, _ in pairs)


def main(program, root):
    root.mkdir(parents=True, exist_ok=True)
    for axis, values in SIZES.items():
        base = {**BASE, **SMALLER.get(axis, {})}
        others = ", ".join(f"{value} {name}" for name, value in base.items() if name != axis)
        print(f"\n{axis} ({others})\n")
        print(f"| {axis} | whole, s | sums, s | after the sums, s | peak, MiB |\n|---|---|---|---|---|")
        rows = []
        for value in values:
            rows.append(measure(program, root, {**base, axis: value}))
            print(f"| {value:,} | " + " | ".join(f"{number:.2f}" for number in rows[-1]) + " |", flush=True)
        exponents = [slope(values, [row[i] for row in rows]) for i in range(4)]
        print("| *exponent* | " + " | ".join(f"{exponent:.2f}" for exponent in exponents) + " |", flush=True)
    screening(program, root)


if len(sys.argv) < 2:
    sys.exit(__doc__)
with tempfile.TemporaryDirectory() as made:
    main(Path(sys.argv[1]).resolve().as_posix(), Path(sys.argv[2]) if len(sys.argv) > 2 else Path(made))
