"""`stagetransfer phantom`: whole slices of the embedded phantom, with their ground truth."""

from pathlib import Path
from typing import Annotated

import typer

from stagetransfer.cli.options import new_folder
from stagetransfer.errors import require_extra
from stagetransfer.files import atomic_folder, check_is_new


def phantom(
    out: Annotated[Path, typer.Argument(help="A new folder.", callback=new_folder)],
    patients: Annotated[
        int, typer.Option(min=1, max=60, help="Number of patients of the embedded test set.")
    ] = 12,
    slices: Annotated[int, typer.Option(min=1, max=1000, help="Number of slices per patient.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed, as domain.target.options.seed.")] = 0,
    size: Annotated[int, typer.Option(min=256, max=4096, help="Side of a slice in pixels.")] = 512,
) -> None:
    """Write generated slices of seven lung patterns and their ground truth, as NIfTI."""
    with require_extra("ct"):
        from stagetransfer.formats.nifti import write_nifti

    import numpy as np

    from stagetransfer.synthetic.lung import CLASSES
    from stagetransfer.synthetic.lung_slices import lung_slice, patients_of_test

    check_is_new(out)
    with atomic_folder(out) as part:
        for kind in ("slices", "truth", "lungs"):
            (part / kind).mkdir()
        for number in patients_of_test(patients):
            drawn = [lung_slice(seed, number, index, size) for index in range(slices)]
            name, side = f"{drawn[0].patient}.nii.gz", drawn[0].spacing
            truth = np.stack([one.truth for one in drawn])
            for kind, planes in (
                ("slices", np.stack([one.hu for one in drawn])),
                ("truth", (truth + 1).astype(np.uint8)),
                ("lungs", (truth >= 0).astype(np.uint8)),
            ):
                write_nifti(part / kind / name, planes, (10.0, side, side))
            typer.echo(f"{drawn[0].patient}: {slices} slices of {size} x {size}, {side:.3f} mm")
        rows = [f"{value},{name}" for value, name in enumerate(CLASSES, 1)]
        (part / "labels.csv").write_text("\n".join(["value,label", *rows]) + "\n", "utf-8")
    typer.echo(f"written  {out}")
