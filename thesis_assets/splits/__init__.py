"""Group hold-out over a manifest, leakage, data.json."""
