"""Figures, intervals and tests: arrays in, numbers out."""

from stagetransfer.statistics.figures import figures

__all__ = ["figures"]
