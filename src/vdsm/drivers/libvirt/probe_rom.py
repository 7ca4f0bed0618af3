# SPDX-License-Identifier: Apache-2.0
"""A test guest of 64 KiB: does on a bare processor what a kernel does first, and says so on the serial port.

Through protected into long mode, with paging; takes a page fault and returns from it; counts to 32 million. The last
is for virtual processors that get there by emulating each instruction (seen: 1 million a second; QEMU's translator
does 460 million): a Linux kernel "boots" on them for minutes without a word.
"""

from __future__ import annotations

WORD = b"kernel mode works\r\n"
SIZE = 0x10000
_RESET = 0xFFF0  # where a processor begins, 16 bytes below the end of the ROM
_WORD_AT = 0x128

_LISTING = """
; real mode, at the processor's first instruction
000 fa                     cli
001 fc                     cld
002 2e660f01161801         lgdtl %cs:0x118
009 0f20c0                 mov %cr0,%eax
00c 0c01                   or $0x1,%al
00e 0f22c0                 mov %eax,%cr0
011 66ea19000f000800       ljmpl $0x8,$0xf0019
; protected mode
019 b810000000             mov $0x10,%eax
01e 8ed8                   mov %eax,%ds
020 8ec0                   mov %eax,%es
022 8ed0                   mov %eax,%ss
024 bc00700000             mov $0x7000,%esp
029 bf00000100             mov $0x10000,%edi
02e 31c0                   xor %eax,%eax
030 b900180000             mov $0x1800,%ecx
035 f3ab                   rep stos %eax,%es:(%edi)
037 c7050000010003100100   movl $0x11003,0x10000
041 c7050010010003200100   movl $0x12003,0x11000
04b c7050020010083000000   movl $0x83,0x12000
; the page fault's gate, 14
055 b8e1000f00             mov $0xf00e1,%eax
05a bfe0400100             mov $0x140e0,%edi
05f 668907                 mov %ax,(%edi)
062 c747021800008e         movl $0x8e000018,0x2(%edi)
069 c1e810                 shr $0x10,%eax
06c 66894706               mov %ax,0x6(%edi)
070 b820000000             mov $0x20,%eax
075 0f22e0                 mov %eax,%cr4
078 b800000100             mov $0x10000,%eax
07d 0f22d8                 mov %eax,%cr3
080 b9800000c0             mov $0xc0000080,%ecx
085 0f32                   rdmsr
087 0d00010000             or $0x100,%eax
08c 0f30                   wrmsr
08e 0f20c0                 mov %cr0,%eax
091 0d00000080             or $0x80000000,%eax
096 0f22c0                 mov %eax,%cr0
099 eaa0000f001800         ljmp $0x18,$0xf00a0
; long mode
0a0 0f011c251e010f00       lidt 0xf011e
; through a page that the fault handler puts there
0a8 b8214d4456             mov $0x56444d21,%eax
0ad 89042500800000         mov %eax,0x8000
0b4 39042500800040         cmp %eax,0x40008000
0bb 7521                   jne 0xde
; at privilege level 0
0bd 668cc8                 mov %cs,%ax
0c0 a803                   test $0x3,%al
0c2 751a                   jne 0xde
; 32 million turns
0c4 b900000002             mov $0x2000000,%ecx
0c9 ffc9                   dec %ecx
0cb 75fc                   jne 0xc9
; say so on the serial port
0cd baf8030000             mov $0x3f8,%edx
0d2 be28010f00             mov $0xf0128,%esi
0d7 b913000000             mov $0x13,%ecx
0dc f36e                   rep outsb %ds:(%rsi),(%dx)
0de f4                     hlt
0df ebfd                   jmp 0xde
; on a page fault: map the second gigabyte onto the first, go on
0e1 4883c408               add $0x8,%rsp
0e5 c704250810010003200100 movl $0x12003,0x11008
0f0 48cf                   iretq
0f2 8db400006690
; descriptors: none, code 32, data, code 64; marked as accessed, since ROM cannot be marked later
0f8 0000000000000000
100 ffff0000009bcf00
108 ffff00000093cf00
110 ffff0000009baf00
; where they are
118 1f00f8000f00
; where the gates are
11e ff000040010000000000
"""
_JUMP_TO_START = "ea000000f0"  # ljmp $0xf000,$0


def image() -> bytes:
    """The ROM. It is loaded at 0xf0000, and once more just below 4 GiB."""
    rom = bytearray(SIZE)
    for line in _LISTING.strip().splitlines():
        if not line.startswith(";"):
            at, code, *_ = line.split()
            _put(rom, int(at, 16), bytes.fromhex(code))
    _put(rom, _WORD_AT, WORD)
    _put(rom, _RESET, bytes.fromhex(_JUMP_TO_START))
    return bytes(rom)


def _put(rom: bytearray, at: int, data: bytes) -> None:
    rom[at : at + len(data)] = data
