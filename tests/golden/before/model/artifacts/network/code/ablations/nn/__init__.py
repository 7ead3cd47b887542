"""LeNet-5 in numpy: one family of layers per file, `network` puts them together."""
