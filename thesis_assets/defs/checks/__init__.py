"""The asset checks, one module a group."""
