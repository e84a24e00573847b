"""gentext: the package behind the book. Its top level reads like the table of contents."""

from importlib.metadata import version

from gentext._device import device

__version__ = version("gentext")

__all__ = ["__version__", "device"]
