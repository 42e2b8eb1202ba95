"""Renderers of imperfect views behind one protocol."""
