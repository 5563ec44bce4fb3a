"""Records: `record` is the schema, `model` the file that was measured, `machine` what it ran on.

`stats` computes medians and intervals, `comparison` finds regressions between two runs.
"""
