"""Script: exports the input data and all evaluation epochs of one tree as Rerun recordings. `--help` names the flags."""

import sys

from thesis_assets.recordings.exports import PARTS, main

if __name__ == "__main__":
    sys.exit(main(PARTS))
