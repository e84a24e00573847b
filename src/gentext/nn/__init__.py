"""Layers and small parts used by more than one chapter."""

from gentext.nn.checks import check_codes, check_images, check_labels
from gentext.nn.classifier import ClassifierConfig, GlyphClassifier
from gentext.nn.conditioning import Conditioning, sinusoidal_embedding
from gentext.nn.convnet import ConvDecoder, ConvEncoder
from gentext.nn.dit import DiT, DiTConfig
from gentext.nn.gaussian import DiagonalGaussian, standard_normal_log_prob
from gentext.nn.linear import Linear
from gentext.nn.logistic import LogisticRegression
from gentext.nn.loss import Loss
from gentext.nn.mlp import mlp
from gentext.nn.norms import RMSNorm
from gentext.nn.pca import PCA
from gentext.nn.positions import Rotary, sinusoidal_positions
from gentext.nn.tokens import check_head_mask, check_tokens, next_token_loss
from gentext.nn.unet import UNet, UNetConfig

__all__ = [
    "PCA",
    "ClassifierConfig",
    "Conditioning",
    "ConvDecoder",
    "ConvEncoder",
    "DiT",
    "DiTConfig",
    "DiagonalGaussian",
    "GlyphClassifier",
    "Linear",
    "LogisticRegression",
    "Loss",
    "RMSNorm",
    "Rotary",
    "UNet",
    "UNetConfig",
    "check_codes",
    "check_head_mask",
    "check_images",
    "check_labels",
    "check_tokens",
    "mlp",
    "next_token_loss",
    "sinusoidal_embedding",
    "sinusoidal_positions",
    "standard_normal_log_prob",
]
