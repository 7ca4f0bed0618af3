# SPDX-License-Identifier: Apache-2.0
"""The simulated host: a plausible server of two cells."""

from __future__ import annotations

from vdsm.core.ports.hypervisor import CpuPlace, HypervisorFacts, NumaCell

_CORES_PER_CELL = 4


def _cell(number: int) -> NumaCell:
    first = number * _CORES_PER_CELL
    return NumaCell(
        id=number,
        memory_kib=8 * 1024 * 1024,
        cpus=[CpuPlace(cpu_id=first + n, socket_id=number, core_id=n) for n in range(_CORES_PER_CELL)],
        distances=[10 if other == number else 20 for other in range(2)],
    )


FACTS = HypervisorFacts(
    libvirt_version="9.0.0",
    qemu_version="7.2.22",
    arch="x86_64",
    kvm=True,
    kvm_reason="",
    machine_types=["pc-i440fx-2.12", "pc-i440fx-7.2", "pc", "pc-q35-4.1", "pc-q35-7.2", "q35"],
    default_machine="pc",
    cpu_model="EPYC-Rome",
    cpu_vendor="AMD",
    cpu_features=["aes", "apic", "avx", "avx2", "fpu", "lm", "nx", "rdrand", "sse4.2", "svm", "syscall", "x2apic"],
    custom_cpu_models=["EPYC", "EPYC-Rome", "Opteron_G3", "qemu64"],
    firmware=["bios", "uefi"],
    uefi_code="/usr/share/OVMF/OVMF_CODE_4M.fd",
    uefi_vars="/usr/share/OVMF/OVMF_VARS_4M.fd",
    numa_cells=[_cell(0), _cell(1)],
)
