# SPDX-License-Identifier: Apache-2.0
"""What the core needs from the world, one small protocol per capability. Drivers implement them."""
