"""Nothing lost, nothing let in: seeded trials of kills, lacks, hostile files and long use (docs/reliability.md).

`python -m tests.reliability` (or `make torture`) runs all of them, going on where it stopped; the
tests here run a few.
"""
