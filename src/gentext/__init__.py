"""gentext: the package behind the book. Its top level reads like the table of contents."""
