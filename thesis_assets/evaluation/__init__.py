"""Predictions, the novel-view and pose tasks, protocol, leaderboard."""
