"""Running functions and commands here or elsewhere: process groups, logs, progress, locks. Knows nothing of scenes."""
