"""Do the choices that runs differ in matter, and how sure can one be?

In come tables of runs as the store's reader gives them, out go tables, comparisons and verdicts: no words, no
pictures. `selection` says which runs belong together, `outcomes` how each ended, `variants` what each variant reached,
`pairs` the differences seed by seed, `tests` how often chance makes such ones, `verdicts` what may be said of them,
`prospects` which of them further seeds can be expected to settle, `power` how small a difference is settled,
`designs` at which nuisance values variants are compared, what ladders and fractions compare, and which effects depend
on each other or cannot be told apart, `tuning` what variants chose in trials, `claims` what that makes of a source's
claims, `images` how far a difference would move with other test images, `attribution` what each factor has to do with
the outcome, `sizes` how it changes with how much was trained on, `exact` how sums are rounded. This room knows the
names of columns and what a study is (`tracking`), and nothing else.
docs/statistics.md has the rules, the formulae and what simulation says about them.
"""
