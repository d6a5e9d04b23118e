"""A finished run's network, written for others: weights, their description, a model card."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save

from stagetransfer.errors import UserError
from stagetransfer.export.model_card import model_card
from stagetransfer.export.onnx_file import Agreement, compare, require_onnx, write_onnx
from stagetransfer.files import atomic_folder
from stagetransfer.models import METADATA_KEY
from stagetransfer.pipeline.restore import RestoredRun, restore_runs
from stagetransfer.runs.gather import gather_runs
from stagetransfer.runs.study import Study


@dataclass(frozen=True)
class Bundle:
    """What was written: a folder with model.safetensors, README.md (the card), and model.onnx if
    `agreement` is there."""

    folder: Path
    parameters: int
    agreement: Agreement | None


def export_run(
    path: Path, out: Path | None = None, *, onnx: bool = True, licence: str = "", count: int = 2000
) -> Bundle:
    """Writes the network of the one finished run at `path` into the new folder `out`.

    Args:
        path: the run's folder.
        out: default export/<run> beside runs/.
        onnx: also write model.onnx and compare it with PyTorch.
        licence: of the weights, for the card; its owner's to choose.
        count: resamples of the bootstrap behind the card's intervals.

    Raises:
        UserError: no run or several, `out` is there already, a package is missing, or ONNX Runtime
            computes something else. Then nothing is left behind.
    """
    if onnx:
        require_onnx()
    runs = restore_runs([path])
    if len(runs) != 1:
        raise UserError(f"{path}: holds {len(runs)} runs; name one, such as {runs[0].folder}")
    run = runs[0]
    out = run.folder.parent.parent / "export" / run.folder.name if out is None else out
    if out.exists():
        raise UserError(f"{out} is there already; remove it, or give another --out")
    study = Study(gather_runs([run.folder]).runs, count)
    network = run.network()
    description = describe(run)
    with atomic_folder(out) as part:
        tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        # One key only: of several, safetensors keeps no order, and the same run would give other
        # bytes each time, and a stage that starts from them another hash.
        content = save(tensors, {METADATA_KEY: description})
        (part / "model.safetensors").write_bytes(content)
        agreement = None
        if onnx:
            write_onnx(network, part / "model.onnx", {METADATA_KEY: description})
            agreement = compare(network, part / "model.onnx")
            if not agreement.holds:
                raise UserError(
                    f"{run.folder}: ONNX Runtime differs from PyTorch by {agreement.difference:.2g}"
                    f" in logits up to {agreement.greatest:.2g}, more than rounding: nothing is "
                    "written; other versions of onnxruntime or torch may cure it, or --no-onnx"
                )
        card = model_card(run, study, agreement, licence)
        (part / "README.md").write_text(card, encoding="utf-8")
    return Bundle(out, sum(tensor.numel() for tensor in tensors.values()), agreement)


def describe(run: RestoredRun) -> str:
    """JSON of what the tensors alone don't say: network, input, classes, where they come from."""
    model = run.config.model
    content: dict[str, Any] = {
        "variant": model.variant,
        "groups": model.groups,
        "lrn_after_pool": model.lrn_after_pool,
        "input_size": model.input_size,
        "mean": model.mean,
        "std": model.std,
        "classes": run.record["classes"],
        "chain": run.record["chain"],
        "run": run.folder.name,
    }
    return json.dumps(content, sort_keys=True)
