"""Side-by-side measurements against peers: `python -m benchmarks core` and `python -m benchmarks accuracy`."""

from benchmarks import timing as timing  # first: it pins the threads before numpy or torch start theirs
