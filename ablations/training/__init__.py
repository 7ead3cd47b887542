"""Training a network: a recipe in, one frozen record per epoch out.

`recipe.assemble` builds a `Recipe` from a configuration; `loop.train` follows it, and `loop.evaluate` tells how good
the network has become. This room knows nn/, datasets/ and the errors, and neither the command line nor a tracker.
"""
