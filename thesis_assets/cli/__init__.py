"""The command line `thesis-assets`."""
