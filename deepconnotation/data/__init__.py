"""One table of images (the manifest) from its sources to tf.data."""
