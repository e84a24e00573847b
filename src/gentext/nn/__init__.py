"""Layers and small parts used by more than one chapter."""

from gentext.nn.checks import check_codes, check_images, check_labels
from gentext.nn.classifier import ClassifierConfig, GlyphClassifier
from gentext.nn.convnet import ConvDecoder, ConvEncoder
from gentext.nn.gaussian import DiagonalGaussian, standard_normal_log_prob
from gentext.nn.logistic import LogisticRegression
from gentext.nn.loss import Loss
from gentext.nn.mlp import mlp
from gentext.nn.pca import PCA

__all__ = [
    "PCA",
    "ClassifierConfig",
    "ConvDecoder",
    "ConvEncoder",
    "DiagonalGaussian",
    "GlyphClassifier",
    "LogisticRegression",
    "Loss",
    "check_codes",
    "check_images",
    "check_labels",
    "mlp",
    "standard_normal_log_prob",
]
