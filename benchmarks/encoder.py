"""Processor seconds of C (Table 1) on a batch of patches: memory layout, folding, allocator.

OMP_NUM_THREADS=1 python benchmarks/encoder.py [--patches 128] [--repeats 3]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn

from anatograph.learning.memory import keep_memory
from anatograph.learning.model.config import ModelConfig
from anatograph.learning.model.networks import ConvLayer, PatchEncoder


def seconds(call: Callable[[], object], repeats: int) -> float:
    call()
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        taken.append(time.process_time() - start)
    return min(taken)


def plain_layers(encoder: PatchEncoder) -> nn.Sequential:
    """The same layers in plain torch, sharing the weights: default layout, nothing folded or fused."""
    layers = [m for m in encoder.modules() if isinstance(m, ConvLayer)]
    modules: list[nn.Module] = []
    for layer in layers:
        modules += [layer.conv, layer.norm, nn.ELU()]
    return nn.Sequential(*modules).to(memory_format=torch.contiguous_format)


def variance_error(count: int, layout: torch.memory_format) -> float:
    x = torch.randn(count, 8, 32, 32, 32).contiguous(memory_format=layout)
    norm = nn.BatchNorm3d(8, momentum=1.0)
    norm(x)
    true = x.double().var((0, 2, 3, 4))
    return float((norm.running_var / true - 1).abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--patches", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(0)
    x = torch.rand(options.patches, 1, 32, 32, 32) * 2 - 1
    print(f"{options.patches} patches, {torch.get_num_threads()} thread(s), torch {torch.__version__}")
    for kept in (False, True):
        if kept and not keep_memory():
            print("no glibc here: the allocator stays as it is")
            break
        for name, network in (
            ("default layout, torch's layers", plain_layers(PatchEncoder(ModelConfig()))),
            ("channels-last, as shipped", PatchEncoder(ModelConfig())),
        ):

            def step(network: nn.Module = network) -> None:
                network.zero_grad()
                network(x).square().mean().backward()

            def forward(network: nn.Module = network) -> None:
                with torch.inference_mode():
                    network(x)

            network.train()
            both = seconds(step, options.repeats)
            network.eval()
            alone = seconds(forward, options.repeats)
            memory = "memory kept" if kept else "memory given back"
            print(f"{memory:18s} {name:32s} forward and backward {both:.2f} s, evaluation {alone:.2f} s")
    for layout, name in ((torch.contiguous_format, "default"), (torch.channels_last_3d, "channels-last")):
        error = variance_error(options.patches, layout)
        print(f"torch's BatchNorm3d, {name} layout: variance of a 8 x 32^3 map off by {error:.1e}")


if __name__ == "__main__":
    main()
