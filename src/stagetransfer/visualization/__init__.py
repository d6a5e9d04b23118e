"""What the features see: pictures of a layer, their control, and numbers from both."""

from stagetransfer.visualization.control import cascade, randomised
from stagetransfer.visualization.desalinet import deconvnet, desalinet, salinet
from stagetransfer.visualization.edges import EdgeRule, edge_energy, edge_share_of_area, edges
from stagetransfer.visualization.likeness import rank_correlation, ssim
from stagetransfer.visualization.seeds import Seed
from stagetransfer.visualization.similarity import linear_cka

__all__ = [
    "EdgeRule",
    "Seed",
    "cascade",
    "deconvnet",
    "desalinet",
    "edge_energy",
    "edge_share_of_area",
    "edges",
    "linear_cka",
    "randomised",
    "rank_correlation",
    "salinet",
    "ssim",
]
