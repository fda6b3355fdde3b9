"""Settings of property tests: a busy machine must not fail one, and CI tries the same examples each time.

Other examples each time are for those with time to look at what they find; what fails can be tried again by the
line that is printed.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from lab.testing import must_run_for_real

settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=must_run_for_real(),
    print_blob=True,
)
settings.load_profile("unhurried")
