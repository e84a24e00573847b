"""The live figures: one Python file and one `.mjs` each, and the two hosts that answer them.

In a notebook the *kernel* answers: a figure takes the reader's own model, `LatentExplorer(my_vae)`.
On a published page the *browser* answers: `gentext export` writes every network of the zoo that a figure uses as ONNX,
and `host.mjs` runs it in a worker with onnxruntime-web. The front end is the same file in both and cannot tell
them apart.

    protocol.py    the messages between a front end and whoever answers it
    network.py     a torch module with named inputs and outputs, which is what a message asks for
    base.py        `LiveFigure`, an anywidget with a picture to show where nothing runs
    signs.py       the test signs that a figure carries
    denoiser.py    the network of a diffusion model, as its two figures ask it
    posters.py     what the still pictures share
    front.py       the front-end files: bundled into one string for the kernel, copied for the browser
    onnx_file.py   one network as one ONNX file
    export.py      all that the browser needs of a figure: networks, state, front end
    sphinx.py      how the book's pages show stored outputs: pictures, plotly, live figures
"""

from gentext.live.attention_explorer import AttentionExplorer
from gentext.live.base import LiveFigure
from gentext.live.density_playground import DensityPlayground
from gentext.live.diffusion_steps import DiffusionSteps
from gentext.live.embedding_map import EmbeddingMap
from gentext.live.gaussian_signs import GaussianSigns
from gentext.live.latent_explorer import LatentExplorer
from gentext.live.next_token import NextTokenExplorer
from gentext.live.sign_generator import SignGenerator
from gentext.live.timeline_explorer import TimelineExplorer

__all__ = [
    "FIGURES",
    "AttentionExplorer",
    "DensityPlayground",
    "DiffusionSteps",
    "EmbeddingMap",
    "GaussianSigns",
    "LatentExplorer",
    "LiveFigure",
    "NextTokenExplorer",
    "SignGenerator",
    "TimelineExplorer",
]

FIGURES: dict[str, type[LiveFigure]] = {
    "attention_explorer": AttentionExplorer,
    "density_playground": DensityPlayground,
    "diffusion_steps": DiffusionSteps,
    "embedding_map": EmbeddingMap,
    "gaussian_signs": GaussianSigns,
    "latent_explorer": LatentExplorer,
    "next_token": NextTokenExplorer,
    "sign_generator": SignGenerator,
    "timeline_explorer": TimelineExplorer,
}
