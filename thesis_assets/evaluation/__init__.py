"""Predictions, the novel-view and pose tasks, protocol: numbers and images of one cell, nothing across cells."""
