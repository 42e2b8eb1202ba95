"""Across cells: leaderboard, differences, compare page, citations, plots. Values in, pages out."""
