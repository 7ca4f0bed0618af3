# SPDX-License-Identifier: Apache-2.0
"""QMFv2, the management protocol of AMQP buses: messages <-> what they mean. Nothing here opens or waits.

`model` holds what is said, `reading.parse` makes it from any message, `writing` makes messages of it.
"""
