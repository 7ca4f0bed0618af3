# SPDX-License-Identifier: Apache-2.0
"""A QMFv2 agent: this host on a message bus. Classes, methods and events come from the contract; no verb is named here.

`nouns` and `schema` derive the classes, `objects` reads what they describe, `calls` and `queries` answer consoles,
`publisher` tells them what changes, and `agent` sits on the bus and hands each message to the right one.
"""
