"""The graph as values: assets, cells, levels and checks as tables, the settings and trees as one value, and the plan of all cells.

May import Dagster's instance and partition types. Does not belong here: doing anything with it (`operations/`), and what Dagster is told of it (`defs/`).
"""

import gc
import warnings

import dagster as dg

# What importing Dagster left is no garbage: going through it again while our modules load costs a tenth of their time.
gc.freeze()

# Dagster warns at every use of what may still change, some 60 times a command. What we use is pinned and tested.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
