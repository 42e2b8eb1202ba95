"""Rerun recordings of a tree: what is logged, blueprints, verification, pictures, catalog."""
