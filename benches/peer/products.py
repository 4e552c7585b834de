#!/usr/bin/env python3
"""PyTorch on the shapes of benches/engine.rs, on all cores: the peer that rates
are given against. Prints the best of several runs in GFLOP/s. Needs torch.
"""
import time

import torch


def rate(product, operations, runs=15):
    product()
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - start)
    return operations / best / 1e9


def main():
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    for dtype in (torch.float32, torch.bfloat16):
        for n in (1024, 3072):
            x, y = torch.randn(1024, n).to(dtype), torch.randn(1024, n).to(dtype)
            print(f"{dtype} xT y, 1,024 tokens, {n} neurons: {rate(lambda: x.T @ y, 2 * 1024 * n * n):.0f} GFLOP/s")
        for inner, cols in ((768, 3072), (3072, 768)):
            x, w = torch.randn(4096, inner).to(dtype), torch.randn(inner, cols).to(dtype)
            print(f"{dtype} 4096 x {inner} x {cols}: {rate(lambda: x @ w, 2 * 4096 * inner * cols):.0f} GFLOP/s")


if __name__ == "__main__":
    main()
