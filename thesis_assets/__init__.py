"""thesis_assets: from scene directories to a tuned DiFix checkpoint, its evaluation and its recordings.

Loading this package imports nothing heavy; every room imports what it needs inside its functions.
"""

__version__ = "0.1.0"
