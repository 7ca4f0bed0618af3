# SPDX-License-Identifier: Apache-2.0
"""Texts of /proc and /sys -> values, on texts real kernels wrote and on nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdsm.core.ports.machine import CpuTimes
from vdsm.drivers.files import clean, to_float, to_int
from vdsm.drivers.linux import proc

CPUINFO = """\
processor	: 0
vendor_id	: AuthenticAMD
model		: 17
model name	: AMD EPYC 7402 24-Core Processor
cpu MHz		: 2794.748
flags		: fpu vme nx svm constant_tsc nonstop_tsc
bugs		: sysret_ss_attrs
bogomips	: 5589.49

processor	: 1
model name	: something else
flags		: fpu
"""
CPUINFO_ARM = """\
processor	: 0
BogoMIPS	: 50.00
Features	: fp asimd evtstrm aes
CPU implementer	: 0x41
"""
STAT = """\
cpu  3440 10 2760 326464 404 5 63 38 7 1
cpu0 1093 0 1180 164214 13 0 10 19 0 0
cpu1 2346 10 1579 162250 390 5 52 19 7 1
intr 174081 0 0
btime 1795372625
procs_running 1
"""
OS_RELEASE = """\
PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"
NAME='Debian GNU/Linux'
# a comment
VERSION_ID="12"
ID=debian
ODD="a \\"quoted\\" \\$word"
lower=ignored
BROKEN
"""


def test_cpuinfo() -> None:
    cpu = proc.parse_cpuinfo(CPUINFO)
    assert cpu.model == "AMD EPYC 7402 24-Core Processor"
    assert cpu.flags == ["fpu", "vme", "nx", "svm", "constant_tsc", "nonstop_tsc"]
    assert (cpu.mhz, cpu.bogomips) == (2794.748, 5589.49)


def test_cpuinfo_of_arm_has_features_and_no_speed() -> None:
    cpu = proc.parse_cpuinfo(CPUINFO_ARM)
    assert (cpu.flags, cpu.mhz, cpu.model) == (["fp", "asimd", "evtstrm", "aes"], 0.0, "")


def test_stat_counts_guest_time_once_and_steal_as_system() -> None:
    stat = proc.parse_stat(STAT, 100)
    assert stat.total == CpuTimes(user=34.50, system=(2760 + 5 + 63 + 38) / 100, idle=(326464 + 404) / 100)
    assert sorted(stat.cpus) == [0, 1]
    assert stat.cpus[1].user == 23.56
    assert stat.boot_time == 1795372625


def test_stat_of_an_old_kernel_with_fewer_fields() -> None:
    assert proc.parse_stat("cpu 100 0 200 300\n", 100).total == CpuTimes(user=1, system=2, idle=3)


def test_thread_cpu_behind_a_hostile_command() -> None:
    text = "37 (a ) R (b)) S 2 0 0 0 -1 2097216 0 0 0 0 150 250 0 0 20 0 1 0 10 0 0"
    assert proc.parse_thread_cpu(text, 100) == 4.0


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0-3,8\n", [0, 1, 2, 3, 8]),
        ("0\n", [0]),
        ("\n", []),
        ("3-1,2", [2]),
        ("0-99999999999", []),
        ("1,1-2", [1, 2]),
        ("x,-1,4", [4]),
    ],
)
def test_cpu_lists(text: str, cpus: list[int]) -> None:
    assert proc.parse_cpu_list(text) == cpus


def test_tables() -> None:
    assert proc.parse_table("MemTotal:  100 kB\nHugePages_Free:   3\nBad: x\nNone:\n: 5 kB\n") == {
        "MemTotal": 100, "HugePages_Free": 3, "": 5,
    }  # fmt: skip
    assert proc.parse_table("Node 0 MemTotal:  100 kB\nNode 0 MemFree: 40 kB\n") == {"MemTotal": 100, "MemFree": 40}


def test_os_release() -> None:
    words = proc.parse_os_release(OS_RELEASE)
    assert words["PRETTY_NAME"] == "Debian GNU/Linux 12 (bookworm)"
    assert (words["NAME"], words["VERSION_ID"], words["ID"]) == ("Debian GNU/Linux", "12", "debian")
    assert words["ODD"] == 'a "quoted" $word'
    assert "lower" not in words


def test_os_release_without_terminal_commands() -> None:
    assert proc.parse_os_release('PRETTY_NAME="\x1b[31mred\x07\u202e"\n') == {"PRETTY_NAME": "[31mred"}


def test_choice() -> None:
    assert proc.parse_choice("always [madvise] never\n") == "madvise"
    assert proc.parse_choice("") == ""


def test_initiator() -> None:
    text = "## comment\nGenerateName=yes\nInitiatorName=iqn.1993-08.org.debian:01:abc\n"
    assert proc.parse_initiator(text) == "iqn.1993-08.org.debian:01:abc"
    assert proc.parse_initiator("GenerateName=yes\n") == ""


@pytest.mark.parametrize(
    ("text", "on"),
    [
        ("vnc_tls = 1\n", True),
        ("a = 2\n  vnc_tls=1 # why\n", True),
        ("#vnc_tls = 1\n", False),
        ("vnc_tls = 0\n", False),
        ("vnc_tls = 10\n", False),
        ("vnc_tls_x509_verify = 1\n", False),
    ],
)
def test_vnc_tls(text: str, on: bool) -> None:
    assert proc.has_vnc_tls(text) is on


def test_wwn() -> None:
    assert proc.parse_wwn("0x500143802426BAF4\n") == "500143802426baf4"
    assert proc.parse_wwn("0x5001\n") == ""


def test_packages_that_are_installed() -> None:
    text = "libvirt-daemon 9.0.0-4+deb12u2 installed\nqemu-utils  unknown\nold 1.0 config-files\n"
    assert proc.parse_packages(text) == {"libvirt-daemon": "9.0.0-4+deb12u2"}


@given(st.text())
def test_no_text_raises(text: str) -> None:
    proc.parse_cpuinfo(text)
    proc.parse_stat(text, 100)
    proc.parse_stat("cpu " + text, 100)
    proc.parse_thread_cpu(text, 100)
    proc.parse_cpu_list(text)
    proc.parse_table(text)
    proc.parse_os_release(text)
    proc.parse_os_release("A=" + text)
    proc.parse_initiator(text)
    proc.parse_packages(text)
    proc.parse_wwn(text)
    proc.parse_choice(text)


@given(st.text())
def test_clean_text_is_safe_to_show(text: str) -> None:
    shown = clean(text)
    assert shown.isprintable()
    assert len(shown) <= 256
    assert clean(shown) == shown


@given(st.text())
def test_numbers_are_plain_ones(text: str) -> None:
    for number in (to_int(text), to_float(text)):
        assert number is None or abs(number) < 10**21


@pytest.mark.parametrize("text", ["nan", "inf", "1e5", "0x10", "1_0", "٣", "--1", "9" * 30])
def test_odd_numbers_are_none(text: str) -> None:
    assert to_int(text) is None
    assert to_float(text) is None
