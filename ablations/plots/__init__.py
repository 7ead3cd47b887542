"""Every figure, each family in a file with the numbers that it draws.

In come tables, out go matplotlib's figures. `style` has colours, markers and sizes, `axes` what figures have in common,
`run` the figures of one run, which know nothing of comparisons, `curves` learning curves over seeds, `effects` and
`factors` what choices matter, `sizes` the outcome against how much was trained on, `values` what runs reached,
`disagreements` images that two variants read differently.
This room alone draws; it knows `comparison` and the names of columns. Figures are made without pyplot, so that nothing
stays open and threads do not meet; seaborn, which takes two seconds to import, waits until a figure needs it.
"""
