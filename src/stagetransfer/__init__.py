"""StageTransfer: multi-stage transfer learning for texture-like images, lung CT first."""

__version__ = "0.1.0"
