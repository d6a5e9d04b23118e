"""The results of `stagetransfer visualize` in the report: CSV as tables, PNG as figures."""

from pathlib import Path

import pandas as pd

from stagetransfer.errors import UserError, first_line
from stagetransfer.pages import formatting as fmt
from stagetransfer.pages.blocks import Plot, Section, Table

MAX_ROWS = 60
SHOWN = {
    "figure6": "one row per image, with the input, a saliency map per condition, and as a control "
    "the map of random weights.",
    "control": "the same maps, with more and more blocks of the network at random weights.",
    "patches": "the test patches to which single channels respond most, above their maps.",
    "filters": "the filters of the first convolution of each run.",
    "edges": "the share of each map's energy at edges of the input; its numbers are in edges.csv.",
    "likeness": "how similar maps remain with random weights; its numbers are in likeness.csv.",
    "cka": "how similar the features of two networks are, by block; its numbers are in the table "
    "of this name.",
}


def visualization_section(folder: Path) -> Section:
    """Return every CSV and PNG file of a folder."""
    files = [file for file in sorted(folder.glob("*")) if file.is_file()]  # no pipe
    tables = [_table(file) for file in files if file.suffix == ".csv"]
    images = []
    for file in (file for file in files if file.suffix == ".png"):
        texts = (text for start, text in SHOWN.items() if file.stem.startswith(start))
        alt = f"{file.stem}: {next(texts, 'an image.')}"
        images.append(Plot(file.name, file.stem, "", file, alt))
    if not tables and not images:
        raise UserError(
            f"--visualization {folder}: no CSV or PNG file. Give a folder that stagetransfer "
            "visualize has written."
        )
    return Section("Visualization", [*tables, *images])


def _table(file: Path) -> Table:
    try:
        data = pd.read_csv(file)
    except ValueError as error:
        cause = first_line(error)
        raise UserError(f"{file}: not a valid CSV file ({cause}). Correct or remove it.") from error
    shown = data.head(MAX_ROWS)
    rows = [
        [fmt.number(value, 4) if isinstance(value, float) else str(value) for value in row]
        for row in shown.itertuples(index=False)
    ]
    text = [not pd.api.types.is_numeric_dtype(data[name]) for name in data.columns]
    left = text.index(False) if False in text else len(text)
    more = f"The first {MAX_ROWS} of {len(data)} rows; all are in the CSV file."
    notes = [more] if len(data) > MAX_ROWS else []
    columns = [str(name) for name in data.columns]
    return Table(f"visualization-{file.stem}", file.stem, columns, rows, notes, data, left)
