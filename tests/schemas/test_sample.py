"""What is worked out from a sample's figures, whatever they are."""

import math

from hypothesis import given
from hypothesis import strategies as st

from schemas.sample import Gpu, Host

#: The bounds of `Bytes`.
sizes = st.none() | st.integers(0, 2**63 - 1)


@given(total=sizes, used=sizes)
def test_a_ratio_is_finite_or_absent(total: int | None, used: int | None) -> None:
    gpu = Gpu(index=0, uuid="u", memory_total_bytes=total, memory_used_bytes=used)
    host = Host(
        memory_total_bytes=total,
        memory_available_bytes=used,
        cgroup_memory_limit_bytes=total,
        cgroup_memory_used_bytes=used,
    )
    for ratio in (gpu.memory_used_ratio, host.memory_used_ratio):
        assert ratio is None or math.isfinite(ratio)
    assert (gpu.memory_used_ratio is None) == (used is None or not total)
