"""Writes a target topic as one message per row to a Kafka cluster."""
