"""The one door to confluent-kafka: producing, reading, topics, the control topic."""
