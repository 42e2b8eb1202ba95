"""The program of the `tiny` backend, started by `accelerate launch`; what it does stands in `trainer_program`.

accelerate launch [flags] train_tiny.py --dataset_path data.json --output_dir <run directory> --tracker_run_name <run>
"""

import sys

from thesis_assets.tuning.backends import TINY
from thesis_assets.tuning.trainer_program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], TINY))
