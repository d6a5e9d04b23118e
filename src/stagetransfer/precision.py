"""Which arithmetic a machine trains in when it is left to choose."""

from __future__ import annotations

import torch


def resolve(precision: str, accelerator: str) -> str:
    """`precision`, with "auto" made definite: what is hashed and recorded is never "auto".

    "auto" is "bf16-mixed" (weights and their updates in float32, products in bfloat16) where the
    device that `accelerator` leads to multiplies bfloat16 in hardware, else "32-true".

    Args:
        precision: "auto" or any of Lightning's.
        accelerator: Lightning's name of the device: auto, cpu, gpu, cuda, ...
    """
    if precision != "auto":
        return precision
    on_gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and _has_gpu())
    if on_gpu:
        fast = _has_gpu() and torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = accelerator in ("auto", "cpu") and _cpu_multiplies_bfloat16()
    return "bf16-mixed" if fast else "32-true"


def _has_gpu() -> bool:
    return torch.cuda.is_available()


def _cpu_multiplies_bfloat16() -> bool:
    """AVX512_BF16 or AMX: elsewhere bfloat16 is emulated, and slower than float32."""
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
