"""A trained network and a data set come in, further outcomes of its run go out: metrics, and tags by which those that
were measured on the same pictures are known.

`measure` goes through the parts: `calibration`, `shift`, `rejection`. `reading` is what a network makes of images,
`non_digits` draws what is none. This room knows `nn` and `datasets`, and nothing of what a run is: another choice of
parts leaves a run the same.
"""
