"""The trainer programs, the launch command, checkpoints: verify, select, hand off."""
