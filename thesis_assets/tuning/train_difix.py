"""The program of the `difix` backend, started by `accelerate launch`; what it does stands in `trainer_program`.

accelerate launch [flags] train_difix.py --dataset_path data.json --output_dir <run directory> --tracker_run_name <run>
    --pretrained_model_name_or_path stabilityai/sd-turbo --mv_unet --timestep 199
"""

import sys

from thesis_assets.tuning.backends import DIFIX
from thesis_assets.tuning.trainer_program import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], DIFIX))
