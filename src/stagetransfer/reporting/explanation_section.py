"""What another command left in a folder, taken into the report: CSV as tables, PNG as plots."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd

from stagetransfer.errors import UserError
from stagetransfer.reporting.blocks import Block, Plot, Section, Table, number

MOST_ROWS = 60


def visualization_section(folder: Path, out: Path) -> Section:
    """A section with every CSV and PNG of the folder, in the order of their names.

    The pictures are copied to out/visualization/. Raises UserError if there is none, or a CSV
    can't be read.
    """
    files = sorted(folder.glob("*.csv")) + sorted(folder.glob("*.png"))
    if not files:
        raise UserError(f"--visualization {folder}: no CSV and no PNG there")
    blocks: list[Block] = [
        _table(file) if file.suffix == ".csv" else _picture(file, out) for file in files
    ]
    return Section("Visualization", blocks)


def _table(file: Path) -> Table:
    try:
        data = pd.read_csv(file)
    except (ValueError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: can't be read as CSV ({error})") from error
    shown = data.head(MOST_ROWS)
    rows = [[_cell(value) for value in row] for row in shown.itertuples(index=False)]
    words = [not pd.api.types.is_numeric_dtype(data[name]) for name in data.columns]
    more = f"The first {MOST_ROWS} of {len(data)} rows; all are in the CSV."
    return Table(
        f"visualization-{file.stem}",
        file.stem,
        [str(name) for name in data.columns],
        rows,
        [more] if len(data) > MOST_ROWS else (),
        left=words.index(False) if False in words else len(words),
        data=data,
    )


def _picture(file: Path, out: Path) -> Plot:
    copy = Path("visualization") / file.name
    (out / copy).parent.mkdir(parents=True, exist_ok=True)
    if (out / copy).resolve() != file.resolve():
        shutil.copyfile(file, out / copy)
    return Plot(file.stem, [copy], "")


def _cell(value: object) -> str:
    return number(value, 4) if isinstance(value, float) else str(value)
