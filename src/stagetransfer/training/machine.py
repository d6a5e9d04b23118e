"""Settings of the whole process: PyTorch, the C library and Lightning's messages.

No other module changes global state.
"""

import ctypes
import logging
import platform
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from stagetransfer.errors import UserError

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # from glibc's malloc.h

_LOGGERS = ("pytorch_lightning", "lightning.pytorch")
# Regular expressions of warnings that each Trainer of a chain would repeat.
_WARNINGS = (
    r".*module\(s\) in eval mode at the start",  # the frozen ones
    ".*does not have many workers.*",
    ".*number of training batches.*",
    ".*Checkpoint directory.*exists and is not empty.*",
    ".*Experiment logs directory.*exists and is not empty.*",
    ".*experiment tracker.*",
    ".*dataloader is not resumable.*",  # `LastCheckpoint` makes it so
    ".*srun. command is available.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*sync_dist=True.*",  # validation metrics are synchronised by torchmetrics
)


def prepare_process(*, keep_memory: bool) -> None:
    """Set what Lightning has no argument for; called before a Trainer is built."""
    if keep_memory:
        keep_freed_memory()
    # In deterministic mode, PyTorch would fill each new tensor. This only helps to find code that
    # reads uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_freed_memory() -> None:
    """Let the process reuse the memory that it frees, where the C library is glibc.

    glibc requests each block of 32 MB or more from the system and returns it when it is freed. A
    training step on the CPU frees hundreds of MB of activations and gradients, and the system
    would clear all their pages again.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)


def resolve_precision(precision: str, accelerator: str) -> str:
    """Return one of Lightning's precisions, for this machine if it is "auto" or "fast".

    Both resolve to "bf16-mixed" (weights and their updates in float32, products in bfloat16) on a
    GPU that multiplies bfloat16 in hardware. On a CPU that does so, only "fast" resolves to it,
    because two machines should give equal results by default, and the quick recipe did not always
    learn with it. Everywhere else they are "32-true". UserError for float16 on a CPU.
    """
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    on_mps = accelerator == "auto" and torch.backends.mps.is_available()
    on_cpu = accelerator in ("auto", "cpu") and not (on_gpu or on_mps)
    if precision in ("16", "16-mixed") and on_cpu:
        raise UserError(
            f"trainer.precision={precision}: float16 needs a GPU, and Lightning would train with "
            "bfloat16 instead. Use bf16-mixed or 32-true"
        )
    if precision not in ("auto", "fast"):
        return precision
    if on_gpu:
        half = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator in ("auto", "cpu"):
        multiplies = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        half = precision == "fast" and multiplies
    else:
        half = False
    return "bf16-mixed" if half else "32-true"


def autocast(precision: str, device: str) -> AbstractContextManager[object]:
    """Return the context in which Lightning runs a network's forward pass on a device.

    The precision of a finished run is "32-true", "32", "bf16-mixed" or "16-mixed"; any other is a
    UserError. The device is for example "cpu" or "cuda:0".
    """
    if precision in ("32-true", "32"):
        return nullcontext()
    dtypes = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
    if precision not in dtypes:
        raise UserError(
            f"trainer.precision={precision}: a finished run of this precision cannot be read. "
            f"Use a run trained with 32-true, {' or '.join(dtypes)}."
        )
    return torch.autocast(torch.device(device).type, dtypes[precision])


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's routine messages, but not its errors, within the block."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in _WARNINGS:
            warnings.filterwarnings("ignore", message)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
