"""The Rerun exporters and their blueprints, runnable as scripts."""
