# SPDX-License-Identifier: Apache-2.0
"""What tests of the whole need: daemons of their own, a libvirtd of their own, a Linux guest."""
