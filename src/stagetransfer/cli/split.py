"""`stagetransfer split`: write the folds or the held-out images of a data set to a split file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stagetransfer.cli.options import LayoutOptions, new_file, read_layout
from stagetransfer.errors import UserError

if TYPE_CHECKING:
    from stagetransfer.layouts.samples import Samples


def split(
    layout: Annotated[
        str,
        typer.Argument(
            help="Layout of the data set, as in domain/target: csv, folder, dld, embedded, ..."
        ),
    ],
    root: Annotated[Path | None, typer.Argument(help="Folder of the data set.")] = None,
    out: Annotated[Path, typer.Option(help="The CSV to write.", callback=new_file)] = Path(
        "splits.csv"
    ),
    folds: Annotated[int | None, typer.Option(help="Number of folds for cross-validation.")] = None,
    test: Annotated[
        float | None,
        typer.Option(help="Write one test set with this share of the images, instead of folds."),
    ] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="With --test: share of the other images for validation. (default: 0.15)"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random split.")] = 0,
    option: LayoutOptions = None,
) -> None:
    """Write folds, or a test and a validation set, stratified by class and split by patient."""
    if (folds is None) == (test is None):
        raise UserError("give --folds K for cross-validation, or --test SHARE for one test set")
    if folds is not None and validation is not None:
        raise UserError(
            f"--validation {validation}: it needs --test. With folds, a run takes "
            "domain.target.validation_share of the folds that it does not test on."
        )

    import numpy as np

    from stagetransfer.data.split_files import write_split_file
    from stagetransfer.layouts.samples import UNKNOWN_GROUPS

    samples = read_layout(layout, root, option or [])
    if folds is not None:
        from stagetransfer.data.folds import assign_folds

        found = assign_folds(samples.labels, samples.groups, folds, seed, classes=samples.classes)
        column, parts = "fold", found.tolist()
    else:
        from stagetransfer.data.holdout import split_samples

        rows = split_samples(
            replace(samples, splits=None),  # the splits of the data set itself do not count
            test_share=test,
            validation_share=0.15 if validation is None else validation,
            by="group",
            seed=seed,
            hint="add patients; only domain.target.split_by=image, without a file,",
        )
        names = {row: name for name, of_split in rows.items() for row in of_split.tolist()}
        column, parts = "split", [names[row] for row in range(len(samples))]
    from stagetransfer.data.copies import Copies
    from stagetransfer.layouts import check_images

    digests = check_images(samples)
    places = np.array(parts, dtype=str)
    sides = {str(part): np.flatnonzero(places == str(part)) for part in {*parts}}
    write_split_file(out, samples, column, parts)
    _show(samples, column, parts)
    unknown = [UNKNOWN_GROUPS] if samples.groups is None and root is not None else []
    for line in [*Copies.among(samples, sides, digests).lines, *unknown]:
        typer.echo(f"warning: {line}", err=True)
    typer.echo(f"written  {out}")


def _show(samples: Samples, column: str, parts: list[Any]) -> None:
    """Print the number of images of each class in each part, and of its groups."""
    import pandas as pd

    from stagetransfer.names import SPLITS

    order = [name for name in SPLITS if name in parts] if column == "split" else sorted({*parts})
    part = pd.Series(parts, name=column)
    label = pd.Series([samples.classes[number] for number in samples.labels])
    table = pd.crosstab(part, label).loc[order, list(samples.classes)]
    table["images"] = table.sum(axis=1)
    if samples.groups is not None:
        table["groups"] = pd.Series(samples.groups).groupby(part).nunique()
    typer.echo(table.reset_index().rename_axis(columns=None).to_string(index=False))
