"""How good? Numbers for reconstructions, codes and samples, each checked against code no one here wrote."""

from gentext.metrics.codes import active_units, linear_probe
from gentext.metrics.features import glyph_features
from gentext.metrics.learning import learning_curves, share_of_each_class
from gentext.metrics.ngram import NGram
from gentext.metrics.pictures import psnr, sharpness
from gentext.metrics.samples import (
    Neighbours,
    PrecisionRecall,
    frechet_distance,
    frechet_limit,
    gaussian_frechet_distance,
    nearest_neighbours,
    precision_recall,
)
from gentext.metrics.text import bits_per_character, perplexity, stream_nats, text_nats

__all__ = [
    "NGram",
    "Neighbours",
    "PrecisionRecall",
    "active_units",
    "bits_per_character",
    "frechet_distance",
    "frechet_limit",
    "gaussian_frechet_distance",
    "glyph_features",
    "learning_curves",
    "linear_probe",
    "nearest_neighbours",
    "perplexity",
    "precision_recall",
    "psnr",
    "share_of_each_class",
    "sharpness",
    "stream_nats",
    "text_nats",
]
