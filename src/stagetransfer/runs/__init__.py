"""Finished runs on disk: read, written, checked for comparability and gathered into a study."""

from stagetransfer.runs.comparability import check_comparable
from stagetransfer.runs.gather import Gathered
from stagetransfer.runs.predictions import Predictions
from stagetransfer.runs.reader import find_runs, read_runs
from stagetransfer.runs.roc_study import RocMetrics, RocStudy
from stagetransfer.runs.run import Run, UnfinishedRun
from stagetransfer.runs.study import Study
from stagetransfer.runs.training_curves import validation_curve
from stagetransfer.runs.writer import write_result

__all__ = [
    "Gathered", "Predictions", "RocMetrics", "RocStudy", "Run", "Study", "UnfinishedRun",
    "check_comparable", "find_runs", "read_runs", "validation_curve", "write_result",
]  # fmt: skip
