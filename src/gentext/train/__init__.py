"""Training: `fit` for any model with a `loss`, and named recipes that train what the zoo ships.

`gentext.train.recipes` (the recipes themselves) is imported on its own: it stands above the chapters, this below.
"""

from gentext.train.config import FitConfig, TextFitConfig
from gentext.train.loop import FitResult, fit
from gentext.train.recipe import Recipe, run
from gentext.train.tensors import TensorData, TokenData
from gentext.zoo import Measurement

__all__ = ["FitConfig", "FitResult", "Measurement", "Recipe", "TensorData", "TextFitConfig", "TokenData", "fit", "run"]
