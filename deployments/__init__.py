"""What runs when and where: schedules, the local stack, the worker, the CLI."""

import gc

# Before anything heavy is imported. Every process of ours (and every run, which is a fork of one)
# begins with some ten thousand classes and functions that stay: with Python's own threshold of 700
# the collector walks them 500 times, which is an eighth of the start of each process.
gc.set_threshold(50_000, 10, 10)
