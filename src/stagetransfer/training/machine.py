"""Settings of the whole process: PyTorch's global switches, the C library, Lightning's messages.

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

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4

_LOGGERS = ("pytorch_lightning", "lightning.pytorch")
# Regular expressions of warnings that every one of a chain's Trainers would repeat.
_WARNINGS = (
    ".*does not have many workers.*",
    ".*number of training batches.*",
    ".*Checkpoint directory.*exists and is not empty.*",
    ".*Experiment logs directory.*exists and is not empty.*",
    ".*experiment tracker.*",
    ".*srun. command is available.*",
    ".*isinstance.treespec, LeafSpec.*",
    ".*sync_dist=True.*",  # validation figures are synchronised by torchmetrics
)


def prepare_process(*, keep_memory: bool) -> None:
    """Set what Lightning has no argument for; called before a Trainer is built.

    Args:
        keep_memory: see `keep_freed_memory`.
    """
    if keep_memory:
        keep_freed_memory()
    # Deterministic algorithms would fill each new tensor, which only serves to find reads of
    # uninitialised memory.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def keep_freed_memory() -> bool:
    """Let the process keep the memory that it frees, for the next step or batch, until it ends.

    glibc requests each block of 32 MB or more from the system and returns it when it is freed. A
    training step on the CPU frees hundreds of MB of activations and gradients, and the system
    would have to clear every page of them again.

    Returns:
        False, with nothing changed, where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))


def resolve_precision(precision: str, accelerator: str) -> str:
    """Return `precision`, with "auto" replaced by the precision that it stands for here.

    "auto" is "bf16-mixed" (weights and their updates in float32, products in bfloat16) on a GPU
    that multiplies bfloat16 in hardware, and "32-true" everywhere else. On a CPU, bfloat16 is
    never chosen automatically: the quick recipe did not always learn in it.

    Args:
        precision: "auto" or any of Lightning's precisions.
        accelerator: Lightning's name of the device: auto, cpu, gpu, cuda, ...
    """
    if precision != "auto":
        return precision
    may_be_gpu = accelerator in ("auto", "gpu", "cuda")
    if may_be_gpu and torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return "bf16-mixed" if fast else "32-true"
    return "32-true"


def autocast(precision: str, device: str) -> AbstractContextManager[object]:
    """Return the context in which Lightning runs a network's forward pass at a precision.

    Args:
        precision: Lightning's name of a precision, as the config of a finished run records it:
            "32-true", "32", "bf16-mixed" or "16-mixed".
        device: the device that computes, for example "cpu" or "cuda:0".

    Raises:
        UserError: the precision is another one.
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
    """Silence Lightning's routine messages within the block; errors are still shown.

    Log levels and warning filters are restored at the end.
    """
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
