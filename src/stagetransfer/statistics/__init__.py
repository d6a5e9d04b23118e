"""Figures, their intervals and their comparisons: arrays in, numbers out."""

from stagetransfer.statistics.bootstrap import (
    Interval,
    difference,
    holm,
    interval,
    resampled_metrics,
)
from stagetransfer.statistics.calibration import (
    Reliability,
    ece_interval,
    fit_temperature,
    reliability,
    tempered,
)
from stagetransfer.statistics.convergence_speed import Convergence, convergence
from stagetransfer.statistics.delong import DeLong, delong, delong_covariance, delong_difference
from stagetransfer.statistics.froc_curve import (
    CPM,
    Detections,
    case_resamples,
    detections,
    froc,
    resampled_froc,
)
from stagetransfer.statistics.mcnemar import McNemar, mcnemar
from stagetransfer.statistics.metrics import classification_metrics
from stagetransfer.statistics.resampling import Resamples, few_groups, resample
from stagetransfer.statistics.roc_curve import Curve, mcclish, resampled_roc, roc
from stagetransfer.statistics.sentences import NATS, PER_RATIO, POINTS, Unit, sentence
from stagetransfer.statistics.slope import Line, Runs, line, slope_difference, slope_interval

__all__ = [
    "CPM",
    "NATS",
    "PER_RATIO",
    "POINTS",
    "Convergence",
    "Curve",
    "DeLong",
    "Detections",
    "Interval",
    "Line",
    "McNemar",
    "Reliability",
    "Resamples",
    "Runs",
    "Unit",
    "case_resamples",
    "classification_metrics",
    "convergence",
    "delong",
    "delong_covariance",
    "delong_difference",
    "detections",
    "difference",
    "ece_interval",
    "few_groups",
    "fit_temperature",
    "froc",
    "holm",
    "interval",
    "line",
    "mcclish",
    "mcnemar",
    "reliability",
    "resample",
    "resampled_froc",
    "resampled_metrics",
    "resampled_roc",
    "roc",
    "sentence",
    "slope_difference",
    "slope_interval",
    "tempered",
]
