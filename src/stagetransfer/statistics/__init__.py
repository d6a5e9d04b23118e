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
from stagetransfer.statistics.convergence import Convergence, convergence
from stagetransfer.statistics.delong import DeLong, delong, delong_covariance, delong_difference
from stagetransfer.statistics.figures import figures
from stagetransfer.statistics.froc import (
    CPM,
    Detections,
    case_resamples,
    detections,
    froc,
    resampled_froc,
)
from stagetransfer.statistics.mcnemar import McNemar, mcnemar
from stagetransfer.statistics.resampling import Resamples, few_groups, resample
from stagetransfer.statistics.roc import Curve, mcclish, resampled_roc, roc
from stagetransfer.statistics.slope import Line, Runs, line, slope_difference, slope_interval
from stagetransfer.statistics.words import NATS, PER_RATIO, POINTS, Unit, sentence

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
