"""`stagetransfer split`: a data set in, its folds or its hold-out in a file that runs name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stagetransfer.errors import UserError

if TYPE_CHECKING:
    from stagetransfer.data.samples import Samples


def split(
    layout: Annotated[
        str, typer.Argument(help="As in domain/target: csv, folder, dld, ... or embedded.")
    ],
    root: Annotated[Path | None, typer.Argument(help="The data set's folder.")] = None,
    out: Annotated[Path, typer.Option(help="The CSV to write.")] = Path("splits.csv"),
    folds: Annotated[int | None, typer.Option(help="So many folds, by class and patient.")] = None,
    test: Annotated[float | None, typer.Option(help="Or one test set: this share.")] = None,
    validation: Annotated[
        float | None,
        typer.Option(help="With --test, the share of the rest to validate on. [default: 0.15]"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Another seed, other splits.")] = 0,
    option: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE for the layout's reader, as domain.target.options; repeat."),
    ] = None,
) -> None:
    """Writes k folds or a hold-out, stratified by class and never through a patient."""
    if (folds is None) == (test is None):
        raise UserError("give --folds K for cross-validation, or --test SHARE for one test set")
    if folds is not None and validation is not None:
        raise UserError(
            "--validation goes with --test; a run on folds cuts domain.target.validation_share "
            "from the folds that it doesn't test on"
        )

    import numpy as np

    from stagetransfer.data import splits
    from stagetransfer.data.folds import folds as divided
    from stagetransfer.data.split_files import write_split_file

    samples = _read(layout, root, option or [])
    groups = None if samples.groups is None else np.array(samples.groups)
    if folds is not None:
        column = "fold"
        parts = divided(samples.labels, groups, folds, seed, classes=samples.classes).tolist()
    else:
        assert test is not None
        split_of = np.full(len(samples), "train", dtype=object)
        rest = np.arange(len(samples))
        shares = {"test": test, "validation": 0.15 if validation is None else validation}
        for what, share in shares.items():
            kept, held = splits.hold_out(
                samples.labels[rest],
                None if groups is None else groups[rest],
                share,
                seed,
                what=what,
                hint="add patients; only domain.target.split_by=image, without a file,",
                classes=samples.classes,
            )
            split_of[rest[held]] = what
            rest = rest[kept]
        column, parts = "split", split_of.tolist()
    write_split_file(out, samples, column, parts)
    _show(samples, column, parts)
    typer.echo(f"written  {out}")


def _read(layout: str, root: Path | None, options: list[str]) -> Samples:
    import yaml

    from stagetransfer.data import TargetDataModule, layouts

    given: dict[str, object] = {}
    for text in options:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--option {text}: must be KEY=VALUE, as in table=labels.csv")
        try:
            given[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(
                f"--option {text}: the value can't be read; put it in quotes"
            ) from error
    if layout == "embedded":
        if root is not None:
            raise UserError(f"layout embedded is generated: it has no folder, leave {root} out")
        try:
            return TargetDataModule.generator(**given)
        except TypeError as error:
            raise UserError(f"layout embedded: {error}; there are seed, scale, size") from error
    if layout not in layouts.LAYOUTS:
        raise UserError(f"{layout}: no layout; there are embedded, {', '.join(layouts.LAYOUTS)}")
    if root is None:
        raise UserError(f"layout {layout}: give the data set's folder too")
    return layouts.read(layout, root, **given)


def _show(samples: Samples, column: str, parts: list[Any]) -> None:
    """Images of each class in each part, and its groups."""
    import pandas as pd

    from stagetransfer.data.samples import SPLITS

    order = [name for name in SPLITS if name in parts] if column == "split" else sorted({*parts})
    part = pd.Series(parts, name=column)
    label = pd.Series([samples.classes[number] for number in samples.labels])
    table = pd.crosstab(part, label).loc[order, list(samples.classes)]
    table["images"] = table.sum(axis=1)
    if samples.groups is not None:
        table["groups"] = pd.Series(samples.groups).groupby(part).nunique()
    table = table.reset_index()
    table.columns.name = None
    typer.echo(table.to_string(index=False))
