"""The demo scenes: a synthetic studio, and real stereo photographs."""
