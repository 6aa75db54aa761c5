"""How fast each step is beside what users would write otherwise: `make bench`, or `python -m benchmarks.speed`.

A step is a module of this package with a `STEP` (see `step.py`). Both sides run on the same generated input, each time
in a process of its own and in turn, so that what else the machine does meets both; medians go to
`docs/results/benchmarks.json`.
"""
