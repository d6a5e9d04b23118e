"""Figures, their intervals and their comparisons: arrays in, numbers out."""

from stagetransfer.statistics.bootstrap import (
    Interval,
    difference,
    holm,
    interval,
    resampled_figures,
)
from stagetransfer.statistics.figures import figures
from stagetransfer.statistics.mcnemar import McNemar, mcnemar
from stagetransfer.statistics.resampling import Resamples, few_groups, resample
from stagetransfer.statistics.slope import Line, Runs, line, slope_difference, slope_interval
from stagetransfer.statistics.words import NATS, PER_RATIO, POINTS, Unit, sentence

__all__ = [
    "NATS",
    "PER_RATIO",
    "POINTS",
    "Interval",
    "Line",
    "McNemar",
    "Resamples",
    "Runs",
    "Unit",
    "difference",
    "few_groups",
    "figures",
    "holm",
    "interval",
    "line",
    "mcnemar",
    "resample",
    "resampled_figures",
    "sentence",
    "slope_difference",
    "slope_interval",
]
