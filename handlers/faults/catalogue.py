"""What an XID means and what to do about it, after NVIDIA's catalogue (docs.nvidia.com/deploy/xid-errors).

Its words are ours. A number that is not here has no advice there, or none yet: it is unknown, which is not harmless.
"""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from schemas.event import FaultAction, FaultClass
from schemas.sample import RecoveryAction


class Entry(Struct, frozen=True):
    """One number of the catalogue.

    `means` is empty where it has nothing that a person could use; `advice` is there where it says more than the action.
    """

    action: FaultAction
    means: str = ""
    advice: str = ""


def _each(codes: Iterable[int], action: FaultAction, means: str, advice: str = "") -> dict[int, Entry]:
    return {code: Entry(action, means, advice) for code in codes}


_NVLINK: Final = "see nvidia-smi nvlink -e -i {pci}; where it comes again, reset the card, then have its links checked"
_EARLIER: Final = "look for the XID that came before it, on this card or another: that one counts"


CATALOGUE: Final[dict[int, Entry]] = {
    # the program's own doing, or contained to it
    8: Entry("restart_program", "the card stopped processing"),
    **_each((11, 25, 32), "restart_program", "invalid or corrupted commands"),
    13: Entry("restart_program", "graphics engine exception, mostly an access out of bounds"),
    31: Entry("restart_program", "memory page fault, mostly an illegal address"),
    **_each((39, 40, 41, 70, 71, 72, 75, 76, 77, 85, *range(126, 136)), "restart_program", "copy engine error"),
    60: Entry("restart_program", "video processor exception"),
    **_each((68, 83, 84, 88, 89, 96, 97, 98), "restart_program", "video decoder error"),
    69: Entry("restart_program", "graphics engine class error"),
    80: Entry("restart_program", "corrupted data sent to the card"),
    **_each((82, *range(99, 106)), "restart_program", "JPEG engine error"),
    **_each((86, 139), "restart_program", "optical flow engine error"),
    94: Entry("restart_program", "memory error, contained to the program"),
    # the card
    46: Entry("reset_gpu", "the card stopped processing"),
    62: Entry("reset_gpu", "internal micro-controller halted"),
    64: Entry("reset_gpu", "memory remapping failed"),
    95: Entry("reset_gpu", "memory error, not contained"),
    109: Entry("reset_gpu", "context switch timed out"),
    110: Entry("reset_gpu", "security fault"),
    119: Entry("reset_gpu", "the card's system processor (GSP) does not answer"),
    120: Entry("reset_gpu", "the card's system processor (GSP) failed"),
    136: Entry("reset_gpu", "NVLink training failed"),
    140: Entry("reset_gpu", "ECC error that was not recovered"),
    143: Entry("reset_gpu", "the card did not initialise"),
    155: Entry("reset_gpu", "NVLink error"),
    156: Entry("reset_gpu", "a resource is to be retired"),
    158: Entry("reset_gpu", "fatal timeout of the card"),
    # the machine
    79: Entry("reboot_host", "the card has fallen off the bus"),
    151: Entry("restart_vm", "key rotation failed"),
    # nothing to do by itself; another XID may tell why
    14: Entry("log_only"),
    **_each((37, 38), "log_only", "driver firmware error"),
    43: Entry("log_only", "a channel was reset, and its program has ended or will"),
    44: Entry("log_only", "graphics engine fault at a context switch"),
    63: Entry("log_only", "a row of memory is to be remapped"),
    **_each((66, 67), "log_only", "illegal access by the driver"),
    92: Entry("log_only", "many corrected memory errors"),
    93: Entry("log_only", "the card's configuration memory is worn"),
    **_each((106, 107), "log_only", "test message"),
    **_each((108, 137), "log_only", "NVLink fault that another card caused"),
    121: Entry("log_only", "chip-to-chip link error"),
    141: Entry("log_only", "CUDA fast path error"),
    **_each((152, 153), "log_only", "deep learning accelerator error"),
    157: Entry("log_only", "a resource could not be retired"),
    160: Entry("log_only", "a channel was retired"),
    161: Entry("log_only", "a channel could not be retired"),
    # it depends
    45: Entry("follow_procedure", "programs were removed after an earlier error", _EARLIER),
    48: Entry(
        "follow_procedure",
        "double bit ECC error",
        "let what runs there end, reset the card, then see that it holds: nvidia-smi -q -d ECC,ROW_REMAPPER -i {pci}",
    ),
    54: Entry("follow_procedure", "auxiliary power is not connected", "have the card's power cables checked"),
    **_each((74, *range(144, 151)), "follow_procedure", "NVLink error", _NVLINK),
    78: Entry("follow_procedure", "vGPU could not start", "update the vGPU software of host and guest together"),
    159: Entry("follow_procedure", "interconnect error", _EARLIER),
    154: Entry("ask_driver", "the driver's verdict changed"),
    142: Entry("contact_support", "video encoder error"),
    # in the catalogue, without advice
    **_each((162, 163, 164, 165), "find_out", "power smoothing"),
    **_each((166, 170), "find_out", "NVLink encryption error"),
    167: Entry("find_out", "PCIe timeout"),
    168: Entry("find_out", "the card has less memory than before"),
    169: Entry("find_out", "internal micro-controller halted"),
    171: Entry("find_out", "uncorrectable error of the card's DRAM"),
    172: Entry("find_out", "uncorrectable error of the card's SRAM"),
}
UNKNOWN: Final = Entry("find_out")

#: What the driver's own verdict asks for.
VERDICTS: Final[dict[RecoveryAction, FaultAction]] = {
    "none": "log_only",
    "gpu_reset": "reset_gpu",
    "node_reboot": "reboot_host",
    "drain_p2p": "drain_p2p",
    "drain_and_reset": "drain_and_reset",
    "recover_imex": "recover_imex",
    "bus_reset": "reset_bus",
    "system_reboot": "reboot_host",
    "unknown": "ask_driver",
}

#: Whose fault it is, by what is to be done.
CLASSES: Final[dict[FaultAction, FaultClass]] = {
    "restart_program": "application",
    "reset_gpu": "gpu",
    "reset_bus": "gpu",
    "drain_p2p": "gpu",
    "drain_and_reset": "gpu",
    "reboot_host": "host",
    "restart_vm": "host",
    "recover_imex": "host",
    "log_only": "notice",
    "follow_procedure": "procedure",
    "check_cooling": "procedure",
    "check_power": "procedure",
    "contact_support": "support",
    "ask_driver": "unknown",
    "find_out": "unknown",
}

#: Until these are done, nothing can run on the card, or be trusted to end well. What the driver calls "drain and reset"
#: is not among them: the work that is there may, and shall, go on to its end.
FATAL: Final[frozenset[FaultAction]] = frozenset(
    {"reset_gpu", "reset_bus", "reboot_host", "restart_vm", "drain_p2p", "recover_imex"}
)
