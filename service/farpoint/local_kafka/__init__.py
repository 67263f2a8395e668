"""Apache Kafka on this machine, without Docker and without a Java of the system."""
