"""Settings of all tests: quick builds, one thread, idle threads that sleep. Set before anything is imported."""

import os

os.environ.setdefault("COMPOSER_OPT", "-O1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
