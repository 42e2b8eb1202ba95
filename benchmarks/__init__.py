"""Benchmarks: each row is a measured value, mostly as a ratio to a baseline measured beside it in the same run."""

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = (
        "1"  # "one core" means one; the libraries read it when they load, hence before any other import
    )
