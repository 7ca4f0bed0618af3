# SPDX-License-Identifier: Apache-2.0
"""The way to a message broker: AMQP 1.0 connections that mend themselves, and how each broker wants to be addressed."""
