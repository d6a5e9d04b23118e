"""Figures, their intervals and their comparisons: arrays in, numbers out."""

from stagetransfer.statistics.bootstrap import (
    Interval,
    difference,
    holm,
    interval,
    resampled_figures,
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
from stagetransfer.statistics.metrics import figures
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
    "convergence",
    "delong",
    "delong_covariance",
    "delong_difference",
    "detections",
    "difference",
    "ece_interval",
    "few_groups",
    "figures",
    "fit_temperature",
    "froc",
    "holm",
    "interval",
    "line",
    "mcclish",
    "mcnemar",
    "reliability",
    "resample",
    "resampled_figures",
    "resampled_froc",
    "resampled_roc",
    "roc",
    "sentence",
    "slope_difference",
    "slope_interval",
    "tempered",
]
