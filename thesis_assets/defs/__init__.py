"""Dagster nouns only: partitions, assets, checks, IO manager, resources, jobs, sensors, schedules."""

import gc
import warnings

import dagster as dg

# What importing Dagster left is no garbage: going through it again while our modules load costs a tenth of their time.
gc.freeze()

# Dagster warns at every use of what may still change, some 60 times a command. What we use is pinned and tested.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
