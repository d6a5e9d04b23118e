"""Metrics, their intervals and their comparisons: arrays in, numbers out."""

from stagetransfer.statistics.above_chance import macro_recall_interval
from stagetransfer.statistics.bootstrap_resamples import (
    Resamples,
    cross_seeds,
    few_groups,
    resample,
)
from stagetransfer.statistics.calibration import (
    apply_temperature,
    ece_interval,
    fit_temperature,
    reliability,
)
from stagetransfer.statistics.froc_curve import (
    CPM,
    Detections,
    collect_detections,
    froc,
    resample_cases,
    resampled_froc,
)
from stagetransfer.statistics.image_tests import (
    McNemar,
    delong,
    delong_covariance,
    delong_difference,
    mcnemar,
)
from stagetransfer.statistics.intervals import (
    Interval,
    difference,
    holm,
    interval,
    resampled_metrics,
)
from stagetransfer.statistics.metrics import classification_metrics
from stagetransfer.statistics.power import Needed, needed, plan
from stagetransfer.statistics.roc_curve import Curve, mcclish, resampled_roc, roc
from stagetransfer.statistics.sentences import NATS, PER_RATIO, POINTS, Unit, sentence
from stagetransfer.statistics.slope import (
    Line,
    RatioSeries,
    area_interval,
    fit_line,
    slope_interval,
)

__all__ = [
    "CPM", "NATS", "PER_RATIO", "POINTS", "Curve", "Detections", "Interval", "Line",
    "McNemar", "Needed", "RatioSeries", "Resamples", "Unit", "apply_temperature",
    "area_interval", "classification_metrics", "collect_detections",
    "cross_seeds", "delong", "delong_covariance", "delong_difference", "difference",
    "ece_interval", "few_groups", "fit_line", "fit_temperature", "froc", "holm", "interval",
    "macro_recall_interval", "mcclish", "mcnemar", "needed", "plan", "reliability", "resample",
    "resample_cases", "resampled_froc", "resampled_metrics", "resampled_roc", "roc", "sentence",
    "slope_interval",
]  # fmt: skip
