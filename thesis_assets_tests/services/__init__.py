"""Real services that tests start on loopback and end again: one file a service."""
