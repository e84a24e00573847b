"""Layers and small parts used by more than one chapter."""

from gentext.nn.checks import check_codes, check_images, check_labels
from gentext.nn.classifier import ClassifierConfig, GlyphClassifier
from gentext.nn.convnet import ConvDecoder, ConvEncoder
from gentext.nn.gaussian import DiagonalGaussian, standard_normal_log_prob
from gentext.nn.logistic import LogisticRegression
from gentext.nn.loss import Loss
from gentext.nn.mlp import mlp
from gentext.nn.norms import RMSNorm
from gentext.nn.pca import PCA
from gentext.nn.positions import Rotary, sinusoidal_positions
from gentext.nn.tokens import check_head_mask, check_tokens, next_token_loss

__all__ = [
    "PCA",
    "ClassifierConfig",
    "ConvDecoder",
    "ConvEncoder",
    "DiagonalGaussian",
    "GlyphClassifier",
    "LogisticRegression",
    "Loss",
    "RMSNorm",
    "Rotary",
    "check_codes",
    "check_head_mask",
    "check_images",
    "check_labels",
    "check_tokens",
    "mlp",
    "next_token_loss",
    "sinusoidal_positions",
    "standard_normal_log_prob",
]
