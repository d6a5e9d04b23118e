"""What the features see: pictures of a layer, their control, and numbers from both."""

from stagetransfer.explain.cka import linear_cka
from stagetransfer.explain.desalinet import deconvnet, desalinet, salinet
from stagetransfer.explain.edge_energy import EdgeRule, edge_energy, edge_share_of_area, edges
from stagetransfer.explain.feature_seed import Seed
from stagetransfer.explain.image_similarity import rank_correlation, ssim
from stagetransfer.explain.log_feature_images import LogFeatureImages
from stagetransfer.explain.randomisation import cascade, randomised

__all__ = [
    "EdgeRule",
    "LogFeatureImages",
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
