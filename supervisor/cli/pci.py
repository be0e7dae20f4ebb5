"""The NVIDIA cards in this machine as the PCI bus tells them, with or without a driver."""

from pathlib import Path
from typing import Final

DEVICES: Final = Path("/sys/bus/pci/devices")
_NVIDIA: Final = "0x10de"
#: Display controllers: VGA (0x0300) and 3D (0x0302); the PCI ID database's class 03.
_DISPLAY: Final = "0x03"


def nvidia_cards(devices: Path = DEVICES) -> list[str]:
    """Their addresses, such as `0000:65:00.0`; none where there is no PCI bus, or it may not be looked at."""
    try:
        found = sorted(devices.iterdir())
    except OSError:
        return []
    return [one.name for one in found if _read(one / "vendor") == _NVIDIA and _read(one / "class").startswith(_DISPLAY)]


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip().lower()
    except OSError:
        return ""
