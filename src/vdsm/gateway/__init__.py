# SPDX-License-Identifier: Apache-2.0
"""`vdsm-gateway`: the doors of a daemon, served for a host that is reached over a message bus."""
