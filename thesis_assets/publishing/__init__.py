"""Hugging Face dataset repos."""
