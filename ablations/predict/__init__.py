"""Reading digits with a trained network: a run of the store and pictures in, digits out.

`choosing` finds the run that is meant, `model` is its network with the normalisation of its input, saved with all that
it needs to be loaded anywhere, `serving` is what MLflow runs, and `digit_image` makes of a picture what MNIST would
have. This room knows nn/, tracking/, plots and how datasets/ decodes a file; the model itself knows nn/, and of
tracking/ alone how arrays are read that anybody may have written.
"""
