"""Keep the results of the study without its networks: an archive for each network and seed.

An archive holds what the study's tables and `stagetransfer report` read of a run: its settings, its
metrics and its predictions, with four digits of each probability.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pandas as pd

# A run is finished if it has metrics.json, which is extracted last.
FILES = ("config.yaml", "validation.csv", "predictions.csv", "metrics.json")


def pack(runs: list[Path], archive: Path) -> None:
    """Write an archive of finished run folders; the same runs give the same bytes."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    partial = archive.with_name(f".{archive.name}")
    with tarfile.open(partial, "w:xz", preset=9) as tar:
        for folder in sorted(runs):
            for name in filter(lambda name: (folder / name).is_file(), FILES):
                content = (folder / name).read_bytes()
                if name.endswith(".csv"):
                    content = _short(content)
                member = tarfile.TarInfo(f"runs/{folder.name}/{name}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    partial.replace(archive)


def unpack(archive: Path, outputs: Path) -> int:
    """Extract the runs that `outputs` lacks, and return their number."""
    with tarfile.open(archive) as tar:
        have = {file.parent.name for file in outputs.glob("runs/*/metrics.json")}
        lacking = [one for one in tar.getmembers() if Path(one.name).parent.name not in have]
        tar.extractall(outputs, lacking, filter="data")
    return len({Path(one.name).parent for one in lacking})


def _short(content: bytes) -> bytes:
    table = pd.read_csv(io.BytesIO(content), dtype={"id": str, "group": str}, keep_default_na=False)
    return table.to_csv(index=False, float_format="%.4g").encode()
