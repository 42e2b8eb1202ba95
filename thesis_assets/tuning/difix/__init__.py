"""The `difix` backend: single-step SD-turbo over render and reference. Its model, losses, checkpoint layout and conversions."""
