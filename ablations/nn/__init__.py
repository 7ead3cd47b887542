"""LeNet-5 in numpy: one family of layers per file, `network` puts them together.

In come images as bytes, which `feeder` turns into the network's input by a `normalization`; out come what each layer
makes of them, losses, and gradients and curvatures of every parameter. This room knows the errors alone.
"""
