"""Farpoint's functional core: arrays in, arrays out. Knows no Kafka, no settings, no clock."""
