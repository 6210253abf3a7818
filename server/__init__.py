"""The HTTP edge, the command line and the composition root: the only room that knows the others."""

__version__ = "0.1.0"
