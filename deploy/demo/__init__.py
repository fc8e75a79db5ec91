"""The main job on real servers: three sources through every stage into MySQL, ClickHouse and Kafka."""
