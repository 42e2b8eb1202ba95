"""Script: exports the input data of one evaluation tree as Rerun recordings. `--help` names the flags."""

import sys

from thesis_assets.recordings.exports import main

if __name__ == "__main__":
    sys.exit(main(("input_data",)))
