#!/usr/bin/env python3
"""Prepares the training text of the desk models.

    python text.py --work DIR

downloads the documentation packages named in train.yaml by package name,
turns their pages into plain text, drops repeated paragraphs, caps each domain,
splits by document, trains the tokenizer and writes DIR/tokenizer.json,
DIR/train.bin and DIR/validation.bin (uint16 token ids, documents separated by
the end-of-text token) and DIR/text.json (packages, versions, sizes, digests).
Needs a Debian system (apt-get, dpkg-deb), PyYAML, NumPy and tokenizers.
"""
import argparse
import gzip
import hashlib
import html.parser
import json
import pathlib
import random
import re
import subprocess

import numpy as np
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).parent
END = "<|endoftext|>"
SKIPPED_TAGS = {"script", "style", "head", "nav", "header", "footer", "button"}


class Page(html.parser.HTMLParser):
    """Text of an HTML page, without navigation."""

    def __init__(self):
        super().__init__()
        self.parts, self.skipping = [], 0

    def handle_starttag(self, tag, attrs):
        if tag in SKIPPED_TAGS:
            self.skipping += 1
        if tag in {"p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "dt", "dd", "pre"}:
            self.parts.append("\n")

    def handle_endtag(self, tag):
        if tag in SKIPPED_TAGS:
            self.skipping = max(0, self.skipping - 1)
        if tag in {"p", "pre", "h1", "h2", "h3", "table"}:
            self.parts.append("\n\n")

    def handle_data(self, data):
        if not self.skipping:
            self.parts.append(data)


def from_html(text):
    page = Page()
    page.feed(text)
    return "".join(page.parts).replace("¶", "")


def from_roff(text):
    """A manual page without its macros; good enough to read."""
    text = re.sub(r"\\f[A-Z]|\\f\(..|\\&|\\/|\\,", "", text)
    text = re.sub(r"\\\((?:aq|cq|oq)", "'", text).replace("\\-", "-").replace("\\e", "\\")
    lines = []
    for line in text.splitlines():
        macro = re.match(r"[.']\s*(\S*)\s*(.*)", line)
        if not macro:
            lines.append(line)
        elif macro[1] in {"SH", "SS"}:
            lines.append("\n" + macro[2].strip('"'))
        elif macro[1] in {"B", "I", "BR", "IR", "RB", "RI", "BI", "IP", "TP"} and macro[2]:
            lines.append(macro[2].replace('"', ""))
        elif macro[1] in {"PP", "P", "LP", "sp"}:
            lines.append("")
    return "\n".join(lines)


def from_dialogue(text):
    """What is said and told in a game's scenario."""
    spoken = re.findall(r'(?:message|story|description)\s*=\s*_\s*"((?:[^"]|"")+)"', text)
    return "\n\n".join(s.replace('""', '"') for s in spoken)


def read(path):
    raw = path.read_bytes()
    if path.suffix in {".gz", ".dz"}:
        raw = gzip.decompress(raw)
    return raw.decode("utf-8", errors="ignore")


def to_text(path):
    """Plain text of a file of a documentation package, or None for what is no text."""
    name = path.name.removesuffix(".gz").removesuffix(".dz")
    suffix = pathlib.PurePath(name).suffix
    if re.search(r"changelog|copyright|genindex|search|NEWS|ChangeLog", name):
        return None
    if suffix in {".html", ".htm", ".xhtml"}:
        return from_html(read(path))
    if suffix == ".cfg":
        return from_dialogue(read(path))
    if "man" in path.parts and re.fullmatch(r"\.\d\w*", suffix):
        return from_roff(read(path))
    if suffix in {".txt", ".rst", ".md", ".info", ".dict", ".py", ".page", ".tex", ".pod"} or "fortunes" in path.parts:
        return from_html(read(path)) if suffix == ".page" else read(path)
    return None


def paragraphs(text, seen):
    """The text's paragraphs that look like text and were not seen before."""
    for paragraph in re.split(r"\n\s*\n", text):
        lines = [line.rstrip() for line in paragraph.splitlines() if line.strip()]
        paragraph = "\n".join(lines)
        wordy = sum(c.isalpha() or c == " " for c in paragraph)
        key = hashlib.blake2b(paragraph.lower().encode(), digest_size=8).digest()
        if len(paragraph) >= 20 and wordy >= 0.6 * len(paragraph) and key not in seen:
            seen.add(key)
            yield paragraph


def documents(folder, seen):
    """Documents of an unpacked package, long files in parts of a few pages."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()):
        try:
            text = to_text(path)
        except (OSError, EOFError, ValueError):
            continue
        part, size = [], 0
        for paragraph in paragraphs(text or "", seen):
            part.append(paragraph)
            size += len(paragraph)
            if size > 6000:
                yield "\n\n".join(part)
                part, size = [], 0
        if size > 200:
            yield "\n\n".join(part)


def fetch(package, work):
    """Downloads and unpacks a package; returns its folder and version."""
    debs, folder = work / "packages", work / "unpacked" / package
    debs.mkdir(parents=True, exist_ok=True)
    if not any(debs.glob(f"{package}_*.deb")):
        subprocess.run(["apt-get", "download", "-q", package], cwd=debs, check=True, stdout=subprocess.DEVNULL)
    deb = next(debs.glob(f"{package}_*.deb"))
    if not folder.exists():
        folder.mkdir(parents=True)
        subprocess.run(["dpkg-deb", "-x", deb, folder], check=True)
    return folder, deb.name.split("_")[1]


def collect(recipe, work):
    """All documents by domain, capped, in an order that mixes packages."""
    seen, domains, versions = set(), {}, {}
    for domain, part in recipe["text"].items():
        found = []
        for package in part["packages"]:
            folder, versions[package] = fetch(package, work)
            found += documents(folder, seen)
        random.Random(domain).shuffle(found)
        limit, kept, size = part["cap"] * 1e6, [], 0
        while found and size < limit:
            kept.append(found.pop())
            size += len(kept[-1])
        domains[domain] = kept
        print(f"{domain}: {size / 1e6:.1f} M characters in {len(kept)} documents", flush=True)
    return domains, versions


def held_out(document, one_in):
    return int.from_bytes(hashlib.sha256(document.encode()).digest()[:4], "big") % one_in == 0


def train_tokenizer(texts, size):
    """Byte-level BPE as GPT-2's; the end-of-text token has the last id."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([END])
    assert tokenizer.token_to_id(END) == size - 1, "the text has too few distinct pairs"
    return tokenizer


def write_tokens(tokenizer, texts, path):
    end = tokenizer.token_to_id(END)
    ids = []
    for start in range(0, len(texts), 1000):
        for encoding in tokenizer.encode_batch(texts[start:start + 1000]):
            ids += [end, *encoding.ids]
    np.array(ids, dtype=np.uint16).tofile(path)
    return len(ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    work = parser.parse_args().work
    recipe = yaml.safe_load((HERE / "train.yaml").read_text())
    domains, versions = collect(recipe, work)
    texts = [text for domain in domains.values() for text in domain]
    random.Random(0).shuffle(texts)
    train = [t for t in texts if not held_out(t, recipe["validation_one_in"])]
    validation = [t for t in texts if held_out(t, recipe["validation_one_in"])]
    tokenizer = train_tokenizer(train[::3], recipe["tokenizer"]["vocabulary"])
    tokenizer.save(str(work / "tokenizer.json"))
    record = {
        "packages": versions,
        "characters": {domain: sum(map(len, texts)) for domain, texts in domains.items()},
        "train_tokens": write_tokens(tokenizer, train, work / "train.bin"),
        "validation_tokens": write_tokens(tokenizer, validation, work / "validation.bin"),
        "sha256": {name: hashlib.sha256((work / name).read_bytes()).hexdigest()
                   for name in ("tokenizer.json", "train.bin", "validation.bin")},
    }
    (work / "text.json").write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(record["characters"]), record["train_tokens"], record["validation_tokens"])


if __name__ == "__main__":
    main()
