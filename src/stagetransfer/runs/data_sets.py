"""The data sets of runs that share an outputs folder: only runs of one can be compared.

A data set is the target's images and classes, and the split file that is applied to them, if any.
"""

import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from stagetransfer.runs.run import Run, UnfinishedRun


def by_data_set(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Return the runs of each data set, by a name for people, which may be part of a path.

    The name is that of the data set's folder, and of the split file. Data sets of one name get a
    part of a hash, so a name depends on what else is there.
    """
    found: dict[str, dict[str, list[Run]]] = {}
    for run in runs:
        splits = (run.splits or {}).get("digest")
        key = sha256(repr((run.fingerprint, run.classes, splits)).encode()).hexdigest()[:6]
        found.setdefault(_name(run.config), {}).setdefault(key, []).append(run)
    return {
        name if len(of_name) == 1 else f"{name}-{key}": of_key
        for name, of_name in found.items()
        for key, of_key in of_name.items()
    }


def of_data_set(run: UnfinishedRun, named: Mapping[str, Sequence[Run]]) -> str | None:
    """Return the data set of a run without a record, by its settings; None: no run has them.

    If several have the same folder, it is the one whose settings agree most.
    """
    alike = {
        name: sum(str(run.config.get(key)) == str(x) for key, x in runs[0].config.items())
        for name, runs in named.items()
        if _name(runs[0].config) == _name(run.config)
    }
    return max(alike, key=alike.__getitem__, default=None)


def _name(config: Mapping[str, Any]) -> str:
    domain = f"domain.{(config.get('chain') or ['target'])[-1]}"
    root, split_file = config.get(f"{domain}.root"), config.get(f"{domain}.split_file")
    text = Path(str(root)).name if root else str(config.get(f"{domain}.layout", "embedded"))
    if split_file:
        text += f"-{Path(str(split_file)).stem}"
    return re.sub(r"[^A-Za-z0-9_.+]+", "-", text)[:60].strip("-.") or "data"
