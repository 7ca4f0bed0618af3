# SPDX-License-Identifier: Apache-2.0
"""Firmware of 64 KiB that is a guest by itself: greets on the serial port, echoes, and obeys the power button.

It starts in half a second and sleeps between ticks of the timer, where a real Linux takes seconds and 100 MiB.
"""

from __future__ import annotations

from pathlib import Path

BANNER = b"\r\nROM guest on ttyS0\r\nlogin: "
_SIZE = 0x10000
_RESET = 0xFFF0  # where a processor begins
_BANNER_AT = 0xEE
_JUMP_TO_START = "ea000000f0"  # ljmp $0xf000,$0

_LISTING = """
; what is not set at the processor's first instruction; timer interrupt to 0xca
000 fa                     cli
001 fc                     cld
002 31c0                   xor %ax,%ax
004 8ed8                   mov %ax,%ds
006 8ed0                   mov %ax,%ss
008 bc0070                 mov $0x7000,%sp
00b c7062000ca00           movw $0xca,0x20
011 c706220000f0           movw $0xf000,0x22
; through protected mode for addresses above 1 MiB: let the local APIC pass the timer's interrupts on
017 2e660f0116e800         lgdtl %cs:0xe8
01e 0f20c0                 mov %cr0,%eax
021 0c01                   or $0x1,%al
023 0f22c0                 mov %eax,%cr0
026 eb00                   jmp 0x28
028 bb0800                 mov $0x8,%bx
02b 8edb                   mov %bx,%ds
02d 24fe                   and $0xfe,%al
02f 0f22c0                 mov %eax,%cr0
032 eb00                   jmp 0x34
034 31db                   xor %bx,%bx
036 8edb                   mov %bx,%ds
038 66bb5003e0fe           mov $0xfee00350,%ebx
03e 6766c70300070000       movl $0x700,(%ebx)
; interrupt controller: only the timer; 100 ticks a second
046 b011                   mov $0x11,%al
048 e620                   out %al,$0x20
04a b008                   mov $0x8,%al
04c e621                   out %al,$0x21
04e b004                   mov $0x4,%al
050 e621                   out %al,$0x21
052 b001                   mov $0x1,%al
054 e621                   out %al,$0x21
056 b0fe                   mov $0xfe,%al
058 e621                   out %al,$0x21
05a b034                   mov $0x34,%al
05c e643                   out %al,$0x43
05e b09c                   mov $0x9c,%al
060 e640                   out %al,$0x40
062 b02e                   mov $0x2e,%al
064 e640                   out %al,$0x40
; ACPI of the machine type pc: its ports at 0x600, power button enabled
066 baf80c                 mov $0xcf8,%dx
069 66b8400b0080           mov $0x80000b40,%eax
06f 66ef                   out %eax,(%dx)
071 bafc0c                 mov $0xcfc,%dx
074 66b801060000           mov $0x601,%eax
07a 66ef                   out %eax,(%dx)
07c baf80c                 mov $0xcf8,%dx
07f 66b8800b0080           mov $0x80000b80,%eax
085 66ef                   out %eax,(%dx)
087 bafc0c                 mov $0xcfc,%dx
08a b001                   mov $0x1,%al
08c ee                     out %al,(%dx)
08d ba0206                 mov $0x602,%dx
090 b80001                 mov $0x100,%ax
093 ef                     out %ax,(%dx)
; serial port: the banner
094 bafa03                 mov $0x3fa,%dx
097 b001                   mov $0x1,%al
099 ee                     out %al,(%dx)
09a baf803                 mov $0x3f8,%dx
09d beee00                 mov $0xee,%si
0a0 2eac                   lods %cs:(%si),%al
0a2 84c0                   test %al,%al
0a4 7403                   je 0xa9
0a6 ee                     out %al,(%dx)
0a7 ebf7                   jmp 0xa0
; at each tick: power off if the button was pressed, echo what was typed
0a9 fb                     sti
0aa f4                     hlt
0ab ba0006                 mov $0x600,%dx
0ae ed                     in (%dx),%ax
0af f6c401                 test $0x1,%ah
0b2 7407                   je 0xbb
0b4 ba0406                 mov $0x604,%dx
0b7 b80020                 mov $0x2000,%ax
0ba ef                     out %ax,(%dx)
0bb bafd03                 mov $0x3fd,%dx
0be ec                     in (%dx),%al
0bf a801                   test $0x1,%al
0c1 74e6                   je 0xa9
0c3 baf803                 mov $0x3f8,%dx
0c6 ec                     in (%dx),%al
0c7 ee                     out %al,(%dx)
0c8 ebf1                   jmp 0xbb
; timer interrupt
0ca 50                     push %ax
0cb b020                   mov $0x20,%al
0cd e620                   out %al,$0x20
0cf 58                     pop %ax
0d0 cf                     iret
; descriptors: none, data of 4 GiB
0d8 0000000000000000
0e0 ffff00000093cf00
; where they are
0e8 0f00d8000f00
"""


def talking_rom(directory: Path) -> Path:
    """The file, readable by QEMU. For the machine type pc."""
    rom = bytearray(_SIZE)
    pieces = [line.split()[:2] for line in _LISTING.strip().splitlines() if not line.startswith(";")]
    for at, code in [*((int(at, 16), code) for at, code in pieces), (_RESET, _JUMP_TO_START)]:
        rom[at : at + len(code) // 2] = bytes.fromhex(code)
    rom[_BANNER_AT : _BANNER_AT + len(BANNER)] = BANNER
    file = directory / "talking.rom"
    file.write_bytes(rom)
    file.chmod(0o644)
    return file
