"""Predictions of a trained network on patches, slices and series, with calibrated probabilities.

Research use, not a diagnosis.
"""

from stagetransfer.inference.calibrated_classifier import CalibratedClassifier, WindowPredictions
from stagetransfer.inference.prediction_input import PredictionInput, find_input
from stagetransfer.inference.reference_features import Reference, open_reference
from stagetransfer.inference.slice_prediction import SlicePrediction, predict_slice
from stagetransfer.inference.write_predictions import PredictionOptions, write_predictions

__all__ = [
    "CalibratedClassifier", "PredictionInput", "PredictionOptions", "Reference", "SlicePrediction",
    "WindowPredictions", "find_input", "open_reference", "predict_slice", "write_predictions",
]  # fmt: skip
