"""The folder that a finished run is exported to: weights, their description, ONNX, model card."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save

from stagetransfer.errors import UserError, is_shown
from stagetransfer.export.model_card import model_card
from stagetransfer.export.onnx_file import Agreement, compare_with_onnx, require_onnx, write_onnx
from stagetransfer.files import atomic_folder, check_is_new, default_folder
from stagetransfer.models import METADATA_KEY
from stagetransfer.pipeline.restore import RestoredRun, restore_runs
from stagetransfer.runs.reader import read_runs
from stagetransfer.runs.study import Study


@dataclass(frozen=True)
class ExportedRun:
    """The written folder, the number of parameters and, with model.onnx, its check."""

    folder: Path
    parameters: int
    agreement: Agreement | None


def export_run(
    path: Path, out: Path | None = None, *, onnx: bool = True, licence: str = "", count: int = 2000
) -> ExportedRun:
    """Write the network of the one finished run at `path` into the new folder `out`.

    The files are model.safetensors, README.md (the model card) and perhaps model.onnx. They hold
    float32 weights and compute in float32, whatever the precision of the training. After an error
    nothing is left behind.

    Args:
        out: default: export/<run>, beside the folder runs/.
        onnx: also write model.onnx and compare it with PyTorch; a UserError if the results differ.
        licence: of the weights, for the model card; their owner chooses it.
        count: the number of bootstrap resamples for the model card's intervals.
    """
    if not is_shown(licence) or len(licence) > 200:
        raise UserError("--licence: give the name of a licence, in one line and short.")
    if onnx:
        require_onnx()
    runs = restore_runs([path])
    if len(runs) != 1:
        raise UserError(f"{path}: it holds {len(runs)} runs. Give one, such as {runs[0].folder}.")
    run = runs[0]
    out = out or default_folder(run.folder.parent.parent, "export", run.folder.name)
    check_is_new(out, "--out")
    study = Study(read_runs([run.folder])[0], count)
    network, description = run.network(), describe(run)
    with atomic_folder(out) as part:
        tensors = {name: tensor.contiguous() for name, tensor in network.net.state_dict().items()}
        # A single metadata key, because safetensors does not keep the order of several: the same
        # run would give different bytes each time, and a stage that starts from the file another
        # key in the stage store.
        (part / "model.safetensors").write_bytes(save(tensors, {METADATA_KEY: description}))
        agreement = None
        if onnx:
            write_onnx(network, part / "model.onnx", {METADATA_KEY: description})
            agreement = compare_with_onnx(network, part / "model.onnx")
            if not agreement.holds:
                raise UserError(
                    f"{run.folder}: ONNX Runtime differs from PyTorch by {agreement.difference:.2g}"
                    f" in logits up to {agreement.largest:.2g}, which is more than rounding. "
                    "Nothing was written. Try other versions of onnxruntime or torch, or --no-onnx."
                )
        card = model_card(run, study, agreement, licence)
        (part / "README.md").write_text(card, encoding="utf-8")
    return ExportedRun(out, sum(tensor.numel() for tensor in tensors.values()), agreement)


def describe(run: RestoredRun) -> str:
    """Return what the tensors alone do not tell, as JSON: network, input, classes and origin."""
    names = [
        "library", "name", "options", "variant", "groups", "lrn_after_pool", "input_size", "mean",
        "std",
    ]  # fmt: skip
    content = {name: getattr(run.config.model, name) for name in names}
    content |= {name: run.record[name] for name in ("classes", "chain")}
    return json.dumps({**content, "run": run.folder.name}, sort_keys=True)
