"""What may come of two cards and a host, for what must hold of every policy."""

from hypothesis import strategies as st

from schemas.sample import GpuBackend, Sample
from tests.handlers.samples import gpu, host, sample

temperatures = st.one_of(st.none(), st.floats(20, 110), st.sampled_from([62.0, 65, 72, 75, 82, 85, 85.1, 87, 90]))
memories = st.one_of(st.none(), st.floats(0, 110), st.sampled_from([67.0, 70, 82, 85, 92, 95, 95.1, 97]))


@st.composite
def courses(draw: st.DrawFn) -> list[Sample]:
    """Half an hour at most, in strides from 0.1 to 100 s, of two cards and the host, with every kind of trouble."""
    second, boot, course = 1000.0, "boot-a", []
    for _ in range(draw(st.integers(1, 40))):
        second += draw(st.sampled_from([0.1, 1, 1, 1, 2, 10, 31, 61, 100]))
        if draw(st.integers(0, 30)) == 0:
            second, boot = 1.0, boot + "x"
        cards = [
            gpu(
                draw(temperatures),
                draw(memories),
                index=index,
                reading=draw(st.sampled_from(["fresh", "fresh", "fresh", "fresh", "blind", "lost"])),
                temperature_margin_celsius=draw(st.one_of(st.none(), st.floats(-20, 60))),
            )
            for index in range(draw(st.integers(0, 2)))
        ]
        course.append(
            sample(
                second,
                cards,
                figures=host(draw(st.floats(0, 100))) if draw(st.booleans()) else None,
                backend=draw(st.sampled_from([GpuBackend("ok"), GpuBackend("ok"), GpuBackend("unavailable", "why")])),
                gap=draw(st.integers(0, 9)) == 0,
                scope=draw(st.sampled_from(["full", "full", "fast"])),
                interval_s=draw(st.sampled_from([100.0, 1.0])),
                boot_id=boot,
            )
        )
    return course
