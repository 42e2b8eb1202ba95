"""What holds for all tests: property tests have no time limit an example, since a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("house", deadline=None)
settings.load_profile("house")
