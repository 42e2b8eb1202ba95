"""The scene contract, the catalog of scenes on disk, group rules."""
