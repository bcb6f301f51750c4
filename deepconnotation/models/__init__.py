"""Functional Keras models, built by name through `registry.build`."""
