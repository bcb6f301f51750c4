"""DeepConnotation: which emotion an image evokes, or a face shows."""

__version__ = "0.1.0"
