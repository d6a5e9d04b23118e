"""Trained networks for use elsewhere: safetensors with a model card, and ONNX checked by running.

Use `export_run`, or the command `stagetransfer export`.
"""

from stagetransfer.export.bundle import ExportedRun, export_run

__all__ = ["ExportedRun", "export_run"]
