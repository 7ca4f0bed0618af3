# SPDX-License-Identifier: Apache-2.0
"""Storage: domains of files, the pools they make up, and the disks in them, in the published on-disk format."""
