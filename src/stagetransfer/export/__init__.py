"""A trained network for others: safetensors with a model card, and ONNX that is checked."""

from stagetransfer.export.bundle import Bundle, export_run

__all__ = ["Bundle", "export_run"]
