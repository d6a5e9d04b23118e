"""Figure 6 and what belongs to it, from finished runs: pictures, their control, their numbers."""

from stagetransfer.pictures.study import METHODS, Study, View, open_study
from stagetransfer.pictures.write import write_pictures

__all__ = ["METHODS", "Study", "View", "open_study", "write_pictures"]
