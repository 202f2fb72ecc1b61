"""What every test shares: how far random tests search, and how a failure is run again."""

import os

from hypothesis import HealthCheck, settings

# Each failure prints the blob that reproduces it. Seeds differ on each run, on purpose: over time more is searched.
settings.register_profile(
    "default",
    deadline=None,
    derandomize=False,
    max_examples=100,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("quick", settings.get_profile("default"), max_examples=25)
settings.register_profile("long", settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
